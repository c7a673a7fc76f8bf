//! Appending to the log: group commit, and what it does to admission.
//!
//! Owns the queue of admitted smiles and the one task that empties it. While one transaction is on its way to the disk
//! the next batch gathers, so one commit carries every smile that waits. Must not know sessions or sockets: it answers
//! through the permits that came with the smiles, and hands what it stored to the tail.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Permit};
use tokio_util::sync::CancellationToken;

use crate::hub::{Outcome, OutcomePermit, Publication};
use crate::limits::{AWAY_AFTER, Behind, Pressure};
use crate::model::{NewSmile, Smile, Timestamp};
use crate::protocol::Refusal;
use crate::store::{Appended, Store, StoreError};
use crate::tail::Batches;
use crate::telemetry::{Metrics, observe_since};

/// Smiles in one transaction at most: enough that the commit is a small part of the work, and few enough that they fit
/// into one record of TLS (16 KiB, RFC 8446, section 5.1), with ids and faces of the usual length. More are sent in several
/// writes, by a library that leaves Nagle's algorithm on: the last one waits for the acknowledgement of the others, which
/// the receiver delays by 40 ms. (Measured on the loopback: 900 at once are a sixth as fast as 200.)
const LARGEST_BATCH: u16 = 200;

/// Smiles that may wait. The pressure sheds long before it is full, unless the store is very fast.
const QUEUE: usize = 8192;

/// When to try again after the queue itself was full.
const RETRY_AFTER_FULL: Duration = Duration::from_millis(100);

/// One admitted smile, and where its outcome goes.
#[derive(Debug)]
struct Entry {
    smile: NewSmile,
    admitted_at: Instant,
    outcome: OutcomePermit,
}

/// The entrance to the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Log {
    queue: mpsc::Sender<Entry>,
    pressure: Arc<Mutex<Pressure>>,
}

/// Room in the queue for one smile, held while the limits are asked.
#[derive(Debug)]
pub struct LogPermit<'log> {
    permit: Permit<'log, Entry>,
    pressure: &'log Mutex<Pressure>,
}

impl Log {
    /// The log's entrance, and the appender to be run.
    #[must_use]
    pub fn new(store: Store, batches: Batches, metrics: Arc<Metrics>) -> (Self, Appender) {
        let (queue, entries) = mpsc::channel(QUEUE);
        let pressure = Arc::new(Mutex::new(Pressure::new(LARGEST_BATCH.into())));
        let appender = Appender { entries, pressure: Arc::clone(&pressure), store, batches, metrics };
        (Self { queue, pressure }, appender)
    }

    /// Room for one smile, unless the store is away or behind by too much.
    ///
    /// # Errors
    /// Why there is none.
    pub fn reserve(&self, now: Instant) -> Result<LogPermit<'_>, Behind> {
        lock(&self.pressure).check(now)?;
        let permit = self.queue.try_reserve().map_err(|_| Behind::Slow(RETRY_AFTER_FULL))?;
        Ok(LogPermit { permit, pressure: &self.pressure })
    }
}

impl LogPermit<'_> {
    /// Puts an admitted smile in line. Its outcome comes through `outcome`; smiles of one session keep their order.
    pub fn submit(self, smile: NewSmile, admitted_at: Instant, outcome: OutcomePermit) {
        lock(self.pressure).admitted();
        self.permit.send(Entry { smile, admitted_at, outcome });
    }
}

/// The one task that appends.
#[derive(Debug)]
pub struct Appender {
    entries: mpsc::Receiver<Entry>,
    pressure: Arc<Mutex<Pressure>>,
    store: Store,
    batches: Batches,
    metrics: Arc<Metrics>,
}

