//! Admission control for smiles: limits per session, per replica and by the store's delay. Also the rate limit for
//! histories and the budget of refused frames. Pure code: callers pass the time.
//!
//! `tower_governor`, which limits requests per client address in `http`, cannot inspect a bucket without taking from
//! it. [`admit`] must check two buckets before it takes from either, so this module has buckets of its own.

mod budget;
mod pressure;

pub(crate) use budget::FaultBudget;
pub(crate) use pressure::{Pressure, UNAVAILABLE_AFTER};

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::protocol::{ErrorCode, Refusal};

/// A token bucket, by the generic cell rate algorithm (ITU-T I.371, annex A).
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    /// Time to refill one token; zero means no limit.
    interval: Duration,
    /// A token is available if the bucket will be full within this time.
    tolerance: Duration,
    full_at: Instant,
    /// When the sender that got the last retry hint may retry.
    last_hint: Instant,
    /// The number of tokens taken since the bucket was created, counted even if there is no limit.
    pub taken: u64,
}

/// Upper bound on a retry hint: a hanging store may recover soon.
const LONGEST_HINT: Duration = Duration::from_secs(5);

impl Bucket {
    /// A full bucket of `burst` tokens that refills at `per_second` tokens per second. 0 for either means no limit.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let limited = per_second > 0 && burst > 0;
        let interval = if limited { Duration::from_secs(1) / per_second } else { Duration::ZERO };
        let tolerance = interval * burst.saturating_sub(1);
        Self { interval, tolerance, full_at: now, last_hint: now, taken: 0 }
    }

    /// Time until a token is available.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now).saturating_sub(self.tolerance)
    }

    /// Takes a token; call it only when [`Bucket::wait`] is zero.
    pub(crate) fn take(&mut self, now: Instant) {
        self.taken += 1;
        if !self.interval.is_zero() {
            self.full_at = self.full_at.max(now) + self.interval;
        }
    }

    /// The retry hint for a sender that is refused at `now` and must wait at least `wait`. Up to [`LONGEST_HINT`],
    /// hints are spaced by the refill interval: if all senders got the same hint, all but one would be refused again.
    pub(crate) fn retry_hint(&mut self, now: Instant, wait: Duration) -> Duration {
        let next = self.last_hint + self.interval;
        self.last_hint = next.clamp(now + wait, now + wait.max(LONGEST_HINT));
        self.last_hint.duration_since(now)
    }
}

/// Takes a token from the session's bucket and from the replica's, or from neither.
///
/// # Errors
/// A refusal, with a hint of at least the longer of the two waits.
pub(crate) fn admit(session: &mut Bucket, capacity: &Mutex<Bucket>, now: Instant) -> Result<(), Refusal> {
    let mut capacity = capacity.lock();
    let (by_session, by_capacity) = (session.wait(now), capacity.wait(now));
    if !by_session.is_zero() {
        let message = "this session exceeds its rate limit for smiles; send the smile again with the same id";
        let hint = session.retry_hint(now, by_session.max(by_capacity));
        return Err(Refusal::temporary(ErrorCode::RateLimited, message, hint));
    }
    if !by_capacity.is_zero() {
        let message = "this replica is at its capacity; send the smile again with the same id";
        let hint = capacity.retry_hint(now, by_capacity);
        return Err(Refusal::temporary(ErrorCode::Overloaded, message, hint));
    }
    session.take(now);
    capacity.take(now);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 25, start);
        let taken = (0..2000).filter(|tick| {
            let now = start + MILLISECOND * (tick / 2);
            let admitted = bucket.wait(now).is_zero();
            if admitted {
                bucket.take(now);
            }
            admitted
        });
        // 2,000 attempts in one second: the burst and the 100 refilled tokens, less the one due at the very end.
        assert_eq!(taken.count(), 25 + 99);
    }

    #[test]
    fn a_token_is_available_exactly_after_the_wait() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, 1, start);
        bucket.take(start);
        let wait = bucket.wait(start);
        assert!(!bucket.wait(start + wait.saturating_sub(Duration::from_nanos(1))).is_zero());
        assert!(bucket.wait(start + wait).is_zero());
    }

    #[test]
    fn an_idle_bucket_fills_up_to_its_burst() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 2, start);
        let later = start + Duration::from_hours(1);
        bucket.take(later);
        bucket.take(later);
        assert_eq!(bucket.wait(later), Duration::from_millis(100));
    }

    #[test]
    fn zero_means_no_limit() {
        let now = Instant::now();
        for mut bucket in [Bucket::new(0, 5, now), Bucket::new(5, 0, now)] {
            for _ in 0..10_000 {
                assert!(bucket.wait(now).is_zero());
                bucket.take(now);
            }
        }
    }

    #[test]
    fn retry_hints_are_spaced_up_to_the_longest_hint() {
        let start = Instant::now();
        let capacity = Mutex::new(Bucket::new(4, 1, start));
        let shed = |now| match admit(&mut Bucket::new(0, 0, now), &capacity, now) {
            Err(Refusal { code: ErrorCode::Overloaded, retry_after_ms: Some(wait), .. }) => wait,
            other => panic!("the smile was not shed: {other:?}"),
        };
        assert_eq!(admit(&mut Bucket::new(0, 0, start), &capacity, start), Ok(()));
        let hints: Vec<_> = (0..22).map(|_| shed(start)).collect();
        let apart: Vec<_> = (1..=20).map(|nth| nth * 250).chain([5000, 5000]).collect();
        assert_eq!(hints, apart);

        // A minute later, no retry is pending.
        let later = start + Duration::from_mins(1);
        assert_eq!(admit(&mut Bucket::new(0, 0, later), &capacity, later), Ok(()));
        assert_eq!(shed(later), 250);
    }

    #[test]
    fn a_refused_smile_takes_no_token_from_either_bucket() {
        let now = Instant::now();
        let capacity = Mutex::new(Bucket::new(4, 1, now));
        let mut greedy = Bucket::new(1, 1, now);
        assert_eq!(admit(&mut greedy, &capacity, now), Ok(()));
        let refused = |answer: Result<(), Refusal>| answer.err().map(|refusal| (refusal.code, refusal.retry_after_ms));
        assert_eq!(refused(admit(&mut greedy, &capacity, now)), Some((ErrorCode::RateLimited, Some(1000))));

        let mut patient = Bucket::new(20, 40, now);
        assert_eq!(refused(admit(&mut patient, &capacity, now)), Some((ErrorCode::Overloaded, Some(250))));
        assert_eq!(admit(&mut patient, &capacity, now + Duration::from_millis(250)), Ok(()));
        assert_eq!(patient.wait(now + Duration::from_millis(250)), Duration::ZERO);
        assert_eq!(capacity.lock().taken, 2);
    }
}
