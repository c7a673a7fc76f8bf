//! Load shedding by the expected delay of the store.
//!
//! Sheds by delay instead of queue length, as controlled delay does (RFC 8289): when the store is the bottleneck, the
//! queue in front of it stays as short as the store's speed allows.

use std::time::{Duration, Instant};

/// The longest expected wait for a commit. Past it new smiles are shed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The expected wait at the time of the retry. Below [`LONGEST_WAIT`], because not all retries fit at once.
const RETRY_AT: Duration = Duration::from_millis(250);

/// Upper bound of a retry hint: a hanging store may recover soon.
const LONGEST_HINT: Duration = Duration::from_secs(5);

/// A batch that takes longer means that the store is unavailable. Queued smiles are then refused at once.
pub(crate) const UNAVAILABLE_AFTER: Duration = Duration::from_millis(600);

/// Why the store accepts no smile now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overload {
    /// The store is slow; it will have caught up after this time.
    Slow(Duration),
    /// The store does not answer.
    Unavailable,
}

/// The measured speed of the store and the smiles queued for it.
#[derive(Debug)]
pub(crate) struct Pressure {
    /// The maximum number of smiles in a batch.
    largest_batch: u32,
    /// Smiles admitted and not yet in a batch.
    waiting: u32,
    /// When the running batch began.
    batch_began: Option<Instant>,
    /// The duration of a batch: an exponential moving average with weight 1/2.
    per_batch: Duration,
}

impl Pressure {
    /// No pressure, on a store that takes `largest_batch` smiles in a batch.
    pub(crate) fn new(largest_batch: u32) -> Self {
        Self { largest_batch, waiting: 0, batch_began: None, per_batch: Duration::ZERO }
    }

    /// Records an admitted smile.
    pub(crate) fn admitted(&mut self) {
        self.waiting += 1;
    }

    /// Records smiles that left the queue, into a batch or refused.
    pub(crate) fn dequeued(&mut self, smiles: usize) {
        self.waiting = self.waiting.saturating_sub(u32::try_from(smiles).unwrap_or(u32::MAX));
    }

    /// Records the start of a batch. All time until it ends counts as store delay.
    pub(crate) fn batch_began(&mut self, now: Instant) {
        self.batch_began = Some(now);
    }

    /// Records the end of the running batch.
    pub(crate) fn batch_ended(&mut self, now: Instant) {
        let took = self.batch_began.take().map_or(Duration::ZERO, |began| now.duration_since(began));
        // An outage must not count as the speed of the store.
        let took = took.min(UNAVAILABLE_AFTER);
        self.per_batch = (self.per_batch + took) / 2;
    }

    /// Checks whether a smile can be admitted at `now`.
    ///
    /// # Errors
    /// [`Overload`] if the smile must be shed.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Overload> {
        if self.batch_began.is_some_and(|began| now.duration_since(began) > UNAVAILABLE_AFTER) {
            return Err(Overload::Unavailable);
        }
        match self.expected_wait(now) {
            wait if wait <= LONGEST_WAIT => Ok(()),
            wait => Err(Overload::Slow(wait.saturating_sub(RETRY_AT).min(LONGEST_HINT))),
        }
    }

    /// The rest of the running batch plus all batches up to the one with this smile.
    fn expected_wait(&self, now: Instant) -> Duration {
        let Some(began) = self.batch_began else { return Duration::ZERO };
        let elapsed = now.duration_since(began);
        // Expect an overdue batch to take as long again as it has taken.
        let rest_of_batch = self.per_batch.checked_sub(elapsed).unwrap_or(elapsed);
        let batches = self.waiting / self.largest_batch + 1;
        rest_of_batch + self.per_batch * batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store that runs a batch after many that took `per_batch` each, with `waiting` queued smiles.
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
    fn a_fast_store_admits_a_long_queue() {
        let (pressure, now) = busy(8000, Duration::from_millis(20));
        assert_eq!(pressure.check(now), Ok(()));
    }

    #[test]
    fn one_slow_commit_does_not_shed() {
        let (pressure, now) = busy(900, Duration::from_millis(200));
        assert_eq!(pressure.check(now), Ok(()));
    }

    #[test]
    fn a_slow_store_sheds_with_a_retry_hint() {
        let (pressure, now) = busy(3000, Duration::from_millis(200));
        let Err(Overload::Slow(hint)) = pressure.check(now) else { panic!("it takes more") };
        assert!((Duration::from_millis(700)..Duration::from_millis(800)).contains(&hint), "{hint:?}");
    }

    #[test]
    fn a_hanging_store_is_unavailable_until_it_answers() {
        let (mut pressure, now) = busy(0, Duration::from_millis(1));
        assert_eq!(pressure.check(now + Duration::from_millis(400)), Ok(()));
        assert!(matches!(pressure.check(now + Duration::from_millis(600)), Err(Overload::Slow(_))));
        let later = now + Duration::from_secs(30);
        assert_eq!(pressure.check(later), Err(Overload::Unavailable));
        pressure.batch_ended(later);
        assert_eq!(pressure.check(later), Ok(()));
        // The outage must not count as the speed of the store.
        pressure.batch_began(later);
        let soon = |answer| !matches!(answer, Err(Overload::Slow(hint)) if hint > Duration::from_secs(1));
        assert!(soon(pressure.check(later)), "{:?}", pressure.check(later));
    }
}
