//! The number of refused frames after which a session is closed with 1008.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Maximum number of `bad_request` answers in a session. The next one ends the session.
const BAD_REQUESTS: u32 = 100;

/// Maximum number of `rate_limited` answers within [`WINDOW`]. The next one ends the session.
const RATE_LIMITED: usize = 1000;

const WINDOW: Duration = Duration::from_secs(10);

/// Allocates nothing before the first `rate_limited` answer of the session.
#[derive(Default)]
pub(crate) struct FaultBudget {
    bad_requests: u32,
    rate_limited: VecDeque<Instant>,
}

impl FaultBudget {
    /// Counts a `bad_request`; `true` once the budget is exceeded.
    pub(crate) fn bad_request(&mut self) -> bool {
        self.bad_requests += 1;
        self.bad_requests > BAD_REQUESTS
    }

    /// Counts a `rate_limited`; `true` once the budget is exceeded.
    pub(crate) fn rate_limited(&mut self, now: Instant) -> bool {
        while self.rate_limited.front().is_some_and(|&at| now.duration_since(at) > WINDOW) {
            self.rate_limited.pop_front();
        }
        self.rate_limited.push_back(now);
        self.rate_limited.len() > RATE_LIMITED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hundred_and_first_bad_request_is_too_many() {
        let mut budget = FaultBudget::default();
        assert!((0..100).all(|_| !budget.bad_request()));
        assert!(budget.bad_request());
    }

    #[test]
    fn rate_limited_answers_count_for_ten_seconds() {
        let start = Instant::now();
        let mut patient = FaultBudget::default();
        assert!((0..5000).all(|n| !patient.rate_limited(start + Duration::from_millis(11) * n)));
        let mut hasty = FaultBudget::default();
        assert!((0..1000).all(|n| !hasty.rate_limited(start + Duration::from_millis(9) * n)));
        assert!(hasty.rate_limited(start + Duration::from_secs(9)));
    }
}
