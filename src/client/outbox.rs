//! The smiles of one user that are neither known to be in the log nor permanently refused, in order, and the time at
//! which each may be sent next.

use std::collections::VecDeque;
use std::time::Duration;

use smol_str::SmolStr;

use crate::model::{SmileId, UserName};

/// The maximum number of unanswered smiles of one client.
pub const MAX_UNANSWERED: usize = 16;

/// After a lost connection, the smiles in flight are sent again in the order in which they were offered.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    smiles: VecDeque<Unanswered>,
}

#[derive(Debug)]
struct Unanswered {
    id: SmileId,
    to: UserName,
    smile: SmolStr,
    refusals: u32,
    /// Whether the last transmission was refused. If so, only an earlier transmission without an answer can have stored
    /// the smile.
    refused: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The smile may be written from this time on, measured from the start of the client.
    Due(Duration),
    /// Written to the current connection, or about to be.
    InFlight,
}

impl Outbox {
    pub(super) fn offer(&mut self, id: SmileId, to: UserName, smile: &str) -> bool {
        let room = self.smiles.len() < MAX_UNANSWERED;
        if room {
            let state = State::Due(Duration::ZERO);
            self.smiles.push_back(Unanswered { id, to, smile: smile.into(), refusals: 0, refused: false, state });
        }
        room
    }

    /// `now` is measured from the start of the client.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<(SmileId, UserName, SmolStr)> {
        let smile = self.smiles.iter_mut().find(|smile| matches!(smile.state, State::Due(at) if at <= now))?;
        smile.state = State::InFlight;
        smile.refused = false;
        Some((smile.id.clone(), smile.to.clone(), smile.smile.clone()))
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = |smile: &Unanswered| match smile.state {
            State::Due(at) => Some(at),
            State::InFlight => None,
        };
        self.smiles.iter().filter_map(due).min()
    }

    /// Removes a smile that is in the log or permanently refused.
    pub(super) fn settle(&mut self, id: &SmileId) {
        self.smiles.retain(|smile| smile.id != *id);
    }

    pub(super) fn refusals(&self, id: &SmileId) -> u32 {
        self.smiles.iter().find(|smile| smile.id == *id).map_or(0, |smile| smile.refusals)
    }

    /// Records a temporary refusal: the smile may be written again from `at` on.
    pub(super) fn refuse(&mut self, id: &SmileId, at: Duration) {
        if let Some(smile) = self.smiles.iter_mut().find(|smile| smile.id == *id) {
            smile.refusals += 1;
            smile.refused = true;
            smile.state = State::Due(at);
        }
    }

    /// Smiles in flight may or may not be in the log, so they are written again.
    pub(super) fn lose_connection(&mut self) {
        for smile in self.smiles.iter_mut().filter(|smile| smile.state == State::InFlight) {
            smile.state = State::Due(Duration::ZERO);
        }
    }

    pub(super) fn give_up_refused(&mut self) {
        self.smiles.retain(|smile| !smile.refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn id(number: usize) -> SmileId {
        SmileId::parse(&number.to_string()).unwrap()
    }

    fn offer(outbox: &mut Outbox, number: usize) -> bool {
        outbox.offer(id(number), UserName::new("bruno"), "🙂")
    }

    fn written(outbox: &mut Outbox, now: Duration) -> Vec<usize> {
        std::iter::from_fn(|| outbox.take_due(now)).map(|(id, ..)| id.as_str().parse().unwrap()).collect()
    }

    #[test]
    fn smiles_are_written_in_order_and_once_per_connection() {
        let mut outbox = Outbox::default();
        assert!((0..4).all(|number| offer(&mut outbox, number)));
        assert_eq!(written(&mut outbox, Duration::ZERO), [0, 1, 2, 3]);
        assert_eq!(written(&mut outbox, SECOND), [0; 0]);
        outbox.settle(&id(1));
        outbox.lose_connection();
        assert!(offer(&mut outbox, 4));
        assert_eq!(written(&mut outbox, SECOND), [0, 2, 3, 4]);
    }

    #[test]
    fn a_refused_smile_waits_for_its_time() {
        let mut outbox = Outbox::default();
        assert!(offer(&mut outbox, 0) && offer(&mut outbox, 1));
        written(&mut outbox, Duration::ZERO);
        outbox.refuse(&id(0), SECOND);
        assert_eq!(outbox.refusals(&id(0)), 1);
        assert_eq!(outbox.next_due(), Some(SECOND));
        outbox.lose_connection();
        assert_eq!(written(&mut outbox, SECOND / 2), [1], "a lost connection cancelled the wait after a refusal");
        assert_eq!(written(&mut outbox, SECOND), [0]);
        assert_eq!(outbox.next_due(), None);
    }

    #[test]
    fn unanswered_smiles_are_bounded() {
        let mut outbox = Outbox::default();
        assert!((0..MAX_UNANSWERED).all(|number| offer(&mut outbox, number)));
        assert!(!offer(&mut outbox, MAX_UNANSWERED));
        outbox.settle(&id(0));
        assert!(offer(&mut outbox, MAX_UNANSWERED));
    }

    #[test]
    fn only_refused_smiles_are_given_up() {
        let mut outbox = Outbox::default();
        assert!((0..3).all(|number| offer(&mut outbox, number)));
        written(&mut outbox, Duration::ZERO);
        outbox.refuse(&id(1), SECOND);
        outbox.refuse(&id(2), SECOND / 2);
        assert_eq!(written(&mut outbox, SECOND / 2), [2]);
        outbox.give_up_refused();
        assert_eq!(written(&mut outbox, SECOND), [0; 0]);
        outbox.lose_connection();
        assert_eq!(written(&mut outbox, SECOND), [0, 2], "a smile whose outcome is unknown was given up");
    }
}
