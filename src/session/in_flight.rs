//! The smiles of a session that wait for an answer from the log.
//!
//! A publication or another entry of the outbox with the same id answers a smile. If a session sends one id twice, each
//! answer goes to one of the two frames; the client cannot tell them apart.

use std::collections::VecDeque;
use std::time::Instant;

use crate::model::SmileId;

/// Smiles that one session may have in flight. At this limit the session stops reading.
const MAX_IN_FLIGHT: usize = 128;

/// A smile submitted to the log.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) id: SmileId,
    /// Whether the client chose the id. Errors repeat only such ids.
    pub(super) named: bool,
    pub(super) admitted_at: Instant,
}

/// The smiles in flight, oldest first. Allocates nothing while empty.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    sent: VecDeque<Sent>,
}

impl InFlight {
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < MAX_IN_FLIGHT
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    pub(super) fn sent(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    /// Removes the oldest smile with this id.
    pub(super) fn take(&mut self, id: &SmileId) -> Option<Sent> {
        let index = self.sent.iter().position(|sent| sent.id == *id)?;
        self.sent.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(id: &str, named: bool) -> Sent {
        Sent { id: SmileId::parse(id).unwrap(), named, admitted_at: Instant::now() }
    }

    #[test]
    fn each_answer_takes_one() {
        let mut in_flight = InFlight::default();
        for (id, named) in [("a", true), ("b", true), ("a", false)] {
            in_flight.sent(sent(id, named));
        }
        let mut take = |id: &str| in_flight.take(&SmileId::parse(id).unwrap()).map(|sent| sent.named);
        assert_eq!(
            [take("a"), take("c"), take("a"), take("a"), take("b")],
            [Some(true), None, Some(false), None, Some(true)]
        );
        assert!(in_flight.is_empty());
    }

    #[test]
    fn in_flight_smiles_are_bounded() {
        let mut in_flight = InFlight::default();
        for number in 0..MAX_IN_FLIGHT {
            assert!(in_flight.has_room());
            in_flight.sent(sent(&number.to_string(), true));
        }
        assert!(!in_flight.has_room());
        assert!(in_flight.take(&SmileId::parse("5").unwrap()).is_some());
        assert!(in_flight.has_room());
    }
}
