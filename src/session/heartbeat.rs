//! The ping schedule of a session. Reads no clock: callers pass the time.

use std::time::{Duration, Instant};

use crate::config::SessionTimes;

/// What to do when a deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    NoPong,
}

/// How late a session may notice an overdue pong. A session that notices it even later was blocked in a write or in a
/// read from the store, or the whole process stalled.
const STALL: Duration = Duration::from_secs(1);

pub(super) struct Heartbeat {
    times: SessionTimes,
    /// When to call [`Heartbeat::deadline_passed`].
    pub(super) deadline: Instant,
    /// When the unanswered ping was sent; `None` if no ping is unanswered.
    pinged_at: Option<Instant>,
}

impl Heartbeat {
    /// Randomizes the first interval, so that sessions opened together do not ping together.
    pub(super) fn new(times: SessionTimes, now: Instant) -> Self {
        let first = times.ping_interval.mul_f64(rand::random_range(0.5..=1.0));
        Self { times, deadline: now + first, pinged_at: None }
    }

    /// `None` before the deadline, and when the deadline moves because the session does not read from its socket
    /// (`reads` is `false`) or has stalled.
    pub(super) fn deadline_passed(&mut self, now: Instant, reads: bool) -> Option<Due> {
        if now < self.deadline {
            return None;
        }
        if self.pinged_at.is_none() {
            self.pinged_at = Some(now);
            self.deadline = now + self.times.pong_timeout;
            return Some(Due::Ping);
        }
        // The session may have read nothing since the ping, so the pong may still be in the socket's buffer.
        if !reads || now > self.deadline + STALL {
            self.deadline = now + self.times.pong_timeout;
            return None;
        }
        Some(Due::NoPong)
    }

    /// Records a pong: the next ping is due one interval after the last ping, or immediately if that time has passed.
    /// Does nothing if no ping is unanswered.
    pub(super) fn pong(&mut self, now: Instant) {
        if let Some(pinged_at) = self.pinged_at.take() {
            self.deadline = (pinged_at + self.times.ping_interval).max(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_overdue_pong_is_reported() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SessionTimes::default(), start);
        let first = heartbeat.deadline;
        assert!((start + SECOND * 12..=start + SECOND * 25).contains(&first));
        assert_eq!(heartbeat.deadline_passed(start + SECOND * 11, true), None);
        assert_eq!(heartbeat.deadline_passed(first, true), Some(Due::Ping));
        assert_eq!(heartbeat.deadline, first + SECOND * 10);

        heartbeat.pong(first + SECOND);
        let second = heartbeat.deadline;
        assert_eq!(second, first + SECOND * 25, "the interval was not measured from ping to ping");
        assert_eq!(heartbeat.deadline_passed(second, true), Some(Due::Ping));
        assert_eq!(heartbeat.deadline_passed(second + SECOND * 10, true), Some(Due::NoPong));
    }

    #[test]
    fn a_stalled_server_extends_the_pong_timeout() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SessionTimes::default(), start);
        let first = heartbeat.deadline;
        assert_eq!(heartbeat.deadline_passed(first, true), Some(Due::Ping));
        let woken = first + SECOND * 60;
        assert_eq!(heartbeat.deadline_passed(woken, true), None);
        assert_eq!(heartbeat.deadline_passed(woken + SECOND * 10, true), Some(Due::NoPong));
    }

    #[test]
    fn an_unsolicited_pong_changes_nothing() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::new(SessionTimes::default(), start);
        let first = heartbeat.deadline;
        heartbeat.pong(start);
        assert_eq!(heartbeat.deadline, first);
    }
}
