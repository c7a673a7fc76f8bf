//! The queue of admitted smiles in front of the log, and load shedding based on the store's delay.
//!
//! The [`Appender`] takes smiles from the queue in batches. During a commit, new smiles wait in the queue, and the next
//! batch takes as many of them as its limits allow.

mod appender;
mod outage;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::hub::Outbox;
use crate::index::Index;
use crate::limits::Pressure;
use crate::model::NewSmile;
use crate::protocol::Refusal;
use crate::store::{IdHash, Store};
use crate::tail::Tail;
use crate::telemetry::Metrics;

pub(crate) use self::appender::Appender;

/// One admitted smile, and the outbox that receives the answer if the smile is not published.
struct Submission {
    smile: NewSmile,
    hash: IdHash,
    admitted_at: Instant,
    outbox: Arc<Outbox>,
}

pub(crate) struct AppendQueue {
    store: Store,
    waiting: Mutex<Waiting>,
    filled: Notify,
}

struct Waiting {
    entries: Vec<Submission>,
    pressure: Pressure,
}

impl AppendQueue {
    /// The caller must run the appender.
    pub(crate) fn new(store: Store, tail: Arc<Tail>, index: Index, metrics: Arc<Metrics>) -> (Arc<Self>, Appender) {
        let waiting = Mutex::new(Waiting { entries: Vec::new(), pressure: Pressure::default() });
        let queue = Arc::new(Self { store: store.clone(), waiting, filled: Notify::new() });
        (Arc::clone(&queue), Appender { queue, store, tail, index, metrics })
    }

    /// Queues a smile. `admit` checks the rate limits. A published smile needs no other answer: the session turns the
    /// publication into the ack. If the smile is not published, the appender pushes the answer to `outbox`. The smiles
    /// of one session are stored in the order of the calls.
    ///
    /// The queue is locked while the limits are checked, so that the queue has room for every admitted smile.
    ///
    /// # Errors
    /// A refusal if the store is unavailable or too slow, or if the queue is full; otherwise the refusal of `admit`.
    pub(crate) fn submit(
        &self,
        smile: NewSmile,
        now: Instant,
        outbox: &Arc<Outbox>,
        admit: impl FnOnce() -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let hash = self.store.id_hash(&smile.from, &smile.id);
        let mut waiting = self.waiting.lock();
        waiting.pressure.check(now, waiting.entries.len())?;
        admit()?;
        let first = waiting.entries.is_empty();
        waiting.entries.push(Submission { smile, hash, admitted_at: now, outbox: Arc::clone(outbox) });
        drop(waiting);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }
}
