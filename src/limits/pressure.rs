//! Load shedding by the expected delay of the store.
//!
//! Sheds by delay instead of queue length, as Controlled Delay (`CoDel`, RFC 8289) does; a limit on the length is only
//! the last resort. When the store is the bottleneck, the queue in front of it holds at most about as many smiles as
//! the store commits in half a second.

use std::time::{Duration, Instant};

use super::LONGEST_HINT;
use crate::protocol::{ErrorCode, Refusal};

/// Capacity of the log's queue. With a store slower than about 16,000 smiles per second, the expected wait exceeds
/// [`LONGEST_WAIT`] before the queue is full.
const QUEUE_LIMIT: usize = 8192;

const RETRY_AFTER_FULL: Duration = Duration::from_millis(100);

/// The longest expected wait for a commit. Beyond it, new smiles are shed.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// The expected wait that a retry hint aims for. It is below [`LONGEST_WAIT`], since many retries may arrive at the
/// same time.
const RETRY_AT: Duration = Duration::from_millis(250);

/// Time limit for a batch. A store that takes longer counts as unavailable: the queued smiles and later ones are
/// refused immediately.
pub(crate) const UNAVAILABLE_AFTER: Duration = Duration::from_millis(600);

#[derive(Default)]
pub(crate) struct Pressure {
    /// The limit on the number of smiles in the running batch or, between batches, in the last one.
    largest_batch: usize,
    batch_began: Option<Instant>,
    /// The mean duration of a batch: an exponential moving average with weight 1/2.
    per_batch: Duration,
}

impl Pressure {
    /// The whole time from this call to [`Pressure::batch_ended`] counts as store delay.
    pub(crate) fn batch_began(&mut self, now: Instant, largest_batch: usize) {
        (self.batch_began, self.largest_batch) = (Some(now), largest_batch);
    }

    pub(crate) fn batch_ended(&mut self, now: Instant) {
        let took = self.batch_began.take().map_or(Duration::ZERO, |began| now.duration_since(began));
        // Capped, so that an outage does not dominate the mean.
        let took = took.min(UNAVAILABLE_AFTER);
        self.per_batch = (self.per_batch + took) / 2;
    }

    /// Checks whether a smile can be admitted at `now`, behind `waiting` smiles that are not yet in a batch.
    ///
    /// # Errors
    /// `store_unavailable` if the running batch is overdue, else `overloaded` if the expected wait is too long or the
    /// queue is full.
    pub(crate) fn check(&self, now: Instant, waiting: usize) -> Result<(), Refusal> {
        if self.batch_began.is_some_and(|began| now.duration_since(began) > UNAVAILABLE_AFTER) {
            return Err(Refusal::store_unavailable());
        }
        let hint = match self.expected_wait(now, waiting) {
            wait if wait > LONGEST_WAIT => wait.saturating_sub(RETRY_AT).min(LONGEST_HINT),
            _ if waiting >= QUEUE_LIMIT => RETRY_AFTER_FULL,
            _ => return Ok(()),
        };
        let message = "this replica's store cannot keep up; send the smile again with the same id";
        Err(Refusal::temporary(ErrorCode::Overloaded, message, hint))
    }

    /// The expected remaining time of the running batch, plus the expected time of the later batches up to and
    /// including the one with this smile. Zero if no batch is running.
    fn expected_wait(&self, now: Instant, waiting: usize) -> Duration {
        let Some(began) = self.batch_began else { return Duration::ZERO };
        let elapsed = now.duration_since(began);
        // Expect a batch that has taken longer than the mean to take as long again.
        let rest_of_batch = self.per_batch.checked_sub(elapsed).unwrap_or(elapsed);
        let batches = u32::try_from(waiting / self.largest_batch + 1).unwrap_or(u32::MAX);
        rest_of_batch + self.per_batch * batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST_BATCH: usize = 1000;

    /// The pressure of a store that has just begun a batch, after many batches that took `per_batch` each, and the time
    /// at which that batch began.
    fn busy(per_batch: Duration) -> (Pressure, Instant) {
        let mut now = Instant::now();
        let mut pressure = Pressure::default();
        for _ in 0..20 {
            pressure.batch_began(now, LARGEST_BATCH);
            now += per_batch;
            pressure.batch_ended(now);
        }
        pressure.batch_began(now, LARGEST_BATCH);
        (pressure, now)
    }

    fn refused(answer: Result<(), Refusal>) -> Option<(ErrorCode, Duration)> {
        answer.err().map(|refusal| (refusal.code, Duration::from_millis(refusal.retry_after_ms.unwrap())))
    }

    #[test]
    fn smiles_for_a_fast_store_are_admitted_until_the_queue_is_full() {
        let (pressure, now) = busy(Duration::from_millis(20));
        assert_eq!(pressure.check(now, 8000), Ok(()));
        assert_eq!(refused(pressure.check(now, QUEUE_LIMIT)), Some((ErrorCode::Overloaded, RETRY_AFTER_FULL)));
    }

    #[test]
    fn smiles_for_a_slow_store_are_admitted_while_the_queue_is_short() {
        let (pressure, now) = busy(Duration::from_millis(200));
        assert_eq!(pressure.check(now, 900), Ok(()));
    }

    #[test]
    fn smiles_for_a_slow_store_are_shed_with_a_retry_hint() {
        let (pressure, now) = busy(Duration::from_millis(200));
        let (code, hint) = refused(pressure.check(now, 3000)).expect("the smile should be shed");
        assert_eq!(code, ErrorCode::Overloaded);
        assert!((Duration::from_millis(700)..Duration::from_millis(800)).contains(&hint), "the hint was {hint:?}");
    }

    #[test]
    fn smiles_are_shed_while_the_queue_is_shorter_if_batches_are_smaller() {
        let (mut pressure, now) = busy(Duration::from_millis(20));
        assert_eq!(pressure.check(now, 900), Ok(()));
        pressure.batch_began(now, 16);
        assert_eq!(refused(pressure.check(now, 900)).map(|(code, _)| code), Some(ErrorCode::Overloaded));
    }

    #[test]
    fn a_hanging_store_is_unavailable_until_it_answers() {
        let (mut pressure, now) = busy(Duration::from_millis(1));
        let check = |pressure: &Pressure, after| refused(pressure.check(now + after, 0)).map(|(code, _)| code);
        assert_eq!(check(&pressure, Duration::from_millis(400)), None);
        assert_eq!(check(&pressure, Duration::from_millis(600)), Some(ErrorCode::Overloaded));
        let late = Duration::from_secs(30);
        assert_eq!(check(&pressure, late), Some(ErrorCode::StoreUnavailable));
        pressure.batch_ended(now + late);
        assert_eq!(check(&pressure, late), None);
        // The outage must not dominate the mean.
        pressure.batch_began(now + late, LARGEST_BATCH);
        let answer = refused(pressure.check(now + late, 0));
        assert!(answer.is_none_or(|(_, hint)| hint <= Duration::from_secs(1)), "the hint was too long: {answer:?}");
    }
}
