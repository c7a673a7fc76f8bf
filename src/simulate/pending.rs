//! The smiles of one user that have neither an ack nor a final error yet.
//!
//! Owns their order and when each may be written (again). Must not know sockets, clocks or the contents of a smile.

use std::collections::VecDeque;
use std::time::Duration;

use super::plan::Beat;

/// How many smiles of one user may wait for their ack; past it, beats are skipped.
pub(super) const MOST_PENDING: usize = 16;

/// Unanswered smiles in the order they were first sent, so that they are sent again in that order.
#[derive(Debug, Default)]
pub(super) struct Pending {
    smiles: VecDeque<Unanswered>,
}

#[derive(Debug)]
struct Unanswered {
    beat: Beat,
    refusals: u32,
    /// Whether a refusal is the last that was heard of it: then it is surely not in the log.
    refused: bool,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// May be written from this moment on.
    Due(Duration),
    /// Written into the connection that is open now.
    InFlight,
}

impl Pending {
    /// Takes a new smile, unless too many are unanswered.
    pub(super) fn offer(&mut self, beat: Beat) -> bool {
        let room = self.smiles.len() < MOST_PENDING;
        if room {
            let state = State::Due(Duration::ZERO);
            self.smiles.push_back(Unanswered { beat, refusals: 0, refused: false, state });
        }
        room
    }

    /// The next smile to write now; it counts as in flight from here on.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<Beat> {
        let smile = self.smiles.iter_mut().find(|smile| matches!(smile.state, State::Due(at) if at <= now))?;
        smile.state = State::InFlight;
        smile.refused = false;
        Some(smile.beat)
    }

    /// When the next smile may be written.
    #[must_use]
    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = |smile: &Unanswered| match smile.state {
            State::Due(at) => Some(at),
            State::InFlight => None,
        };
        self.smiles.iter().filter_map(due).min()
    }

    /// A smile is in the log, or refused for good.
    pub(super) fn settle(&mut self, beat: Beat) {
        self.smiles.retain(|smile| smile.beat != beat);
    }

    /// How often a smile was refused for the time being.
    #[must_use]
    pub(super) fn refusals(&self, beat: Beat) -> u32 {
        self.smiles.iter().find(|smile| smile.beat == beat).map_or(0, |smile| smile.refusals)
    }

    /// A smile was refused for the time being: it may be written again at `at`.
    pub(super) fn refuse(&mut self, beat: Beat, at: Duration) {
        if let Some(smile) = self.smiles.iter_mut().find(|smile| smile.beat == beat) {
            smile.refusals += 1;
            smile.refused = true;
            smile.state = State::Due(at);
        }
    }

    /// The connection is gone: what was in flight may or may not be in the log, and is written again.
    pub(super) fn lose_connection(&mut self) {
        for smile in self.smiles.iter_mut().filter(|smile| smile.state == State::InFlight) {
            smile.state = State::Due(Duration::ZERO);
        }
    }

    /// Forgets the smiles that were refused and not written since: they are not in the log, and are not sent again.
    pub(super) fn give_up_refused(&mut self) {
        self.smiles.retain(|smile| !smile.refused);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn beat(number: usize) -> Beat {
        Beat { conversation: 0, number }
    }

    fn written(pending: &mut Pending, now: Duration) -> Vec<usize> {
        std::iter::from_fn(|| pending.take_due(now)).map(|beat| beat.number).collect()
    }

    #[test]
    fn smiles_are_written_once_and_again_in_order_after_a_loss() {
        let mut pending = Pending::default();
        assert!((0..4).all(|number| pending.offer(beat(number))));
        assert_eq!(written(&mut pending, Duration::ZERO), [0, 1, 2, 3]);
        assert_eq!(written(&mut pending, SECOND), [0; 0]);
        pending.settle(beat(1));
        pending.lose_connection();
        assert!(pending.offer(beat(4)));
        assert_eq!(written(&mut pending, SECOND), [0, 2, 3, 4]);
    }

    #[test]
    fn a_refused_smile_waits_for_its_time() {
        let mut pending = Pending::default();
        assert!(pending.offer(beat(0)) && pending.offer(beat(1)));
        written(&mut pending, Duration::ZERO);
        pending.refuse(beat(0), SECOND);
        assert_eq!(pending.refusals(beat(0)), 1);
        assert_eq!(pending.next_due(), Some(SECOND));
        pending.lose_connection();
        assert_eq!(written(&mut pending, SECOND / 2), [1], "a new connection does not make the hint void");
        assert_eq!(written(&mut pending, SECOND), [0]);
        assert_eq!(pending.next_due(), None);
    }

    #[test]
    fn there_is_a_bound() {
        let mut pending = Pending::default();
        assert!((0..MOST_PENDING).all(|number| pending.offer(beat(number))));
        assert!(!pending.offer(beat(MOST_PENDING)));
        pending.settle(beat(0));
        assert!(pending.offer(beat(MOST_PENDING)));
    }

    #[test]
    fn only_refused_smiles_are_given_up() {
        let mut pending = Pending::default();
        assert!((0..3).all(|number| pending.offer(beat(number))));
        written(&mut pending, Duration::ZERO);
        pending.refuse(beat(1), SECOND);
        pending.refuse(beat(2), SECOND / 2);
        assert_eq!(written(&mut pending, SECOND / 2), [2]);
        pending.give_up_refused();
        assert_eq!(written(&mut pending, SECOND), [0; 0]);
        pending.lose_connection();
        assert_eq!(written(&mut pending, SECOND), [0, 2], "what became of these nobody knows yet");
    }
}
