//! How far behind the store is: what a smile admitted now would have to wait for.
//!
//! Where the store, not the capacity, is the bottleneck, its delay decides who is shed: the queue in front of it stays
//! as short as the store is fast, instead of as long as its bound (after controlled delay, RFC 8289: delay, not length,
//! is what hurts).

use std::time::{Duration, Instant};

/// The longest a smile may be expected to wait for its commit. Past it, new ones are shed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// What is left of the expected wait when those who were shed are asked back: not all of them fit at once.
const ASKED_BACK_AT: Duration = Duration::from_millis(250);

/// Hints stay below this: a store that hangs may be back sooner than its silence suggests.
const LONGEST_HINT: Duration = Duration::from_secs(5);

/// A batch that takes longer than this is no longer slow: the store is away, or cannot be reached. What waits for it must be
/// refused while its senders still wait.
pub const UNAVAILABLE_AFTER: Duration = Duration::from_millis(600);

/// Why the store takes no smile now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overload {
    /// It is slow, and will have caught up after this long.
    Slow(Duration),
    /// It does not answer.
    Unavailable,
}

/// The measured speed of the store and the work before it.
#[derive(Debug)]
pub struct Pressure {
    /// Smiles in one batch at most.
    largest_batch: u32,
    /// Admitted, and in no batch yet.
    waiting: u32,
    /// When the running batch began.
    batch_began: Option<Instant>,
    /// Time one batch took lately: a moving average of equal weight.
    per_batch: Duration,
}

impl Pressure {
    /// No pressure, on a store that takes `largest_batch` smiles at once.
    #[must_use]
    pub fn new(largest_batch: u32) -> Self {
        Self { largest_batch, waiting: 0, batch_began: None, per_batch: Duration::ZERO }
    }

    /// A smile was admitted.
    pub fn admitted(&mut self) {
        self.waiting += 1;
    }

    /// So many of the smiles that waited are in a batch, or were refused.
    pub fn dequeued(&mut self, smiles: usize) {
        self.waiting = self.waiting.saturating_sub(u32::try_from(smiles).unwrap_or(u32::MAX));
    }

    /// The next batch began: from here on, what keeps it from the disk is the store's delay.
    pub fn batch_began(&mut self, now: Instant) {
        self.batch_began = Some(now);
    }

    /// The store answered.
    pub fn batch_ended(&mut self, now: Instant) {
        let took = self.batch_began.take().map_or(Duration::ZERO, |began| now.duration_since(began));
        // How long the store was away says nothing of how quick it is now.
        let took = took.min(UNAVAILABLE_AFTER);
        self.per_batch = (self.per_batch + took) / 2;
    }

    /// Whether a smile can be taken now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, now: Instant) -> Result<(), Overload> {
        if self.batch_began.is_some_and(|began| now.duration_since(began) > UNAVAILABLE_AFTER) {
            return Err(Overload::Unavailable);
        }
        match self.expected_wait(now) {
            wait if wait <= LONGEST_WAIT => Ok(()),
            wait => Err(Overload::Slow(wait.saturating_sub(ASKED_BACK_AT).min(LONGEST_HINT))),
        }
    }

    /// The rest of the running batch, and the batches up to and with the one this smile would be in.
    fn expected_wait(&self, now: Instant) -> Duration {
        let Some(began) = self.batch_began else { return Duration::ZERO };
        let elapsed = now.duration_since(began);
        // A batch that takes longer than usual is stuck: expect it to take as long again.
        let rest_of_batch = self.per_batch.checked_sub(elapsed).unwrap_or(elapsed);
        let batches = self.waiting / self.largest_batch + 1;
        rest_of_batch + self.per_batch * batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that has begun a batch after many that took `per_batch` each, with `waiting` smiles before it.
    fn busy(waiting: u32, per_batch: Duration) -> (Pressure, Instant) {
        let mut now = Instant::now();
        let mut pressure = Pressure::new(1000);
        for _ in 0..20 {
            pressure.admitted();
            pressure.batch_began(now);
            pressure.dequeued(1);
            now += per_batch;
            pressure.batch_ended(now);
        }
        pressure.admitted();
        pressure.batch_began(now);
        pressure.dequeued(1);
        (0..waiting).for_each(|_| pressure.admitted());
        (pressure, now)
    }

    #[test]
    fn a_fast_store_takes_what_comes() {
        let (pressure, now) = busy(8000, Duration::from_millis(20));
        assert_eq!(pressure.check(now), Ok(()));
    }

    #[test]
    fn one_slow_commit_is_no_reason_to_shed() {
        let (pressure, now) = busy(900, Duration::from_millis(200));
        assert_eq!(pressure.check(now), Ok(()));
    }

    #[test]
    fn a_slow_store_sheds_and_says_when_it_has_caught_up() {
        let (pressure, now) = busy(3000, Duration::from_millis(200));
        let Err(Overload::Slow(hint)) = pressure.check(now) else { panic!("it takes more") };
        assert!((Duration::from_millis(700)..Duration::from_millis(800)).contains(&hint), "{hint:?}");
    }

    #[test]
    fn a_store_that_hangs_is_away_and_one_that_is_back_is_not() {
        let (mut pressure, now) = busy(0, Duration::from_millis(1));
        assert_eq!(pressure.check(now + Duration::from_millis(400)), Ok(()));
        assert!(matches!(pressure.check(now + Duration::from_millis(600)), Err(Overload::Slow(_))));
        let later = now + Duration::from_secs(30);
        assert_eq!(pressure.check(later), Err(Overload::Unavailable));
        pressure.batch_ended(later);
        assert_eq!(pressure.check(later), Ok(()));
        // How long it was away says nothing of the next batch.
        pressure.batch_began(later);
        let soon = |answer| !matches!(answer, Err(Overload::Slow(hint)) if hint > Duration::from_secs(1));
        assert!(soon(pressure.check(later)), "{:?}", pressure.check(later));
    }
}
