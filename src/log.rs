//! The entrance to the log: the queue of admitted smiles, and what the store's delay does to admission.
//!
//! The queue is emptied by the [`Appender`]. While one commit is on its way to the disk the next batch gathers, so one
//! commit carries every smile that waits.

mod appender;
mod outage;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::hub::Outbox;
use crate::index::Index;
use crate::limits::{Behind, Pressure};
use crate::model::NewSmile;
use crate::store::{LARGEST_BATCH, Store};
use crate::tail::Tail;
use crate::telemetry::Metrics;

pub use self::appender::Appender;

/// Smiles that may wait. The pressure sheds long before it is full, unless the store is very fast.
const QUEUE: usize = 8192;

/// When to try again after the queue itself was full.
const RETRY_AFTER_FULL: Duration = Duration::from_millis(100);

/// One admitted smile, and where to say that it will not be published.
#[derive(Debug)]
struct Submission {
    smile: NewSmile,
    admitted_at: Instant,
    sender: Arc<Outbox>,
}

/// The entrance to the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
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

/// Room in the queue for one smile, held while the limits are asked.
#[derive(Debug)]
pub struct Room<'log> {
    waiting: MutexGuard<'log, Waiting>,
    filled: &'log Notify,
}

impl Log {
    /// The log's entrance, and the appender to be run.
    #[must_use]
    pub fn new(store: Store, tail: Tail, index: Index, metrics: Arc<Metrics>) -> (Self, Appender) {
        let pressure = Pressure::new(u32::try_from(LARGEST_BATCH).unwrap_or(u32::MAX));
        let waiting = Mutex::new(Waiting { entries: Vec::new(), pressure });
        let queue = Arc::new(Queue { waiting, filled: Notify::new() });
        let appender = Appender::new(Arc::clone(&queue), store, tail, index, metrics);
        (Self { queue }, appender)
    }

    /// Room for one smile, unless the store is away or behind by too much. Do not hold it for long.
    ///
    /// # Errors
    /// Why there is none.
    pub fn room(&self, now: Instant) -> Result<Room<'_>, Behind> {
        let waiting = self.queue.waiting();
        waiting.pressure.check(now)?;
        if waiting.entries.len() >= QUEUE {
            return Err(Behind::Slow(RETRY_AFTER_FULL));
        }
        Ok(Room { waiting, filled: &self.queue.filled })
    }
}

impl Room<'_> {
    /// Puts an admitted smile in line. Its publication is the answer, or else `sender` hears why there is none. Smiles of
    /// one session keep their order.
    pub fn submit(mut self, smile: NewSmile, admitted_at: Instant, sender: &Arc<Outbox>) {
        let first = self.waiting.entries.is_empty();
        self.waiting.pressure.admitted();
        self.waiting.entries.push(Submission { smile, admitted_at, sender: Arc::clone(sender) });
        drop(self.waiting);
        if first {
            self.filled.notify_one();
        }
    }
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
