//! The record of one smile, from the moment its user sent it.

use std::time::Duration;

use super::stream::Place;
use crate::model::Offset;

#[derive(Clone, Debug)]
pub(super) struct SentSmile {
    /// The planned time of its beat.
    pub offered_at: Duration,
    /// Its offset in the log, once any session has received it in a smile frame or an ack.
    pub offset: Option<Offset>,
    pub outcome: Outcome,
    /// Whether it was written and has not been answered since.
    pub in_flight: bool,
    /// Whether it reached the receiver's seat.
    pub delivered: bool,
    /// The place of its last transmission.
    written: Option<Place>,
    /// The earlier transmissions that were never answered. One of them may have stored the smile.
    earlier: Earlier,
    /// Whether the last transmission was acked as a duplicate. If so, it stored nothing.
    duplicate: bool,
}

/// The transmissions of a smile that were never answered, apart from the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Earlier {
    None,
    One(Place),
    Several,
}

/// What a sender knows about its smile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has no final answer yet.
    Open,
    /// It is in the log.
    Acked,
    /// It was permanently refused.
    Failed,
}

impl SentSmile {
    pub(super) fn new(offered_at: Duration) -> Self {
        Self {
            offered_at,
            offset: None,
            outcome: Outcome::Open,
            in_flight: false,
            delivered: false,
            written: None,
            earlier: Earlier::None,
            duplicate: false,
        }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.outcome == Outcome::Open && self.in_flight
    }

    pub(super) fn written_before(&self) -> bool {
        self.written.is_some()
    }

    pub(super) fn write(&mut self, place: Place) {
        if let Some(last) = self.written.filter(|_| self.in_flight) {
            self.earlier = if self.earlier == Earlier::None { Earlier::One(last) } else { Earlier::Several };
        }
        self.in_flight = true;
        self.written = Some(place);
    }

    /// Records that the last transmission was acked as a duplicate. Returns whether an earlier one can have stored the
    /// smile.
    pub(super) fn ack_as_duplicate(&mut self) -> bool {
        self.duplicate = true;
        !self.written_before() || self.earlier != Earlier::None
    }

    /// For a smile without an ack: whether every transmission was answered with an error, so that none of them stored
    /// the smile.
    pub(super) fn was_never_stored(&self) -> bool {
        self.written_before() && self.earlier == Earlier::None && !self.in_flight
    }

    /// For a smile in the log: the place at which it was admitted; `None` if it was never sent, or if more than one
    /// transmission may have stored it. A transmission that was answered with an error or acked as a duplicate stored
    /// nothing.
    pub(super) fn admitted_at(&self) -> Option<Place> {
        match self.earlier {
            Earlier::None => self.written,
            Earlier::One(place) => Some(place).filter(|_| self.duplicate),
            Earlier::Several => None,
        }
    }
}
