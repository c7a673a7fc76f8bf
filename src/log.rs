//! The queue of admitted smiles in front of the log, and load shedding by the store's delay.
//!
//! The [`Appender`] empties the queue. While one commit runs, the next batch gathers, so one commit carries every
//! queued smile.

mod appender;
mod outage;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::hub::Outbox;
use crate::index::Index;
use crate::limits::{Overload, Pressure};
use crate::model::NewSmile;
use crate::store::Store;
use crate::tail::Tail;
use crate::telemetry::Metrics;

pub(crate) use self::appender::Appender;

/// Capacity of the queue. [`Pressure`] sheds long before it is full, unless the store is very fast.
const QUEUE: usize = 8192;

/// The retry hint when the queue is full.
const RETRY_AFTER_FULL: Duration = Duration::from_millis(100);

/// One admitted smile, and the outbox that receives its outcome if it is not published.
#[derive(Debug)]
struct Submission {
    smile: NewSmile,
    admitted_at: Instant,
    sender: Arc<Outbox>,
}

/// A handle that submits smiles to the log. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    queue: Arc<Queue>,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug)]
struct Waiting {
    entries: Vec<Submission>,
    pressure: Pressure,
}

/// A permit to submit one smile. It holds the queue's lock, so that a slot is certain while the rate limits are
/// checked.
#[derive(Debug)]
pub(crate) struct Permit<'log> {
    waiting: MutexGuard<'log, Waiting>,
    filled: &'log Notify,
}

impl Log {
    /// Creates the handle, and the appender to run.
    pub(crate) fn new(store: Store, tail: Tail, index: Index, metrics: Arc<Metrics>) -> (Self, Appender) {
        let pressure = Pressure::new(u32::try_from(store.batch_limit().smiles).unwrap_or(u32::MAX));
        let waiting = Mutex::new(Waiting { entries: Vec::new(), pressure });
        let queue = Arc::new(Queue { waiting, filled: Notify::new() });
        let appender = Appender::new(Arc::clone(&queue), store, tail, index, metrics);
        (Self { queue }, appender)
    }

    /// Reserves a slot for one smile. Do not hold the permit across an `await`.
    ///
    /// # Errors
    /// [`Overload`] when the store is unavailable or too slow, or the queue is full.
    pub(crate) fn reserve(&self, now: Instant) -> Result<Permit<'_>, Overload> {
        let waiting = self.queue.waiting.lock();
        waiting.pressure.check(now)?;
        if waiting.entries.len() >= QUEUE {
            return Err(Overload::Slow(RETRY_AFTER_FULL));
        }
        Ok(Permit { waiting, filled: &self.queue.filled })
    }
}

impl Permit<'_> {
    /// Queues an admitted smile. Its publication is the answer; otherwise `sender` gets the outcome. Smiles of one
    /// session keep their order.
    pub(crate) fn submit(mut self, smile: NewSmile, admitted_at: Instant, sender: &Arc<Outbox>) {
        let first = self.waiting.entries.is_empty();
        self.waiting.pressure.admitted();
        self.waiting.entries.push(Submission { smile, admitted_at, sender: Arc::clone(sender) });
        drop(self.waiting);
        if first {
            self.filled.notify_one();
        }
    }
}
