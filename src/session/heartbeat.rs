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

/// A deadline that is looked at later than this was overslept: a write was stuck, or the whole process stood still.
const OVERSLEPT: Duration = Duration::from_secs(1);

/// The pings of one session.
#[derive(Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    deadline: Instant,
    /// When the ping went out whose pong is awaited.
    pinged_at: Option<Instant>,
}

impl Heartbeat {
    /// The first ping comes after a random part of the interval, so that sessions that began together do not ping
    /// together.
    pub(super) fn new(times: SessionTimes, now: Instant) -> Self {
        let first = times.ping_interval.mul_f64(rand::random_range(0.5..=1.0));
        Self { interval: times.ping_interval, timeout: times.pong_timeout, deadline: now + first, pinged_at: None }
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
        if self.pinged_at.is_none() {
            self.pinged_at = Some(now);
            self.deadline = now + self.timeout;
            return Some(Beat::Ping);
        }
        // Nothing was read meanwhile, so the pong may be here, unread: that is not the client's fault.
        if now > self.deadline + OVERSLEPT {
            self.forgive(now);
            return None;
        }
        Some(Beat::Dead)
    }

    /// The client answered.
    pub(super) fn pong(&mut self, now: Instant) {
        if let Some(pinged_at) = self.pinged_at.take() {
            self.deadline = (pinged_at + self.interval).max(now);
        }
    }

    /// A pong that is owed gets its whole time anew.
    pub(super) fn forgive(&mut self, now: Instant) {
        self.deadline = now + self.timeout;
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
        assert_eq!(second, first + SECOND * 25, "the interval is from ping to ping");
        assert_eq!(heartbeat.deadline_passed(second), Some(Beat::Ping));
        assert_eq!(heartbeat.deadline_passed(second + SECOND * 10), Some(Beat::Dead));
    }

    #[test]
    fn a_server_that_stood_still_does_not_blame_the_client() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SessionTimes::default(), start);
        let first = heartbeat.deadline();
        assert_eq!(heartbeat.deadline_passed(first), Some(Beat::Ping));
        let woken = first + SECOND * 60;
        assert_eq!(heartbeat.deadline_passed(woken), None);
        assert_eq!(heartbeat.deadline_passed(woken + SECOND * 10), Some(Beat::Dead));
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
