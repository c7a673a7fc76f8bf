//! The waits before a reconnection and before a refused smile is sent again. Jitter keeps many clients from returning
//! at the same moment.

use std::time::Duration;

use rand::{Rng, RngExt};

const RECONNECT_FIRST: Duration = Duration::from_millis(50);
const RECONNECT_LONGEST: Duration = Duration::from_secs(3);
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_LONGEST: Duration = Duration::from_secs(2);

/// The waits of one user between connection attempts: exponential, with full jitter.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt: the server's hint, if there is one, plus jitter, so that clients with the same
    /// hint spread out. Counts a failure.
    pub(super) fn next(&mut self, hint: Option<Duration>, random: &mut impl Rng) -> Duration {
        let ceiling = doubled(RECONNECT_FIRST, self.failures, RECONNECT_LONGEST);
        self.failures = self.failures.saturating_add(1);
        hint.unwrap_or_default() + jitter(ceiling, random)
    }

    /// [`super::Patience::connect`] documents the schedule and its reason.
    pub(super) fn connect_timeout(&self, first: Duration) -> Duration {
        doubled(first, self.failures.saturating_sub(1), 4 * first)
    }

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Makes [`Self::next`] draw from the longest range, 0 to [`RECONNECT_LONGEST`], after a close with 1008.
    pub(super) fn back_off(&mut self) {
        self.failures = u32::MAX;
    }
}

/// The wait before a refused smile is sent again; never shorter than the hint. `refusals` is the number of earlier
/// refusals of the smile.
pub(super) fn retry_wait(hint: Option<Duration>, refusals: u32, random: &mut impl Rng) -> Duration {
    hint.unwrap_or_default() + jitter(doubled(RETRY_FIRST, refusals, RETRY_LONGEST), random)
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    2_u32.checked_pow(times).and_then(|factor| first.checked_mul(factor)).map_or(most, |wait| wait.min(most))
}

fn jitter(ceiling: Duration, random: &mut impl Rng) -> Duration {
    ceiling.mul_f64(random.random::<f64>())
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    use super::*;

    #[test]
    fn waits_grow_to_a_cap_until_a_reset() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut longest = [Duration::ZERO; 10];
        for _ in 0..1000 {
            let mut backoff = Backoff::default();
            for longest in &mut longest {
                *longest = backoff.next(None, &mut random).max(*longest);
            }
            backoff.reset();
            assert!(backoff.next(None, &mut random) <= RECONNECT_FIRST);
        }
        for (failures, longest) in longest.iter().enumerate() {
            let ceiling = Duration::from_millis(50 << failures).min(RECONNECT_LONGEST);
            let message = format!("after {failures} failures: longest wait {longest:?}, ceiling {ceiling:?}");
            assert!(*longest <= ceiling && *longest > ceiling.mul_f64(0.9), "{message}");
        }
    }

    #[test]
    fn an_attempt_gets_more_time_from_the_second_failure_on() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut backoff = Backoff::default();
        for times in [1, 1, 2, 4, 4] {
            assert_eq!(backoff.connect_timeout(Duration::from_secs(2)), Duration::from_secs(2 * times));
            backoff.next(None, &mut random);
        }
    }

    #[test]
    fn a_hint_is_honoured() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
        let hint = Duration::from_millis(730);
        for refusals in 0..100 {
            let wait = Backoff::default().next(Some(hint), &mut random);
            assert!(wait >= hint && wait <= hint + RECONNECT_FIRST);
            let wait = retry_wait(Some(hint), refusals, &mut random);
            assert!(wait >= hint && wait <= hint + RETRY_LONGEST);
        }
    }

    #[test]
    fn after_a_close_with_1008_the_wait_is_drawn_from_the_longest_range() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let wait = |_| {
            let mut backoff = Backoff::default();
            backoff.back_off();
            backoff.next(None, &mut random)
        };
        assert!((0..100).map(wait).max() > Some(RECONNECT_LONGEST.mul_f64(0.9)));
    }
}
