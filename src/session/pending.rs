//! The smiles of one session that are on their way to the log and back.
//!
//! Owns the matching of what was sent with its outcome and its publication, which may come in either order: the outcome
//! tells of one frame, the publication of one place in the log, and each frame is answered once.

use std::collections::VecDeque;
use std::time::Instant;

use crate::hub::{OUTBOX, Ticket};
use crate::model::SmileId;

/// Smiles one session may have in flight. Past it the session is not read. Each holds room in the outbox, of which half
/// must stay for publications.
const IN_FLIGHT: usize = OUTBOX / 2;

/// A smile that was given to the log.
#[derive(Debug)]
pub(super) struct Sent {
    /// What its sender calls it.
    pub(super) id: SmileId,
    /// Whether the sender chose that name, so that an error repeats it.
    pub(super) named: bool,
    /// When it was admitted.
    pub(super) admitted_at: Instant,
    ticket: Ticket,
    /// The log has said that it is stored.
    stored: bool,
    /// Its publication came first and was turned into the ack; only the outcome is still to come.
    answered: bool,
}

/// The smiles in flight, oldest first. Takes no memory while there are none.
#[derive(Debug, Default)]
pub(super) struct Pending {
    sent: VecDeque<Sent>,
    last_ticket: Ticket,
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

    /// A number for the next smile.
    pub(super) fn next_ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// A smile was given to the log.
    pub(super) fn sent(&mut self, ticket: Ticket, id: SmileId, named: bool, admitted_at: Instant) {
        self.sent.push_back(Sent { id, named, admitted_at, ticket, stored: false, answered: false });
    }

    /// The log stored the smile of this ticket.
    pub(super) fn stored(&mut self, ticket: Ticket) {
        if let Some(index) = self.index(ticket) {
            if self.sent[index].answered {
                self.sent.remove(index);
            } else {
                self.sent[index].stored = true;
            }
        }
    }

    /// The log had the smile of this ticket already: the frame to answer, unless its publication answered it.
    pub(super) fn duplicate(&mut self, ticket: Ticket) -> Option<Sent> {
        let index = self.index(ticket)?;
        self.sent.remove(index).filter(|sent| !sent.answered)
    }

    /// The log did not store the smile of this ticket: the frame to answer. If a publication seemed to answer it, that
    /// was for a repeat of it, which has its answer now.
    pub(super) fn refused(&mut self, ticket: Ticket) -> Option<Sent> {
        let index = self.index(ticket)?;
        let refused = self.sent.remove(index)?;
        if !refused.answered {
            return Some(refused);
        }
        let repeat = self.sent.iter().position(|sent| !sent.answered && sent.id == refused.id)?;
        if self.sent[repeat].stored {
            self.sent.remove(repeat);
        } else {
            self.sent[repeat].answered = true;
        }
        Some(refused)
    }

    /// A smile of this session's user came back from the log: when its frame was admitted, if this session waits for it.
    pub(super) fn published(&mut self, id: &SmileId) -> Option<Instant> {
        let waiting = |sent: &Sent| !sent.answered && sent.id == *id;
        // One that is known to be stored is the one that was published; a repeat of it is answered as a duplicate.
        let index = self.sent.iter().position(|sent| waiting(sent) && sent.stored);
        let index = index.or_else(|| self.sent.iter().position(waiting))?;
        let admitted_at = self.sent[index].admitted_at;
        if self.sent[index].stored {
            self.sent.remove(index);
        } else {
            self.sent[index].answered = true;
        }
        Some(admitted_at)
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        self.sent.iter().position(|sent| sent.ticket == ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SmileId {
        SmileId::parse(text).unwrap()
    }

    fn pending(ids: &[&str]) -> Pending {
        let mut pending = Pending::default();
        for text in ids {
            let ticket = pending.next_ticket();
            pending.sent(ticket, id(text), true, Instant::now());
        }
        pending
    }

    #[test]
    fn an_outcome_then_its_publication_is_one_ack() {
        let mut pending = pending(&["a"]);
        pending.stored(1);
        assert!(!pending.is_empty());
        assert!(pending.published(&id("a")).is_some());
        assert!(pending.is_empty());
        assert!(pending.published(&id("a")).is_none());
    }

    #[test]
    fn a_publication_then_its_outcome_is_one_ack() {
        let mut pending = pending(&["a"]);
        assert!(pending.published(&id("a")).is_some());
        assert!(pending.published(&id("a")).is_none(), "answered already");
        pending.stored(1);
        assert!(pending.is_empty());
    }

    #[test]
    fn a_publication_answers_a_repeat_whose_outcome_is_not_known_yet() {
        let mut pending = pending(&["a"]);
        assert!(pending.published(&id("a")).is_some(), "stored by an earlier session, read while catching up");
        assert!(pending.duplicate(1).is_none(), "the frame has its answer");
        assert!(pending.is_empty());
    }

    #[test]
    fn of_two_with_one_id_each_is_answered_once() {
        let mut pending = pending(&["a", "a"]);
        pending.stored(1);
        assert!(pending.duplicate(2).is_some(), "the duplicate");
        assert!(pending.published(&id("a")).is_some(), "the first");
        assert!(pending.is_empty());
    }

    #[test]
    fn a_refusal_after_the_publication_of_a_repeat_leaves_nobody_waiting() {
        for stored_is_known in [false, true] {
            let mut pending = pending(&["a", "a"]);
            assert!(pending.published(&id("a")).is_some(), "read while catching up, taken for the first");
            if stored_is_known {
                pending.stored(2);
            }
            assert!(pending.refused(1).is_some(), "it was the second that was stored");
            pending.stored(2);
            assert!(pending.is_empty());
        }
    }

    #[test]
    fn there_is_room_for_half_an_outbox() {
        let full: Vec<String> = (0..IN_FLIGHT).map(|n| n.to_string()).collect();
        let mut pending = pending(&full.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!pending.has_room());
        assert!(pending.duplicate(5).is_some());
        assert!(pending.has_room());
    }
}
