//! The smiles of one session that are on their way to the log and back.
//!
//! A publication with the id of one of them answers it, and so does an outcome. Where a session sends one id twice, each
//! answer is for one of the two frames; which one makes no difference to the client.

use std::collections::VecDeque;
use std::time::Instant;

use crate::model::SmileId;

/// Smiles one session may have in flight. Past it the session is not read.
const IN_FLIGHT: usize = 128;

/// A smile that was given to the log.
#[derive(Debug)]
pub(super) struct Sent {
    /// What its sender calls it.
    pub(super) id: SmileId,
    /// Whether the sender chose that name, so that an error repeats it.
    pub(super) named: bool,
    /// When it was admitted.
    pub(super) admitted_at: Instant,
}

/// The smiles in flight, oldest first. Takes no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Pending {
    sent: VecDeque<Sent>,
}

impl Pending {
    /// Whether another smile may be sent.
    pub(super) fn has_room(&self) -> bool {
        self.sent.len() < IN_FLIGHT
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// A smile was given to the log.
    pub(super) fn sent(&mut self, sent: Sent) {
        self.sent.push_back(sent);
    }

    /// The oldest smile of that id, which is answered with this; `None` when none waits for an answer.
    pub(super) fn take(&mut self, id: &SmileId) -> Option<Sent> {
        let place = self.sent.iter().position(|sent| sent.id == *id)?;
        self.sent.remove(place)
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
        let mut pending = Pending::default();
        for (id, named) in [("a", true), ("b", true), ("a", false)] {
            pending.sent(sent(id, named));
        }
        let mut take = |id: &str| pending.take(&SmileId::parse(id).unwrap()).map(|sent| sent.named);
        assert_eq!(
            [take("a"), take("c"), take("a"), take("a"), take("b")],
            [Some(true), None, Some(false), None, Some(true)]
        );
        assert!(pending.is_empty());
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut pending = Pending::default();
        for number in 0..IN_FLIGHT {
            assert!(pending.has_room());
            pending.sent(sent(&number.to_string(), true));
        }
        assert!(!pending.has_room());
        assert!(pending.take(&SmileId::parse("5").unwrap()).is_some());
        assert!(pending.has_room());
    }
}
