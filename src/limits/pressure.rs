//! How far behind the store is: what a smile admitted now would have to wait for.
//!
//! Where the store, not the capacity, is the bottleneck, its delay decides who is shed: the queue in front of it stays
//! as short as the store is fast, instead of as long as its bound (after controlled delay, RFC 8289: delay, not length, is what
//! hurts).

use std::time::{Duration, Instant};

/// The longest a smile may be expected to wait for its commit. Past it, new ones are shed.
const LONGEST_WAIT: Duration = Duration::from_millis(250);

/// What is left of the estimate when those who were shed are asked back: not all of them fit at once.
const ASKED_BACK_AT: Duration = Duration::from_millis(125);

/// Hints stay below this: a store that hangs may be back sooner than its silence suggests.
const LONGEST_HINT: Duration = Duration::from_secs(5);

/// The measured speed of the store and the work before it.
#[derive(Debug, Default)]
pub struct Pressure {
    /// Admitted and not answered yet, those of the running batch included.
    unanswered: u32,
    /// When the running batch began.
    batch_began: Option<Instant>,
    /// Time one smile took lately, and time one batch took: moving averages of equal weight.
    per_smile: Duration,
    per_batch: Duration,
}

impl Pressure {
    /// A smile was admitted.
    pub fn admitted(&mut self) {
        self.unanswered += 1;
    }

    /// The store began to work on a batch.
    pub fn batch_began(&mut self, now: Instant) {
        self.batch_began = Some(now);
    }

    /// The store answered for a batch of `smiles`.
    pub fn batch_ended(&mut self, now: Instant, smiles: u32) {
        let took = self.batch_began.take().map_or(Duration::ZERO, |began| now.duration_since(began));
        self.unanswered = self.unanswered.saturating_sub(smiles);
        self.per_smile = (self.per_smile + took / smiles.max(1)) / 2;
        self.per_batch = (self.per_batch + took) / 2;
    }

    /// Whether a smile can be taken now; else how long until the store has caught up.
    ///
    /// # Errors
    /// The hint for `overloaded`.
    pub fn check(&self, now: Instant) -> Result<(), Duration> {
        let wait = self.expected_wait(now);
        if wait <= LONGEST_WAIT { Ok(()) } else { Err(wait.saturating_sub(ASKED_BACK_AT).min(LONGEST_HINT)) }
    }

    fn expected_wait(&self, now: Instant) -> Duration {
        let Some(began) = self.batch_began else { return Duration::ZERO };
        let elapsed = now.duration_since(began);
        // A batch that takes longer than usual is stuck: expect it to take as long again.
        let rest_of_batch = self.per_batch.checked_sub(elapsed).unwrap_or(elapsed);
        rest_of_batch + self.per_smile.saturating_mul(self.unanswered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy_with(unanswered: u32, per_batch: Duration, batch: u32) -> (Pressure, Instant) {
        let start = Instant::now();
        let mut pressure = Pressure::default();
        for round in 0..20 {
            (0..batch).for_each(|_| pressure.admitted());
            pressure.batch_began(start + per_batch * round);
            pressure.batch_ended(start + per_batch * (round + 1), batch);
        }
        (0..unanswered).for_each(|_| pressure.admitted());
        let now = start + per_batch * 20;
        pressure.batch_began(now);
        (pressure, now)
    }

    #[test]
    fn a_fast_store_takes_what_comes() {
        let (pressure, now) = busy_with(4000, Duration::from_millis(2), 100);
        assert_eq!(pressure.check(now), Ok(()));
    }

    #[test]
    fn a_slow_store_sheds_when_the_wait_grows_too_long() {
        let (short, now) = busy_with(10, Duration::from_millis(100), 10);
        assert_eq!(short.check(now), Ok(()));
        let (long, now) = busy_with(100, Duration::from_millis(100), 10);
        let hint = long.check(now).unwrap_err();
        assert!((Duration::from_millis(900)..Duration::from_millis(1100)).contains(&hint), "{hint:?}");
    }

    #[test]
    fn a_store_that_hangs_sheds_and_one_that_is_back_does_not() {
        let (mut pressure, now) = busy_with(1, Duration::from_millis(1), 1);
        let later = now + Duration::from_secs(30);
        assert_eq!(pressure.check(later), Err(LONGEST_HINT));
        pressure.batch_ended(later, 1);
        assert_eq!(pressure.check(later), Ok(()));
    }
}
