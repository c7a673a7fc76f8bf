//! Admission: what one session, one replica and the store can take, and when there will be room again.
//!
//! Pure code that is given the time: no clock, no task, no socket. Must not know frames or the words of an error.
//! Addresses of clients are limited before a session exists, in `http`, by tower-governor; its library cannot look
//! into a bucket without taking from it, and a hint is only true when both buckets are asked before either is charged.

mod budget;
mod pressure;

pub use budget::FaultBudget;
pub use pressure::{Overload, Pressure, UNAVAILABLE_AFTER};

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A rate with a burst, by the generic cell rate algorithm (ITU-T I.371, annex A): one moment is all its state.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Time that one smile is worth; `None` admits everything.
    interval: Option<Duration>,
    /// How far ahead of the rate a burst may run.
    tolerance: Duration,
    /// When the bucket is full again.
    full_at: Instant,
    /// For when the last one who found it empty was asked back.
    asked_back_for: Instant,
}

/// Those who are refused are asked back within this time, however many they are.
const LONGEST_HINT: Duration = Duration::from_secs(5);

impl Bucket {
    /// A full bucket of `burst` smiles that refills at `per_second`. 0 in either place is no limit.
    #[must_use]
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let limited = per_second > 0 && burst > 0;
        let interval = limited.then(|| Duration::from_secs(1) / per_second);
        let tolerance = interval.unwrap_or_default() * burst.saturating_sub(1);
        Self { interval, tolerance, full_at: now, asked_back_for: now }
    }

    /// How long until a smile may be taken; zero when it may be taken now.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        match self.interval {
            None => Duration::ZERO,
            Some(_) => self.full_at.saturating_duration_since(now).saturating_sub(self.tolerance),
        }
    }

    /// Takes one smile; call it when [`Bucket::wait`] is zero.
    pub fn take(&mut self, now: Instant) {
        if let Some(interval) = self.interval {
            self.full_at = self.full_at.max(now) + interval;
        }
    }

    /// When to ask back one who is refused at `now`, and has to wait at least `wait`. Each gets a moment of its own, as
    /// far apart as smiles are admitted: were they all told the next one, all but one of them would be refused again.
    pub fn ask_back(&mut self, now: Instant, wait: Duration) -> Duration {
        let next = self.asked_back_for + self.interval.unwrap_or_default();
        self.asked_back_for = next.clamp(now + wait, now + wait.max(LONGEST_HINT));
        self.asked_back_for.duration_since(now)
    }
}

/// What this replica admits, shared by all its sessions.
#[derive(Debug)]
pub struct Capacity {
    state: Mutex<CapacityState>,
}

#[derive(Debug)]
struct CapacityState {
    bucket: Bucket,
    admitted: u64,
}

impl Capacity {
    /// `per_second` smiles with a burst of a quarter of that, at least 1; 0 is unlimited.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        let bucket = Bucket::new(per_second, (per_second / 4).max(1), now);
        Self { state: Mutex::new(CapacityState { bucket, admitted: 0 }) }
    }

    /// How many smiles were admitted since the start.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.lock().admitted
    }

    fn lock(&self) -> MutexGuard<'_, CapacityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a smile is not admitted now, and how long until it is, unless others take the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// This session sends faster than it may.
    BySession(Duration),
    /// This replica is at its capacity.
    ByCapacity(Duration),
}

/// Takes one smile from the session's bucket and from the replica's, or from neither.
///
/// # Errors
/// [`Denied`], with at least the longer of both waits: a client that waits for one bucket only would meet the other.
pub fn admit(session: &mut Bucket, capacity: &Capacity, now: Instant) -> Result<(), Denied> {
    let mut capacity = capacity.lock();
    let (by_session, by_capacity) = (session.wait(now), capacity.bucket.wait(now));
    if !by_session.is_zero() {
        return Err(Denied::BySession(session.ask_back(now, by_session.max(by_capacity))));
    }
    if !by_capacity.is_zero() {
        return Err(Denied::ByCapacity(capacity.bucket.ask_back(now, by_capacity)));
    }
    session.take(now);
    capacity.bucket.take(now);
    capacity.admitted += 1;
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
        // One second at 2,000 offers: the burst, and 100 that the second brought, less the one due at its very end.
        assert_eq!(taken.count(), 25 + 99);
    }

    #[test]
    fn a_hint_is_true_and_not_too_long() {
        let start = Instant::now();
        let mut bucket = Bucket::new(3, 1, start);
        bucket.take(start);
        let wait = bucket.wait(start);
        assert!(!bucket.wait(start + wait.saturating_sub(Duration::from_nanos(1))).is_zero());
        assert!(bucket.wait(start + wait).is_zero());
    }

    #[test]
    fn a_rest_fills_the_bucket_and_no_more() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 2, start);
        let later = start + Duration::from_hours(1);
        bucket.take(later);
        bucket.take(later);
        assert_eq!(bucket.wait(later), Duration::from_millis(100));
    }

    #[test]
    fn zero_is_no_limit() {
        let now = Instant::now();
        for mut bucket in [Bucket::new(0, 5, now), Bucket::new(5, 0, now)] {
            for _ in 0..10_000 {
                assert!(bucket.wait(now).is_zero());
                bucket.take(now);
            }
        }
    }

    #[test]
    fn those_who_are_shed_are_asked_back_one_after_the_other() {
        let start = Instant::now();
        let capacity = Capacity::new(4, start);
        let shed = |now| match admit(&mut Bucket::new(0, 0, now), &capacity, now) {
            Err(Denied::ByCapacity(wait)) => wait.as_millis(),
            other => panic!("{other:?}"),
        };
        assert_eq!(admit(&mut Bucket::new(0, 0, start), &capacity, start), Ok(()));
        let hints: Vec<_> = (0..22).map(|_| shed(start)).collect();
        let apart: Vec<_> = (1..=20).map(|nth| nth * 250).chain([5000, 5000]).collect();
        assert_eq!(hints, apart);

        // Much later nobody is expected any more.
        let later = start + Duration::from_mins(1);
        assert_eq!(admit(&mut Bucket::new(0, 0, later), &capacity, later), Ok(()));
        assert_eq!(shed(later), 250);
    }

    #[test]
    fn who_is_denied_by_one_bucket_is_not_charged_by_the_other() {
        let now = Instant::now();
        let capacity = Capacity::new(4, now);
        let mut greedy = Bucket::new(1, 1, now);
        assert_eq!(admit(&mut greedy, &capacity, now), Ok(()));
        assert_eq!(admit(&mut greedy, &capacity, now), Err(Denied::BySession(Duration::from_secs(1))));

        let mut patient = Bucket::new(20, 40, now);
        assert_eq!(admit(&mut patient, &capacity, now), Err(Denied::ByCapacity(Duration::from_millis(250))));
        assert_eq!(admit(&mut patient, &capacity, now + Duration::from_millis(250)), Ok(()));
        assert_eq!(patient.wait(now + Duration::from_millis(250)), Duration::ZERO);
        assert_eq!(capacity.admitted(), 2);
    }
}
