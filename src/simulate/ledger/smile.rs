//! The record of one smile, from the moment its user sent it.

use std::time::Duration;

use super::stream::Place;
use crate::model::Offset;

/// One smile that was sent.
#[derive(Clone, Debug)]
pub(super) struct SentSmile {
    /// When its user sent it.
    pub offered_at: Duration,
    /// Where it stands in the log, once anyone has seen it there.
    pub offset: Option<Offset>,
    /// What its sender knows.
    pub outcome: Outcome,
    /// Whether it was written and not answered since.
    pub in_flight: bool,
    /// Whether it reached the other user.
    pub delivered: bool,
    /// Where it was written last.
    written: Option<Place>,
    /// Whether an earlier transmission stayed unanswered, so that the smile may have been admitted in either session.
    uncertain: bool,
}

/// What the sender knows of its smile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing final.
    Open,
    /// It is in the log.
    Acked,
    /// It is refused for good.
    Failed,
}

impl SentSmile {
    /// A smile that was not written yet.
    pub(super) fn new(offered_at: Duration) -> Self {
        Self {
            offered_at,
            offset: None,
            outcome: Outcome::Open,
            in_flight: false,
            delivered: false,
            written: None,
            uncertain: false,
        }
    }

    /// Whether it was written at all.
    pub(super) fn written_before(&self) -> bool {
        self.written.is_some()
    }

    /// Records a transmission, the first one or a repeat.
    pub(super) fn write(&mut self, place: Place) {
        self.uncertain |= self.in_flight;
        self.in_flight = true;
        self.written = Some(place);
    }

    /// Whether every transmission of it was answered with an error: then none of them stored it.
    pub(super) fn stored_by_no_writing(&self) -> bool {
        self.written_before() && !self.uncertain && !self.in_flight
    }

    /// The only place that can have admitted it, if there is only one: earlier transmissions were answered with errors,
    /// and a smile answered with an error was not stored.
    pub(super) fn admitted_at(&self) -> Option<Place> {
        self.written.filter(|_| !self.uncertain)
    }
}