impl Appender {
    /// Appends until `stop`, and then what is still in the queue.
    ///
    /// # Errors
    /// [`StoreError::OutcomeUnknown`]: then nothing true can be said to the senders, and the process must end.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                biased;
                received = self.entries.recv_many(&mut batch, LARGEST_BATCH.into()) => if received == 0 {
                    return Ok(());
                },
                () = stop.cancelled(), if !self.entries.is_closed() => self.entries.close(),
            }
            if !batch.is_empty() {
                self.append(batch).await?;
            }
        }
    }

    async fn append(&mut self, mut batch: Vec<Entry>) -> Result<(), StoreError> {
        self.store.wait_for_turn().await;
        while batch.len() < LARGEST_BATCH.into()
            && let Ok(entry) = self.entries.try_recv()
        {
            batch.push(entry);
        }
        let size = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        let smiles: Vec<NewSmile> = batch.iter().map(|entry| entry.smile.clone()).collect();
        let at = Timestamp::now();
        let began = Instant::now();
        lock(&self.pressure).batch_began(began, size);
        self.batches.append_begins(&smiles);
        let appended = self.store_answers(&smiles, at, began).await;
        observe_since(&self.metrics.append_seconds, began);
        self.metrics.append_smiles.observe(f64::from(size));
        match appended {
            Ok(appended) => {
                let stored = self.answer(batch, &appended, at);
                self.batches.append_ended(stored).await;
            }
            Err(unknown @ StoreError::OutcomeUnknown(_)) => return Err(unknown),
            Err(error) => {
                tracing::error!(%error, smiles = size, "an append failed; its smiles are refused");
                refuse(batch);
                self.batches.append_ended(Vec::new()).await;
            }
        }
        // Waiting for the tail is part of it: a tail that is behind sheds as a slow store does.
        lock(&self.pressure).batch_ended(Instant::now());
        Ok(())
    }

    /// Appends, and refuses what waits meanwhile when the store turns out to be away: only of the smiles that it was given
    /// is it not known yet what becomes of them, and nobody can be told anything.
    async fn store_answers(
        &mut self,
        smiles: &[NewSmile],
        at: Timestamp,
        began: Instant,
    ) -> Result<Vec<Appended>, StoreError> {
        let mut append = pin!(self.store.append(smiles, at));
        if let Ok(appended) = tokio::time::timeout_at((began + AWAY_AFTER).into(), append.as_mut()).await {
            return appended;
        }
        tracing::warn!("the store does not answer; smiles are refused until it does");
        let appended = loop {
            let mut waiting = Vec::new();
            tokio::select! {
                biased;
                appended = append.as_mut() => break appended,
                received = self.entries.recv_many(&mut waiting, QUEUE), if !self.entries.is_closed() => {
                    lock(&self.pressure).refused(received);
                    refuse(waiting);
                }
            }
        };
        tracing::info!(seconds = began.elapsed().as_secs_f64(), "the store answers again");
        appended
    }

    /// Tells each sender, and gathers what is new. A sender hears of its smile before the tail does: its session relies
    /// on that to tell the smile from a repeat of it.
    fn answer(&self, batch: Vec<Entry>, appended: &[Appended], at: Timestamp) -> Vec<Arc<Publication>> {
        let mut stored = Vec::with_capacity(batch.len());
        for (entry, appended) in batch.into_iter().zip(appended) {
            match *appended {
                Appended::Stored(offset) => {
                    self.metrics.smiles_stored.inc();
                    entry.outcome.tell(Outcome::Stored);
                    let NewSmile { id, from, to, faces } = entry.smile;
                    let smile = Smile { offset, id, from, to, faces, at };
                    stored.push(Arc::new(Publication::new(smile, Some(entry.admitted_at))));
                }
                Appended::Duplicate(offset) => {
                    self.metrics.smiles_duplicate.inc();
                    entry.outcome.tell(Outcome::Duplicate(offset));
                }
            }
        }
        stored
    }
}

/// Tells senders that the store is away. Nothing of theirs was stored.
fn refuse(batch: Vec<Entry>) {
    for entry in batch {
        entry.outcome.tell(Outcome::Refused(Box::new(Refusal::store_unavailable())));
    }
}

fn lock(pressure: &Mutex<Pressure>) -> MutexGuard<'_, Pressure> {
    pressure.lock().unwrap_or_else(PoisonError::into_inner)
}
