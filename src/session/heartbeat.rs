//! When to ping, and when to give a client up. Pure code that is given the time.

use std::time::{Duration, Instant};

use crate::config::SessionTimes;

/// What a deadline that passed asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Send a ping.
    Ping,
    /// The pong did not come.
    Dead,
}

/// The pings of one session.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    deadline: Instant,
    waits_for_pong: bool,
}

impl Heartbeat {
    /// The first ping comes after a random part of the interval, so that sessions that began together do not ping
    /// together.
    pub(super) fn new(times: SessionTimes, now: Instant) -> Self {
        let first = times.ping_interval.mul_f64(rand::random_range(0.5..=1.0));
        Self {
            interval: times.ping_interval,
            timeout: times.pong_timeout,
            deadline: now + first,
            waits_for_pong: false,
        }
    }

    /// When to ask [`Heartbeat::deadline_passed`].
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What to do now; nothing when the deadline has moved meanwhile.
    pub(super) fn deadline_passed(&mut self, now: Instant) -> Option<Beat> {
        if now < self.deadline {
            return None;
        }
        if self.waits_for_pong {
            return Some(Beat::Dead);
        }
        self.waits_for_pong = true;
        self.deadline = now + self.timeout;
        Some(Beat::Ping)
    }

    /// The client answered.
    pub(super) fn pong(&mut self, now: Instant) {
        if self.waits_for_pong {
            self.waits_for_pong = false;
            self.deadline = now + self.interval.saturating_sub(self.timeout).max(self.interval / 2);
        }
    }

    /// The server did not read for a while: a pong that is owed gets its whole time anew.
    pub(super) fn forgive(&mut self, now: Instant) {
        if self.waits_for_pong {
            self.deadline = now + self.timeout;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pings_are_answered_or_the_client_is_given_up() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SessionTimes::default(), start);
        let first = heartbeat.deadline();
        assert!((start + SECOND * 12..=start + SECOND * 25).contains(&first));
        assert_eq!(heartbeat.deadline_passed(start + SECOND * 11), None);
        assert_eq!(heartbeat.deadline_passed(first), Some(Beat::Ping));
        assert_eq!(heartbeat.deadline(), first + SECOND * 10);

        heartbeat.pong(first + SECOND);
        let second = heartbeat.deadline();
        assert_eq!(heartbeat.deadline_passed(second), Some(Beat::Ping));
        heartbeat.forgive(second + SECOND * 9);
        assert_eq!(heartbeat.deadline_passed(second + SECOND * 10), None);
        assert_eq!(heartbeat.deadline_passed(second + SECOND * 19), Some(Beat::Dead));
    }

    #[test]
    fn a_pong_nobody_asked_for_changes_nothing() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SessionTimes::default(), start);
        let first = heartbeat.deadline();
        heartbeat.pong(start);
        assert_eq!(heartbeat.deadline(), first);
    }
}
