//! The smiles of one session that are on their way to the log and back.
//!
//! Owns the matching of what was sent with its outcome, and with its publication where that follows. An outcome always
//! comes before the publication ([`crate::log`] sees to it), so a publication answers a frame only when the log has said
//! that this very frame was stored: a repeat of a smile is told apart from the smile itself.

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
    /// The log has said that it is stored; its publication will answer the frame.
    stored: bool,
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
        self.sent.push_back(Sent { id, named, admitted_at, ticket, stored: false });
    }

    /// The log stored the smile of this ticket.
    pub(super) fn stored(&mut self, ticket: Ticket) {
        if let Some(index) = self.index(ticket) {
            self.sent[index].stored = true;
        }
    }

    /// The log did not store the smile of this ticket, or had it already: the frame to answer.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Sent> {
        self.index(ticket).and_then(|index| self.sent.remove(index))
    }

    /// A smile of this session's user came back from the log: when its frame was admitted, if that was here.
    pub(super) fn published(&mut self, id: &SmileId) -> Option<Instant> {
        let index = self.sent.iter().position(|sent| sent.stored && sent.id == *id)?;
        self.sent.remove(index).map(|sent| sent.admitted_at)
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
    fn a_publication_is_no_answer_to_a_repeat() {
        let mut pending = pending(&["a"]);
        assert!(pending.published(&id("a")).is_none(), "stored by another session of this user");
        assert!(pending.take(1).is_some(), "the log says that it is a duplicate");
        assert!(pending.is_empty());
    }

    #[test]
    fn of_two_with_one_id_each_is_answered_once() {
        let mut pending = pending(&["a", "a"]);
        pending.stored(1);
        assert!(pending.take(2).is_some(), "the duplicate");
        assert!(pending.published(&id("a")).is_some(), "the first");
        assert!(pending.is_empty());
    }

    #[test]
    fn of_two_with_one_id_the_second_may_be_the_one_stored() {
        let mut pending = pending(&["a", "a"]);
        assert!(pending.take(1).is_some(), "refused");
        pending.stored(2);
        assert!(pending.published(&id("a")).is_some());
        assert!(pending.is_empty());
    }

    #[test]
    fn there_is_room_for_half_an_outbox() {
        let full: Vec<String> = (0..IN_FLIGHT).map(|n| n.to_string()).collect();
        let mut pending = pending(&full.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(!pending.has_room());
        assert!(pending.take(5).is_some());
        assert!(pending.has_room());
    }
}
