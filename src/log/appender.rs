//! The task that appends: it takes smiles from the queue, looks up their ids, and commits the new ones in batches.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::{HashMap, HashSet};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::outage::Outage;
use super::{AppendQueue, Submission};
use crate::hub::{Publication, Push};
use crate::index::{Index, TailView};
use crate::limits::UNAVAILABLE_AFTER;
use crate::model::{NewSmile, Offset, Smile, Timestamp};
use crate::store::{Append, AppendError, IdHash, NewBatch, Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// The index lag, in smiles, at which appending waits for the index. The wait counts as store delay, so load is shed.
pub(super) const MAX_INDEX_LAG: u64 = 40_000;

/// How long a batch may wait for more smiles while it grows.
const LINGER: Duration = Duration::from_millis(1);

const BACKLOG_TIMEOUT: Duration = Duration::from_millis(200);

/// While a batch is overdue, the queued smiles are refused at this interval.
const OVERDUE_INTERVAL: Duration = Duration::from_millis(250);

/// Bounds of the pause between two attempts to append a batch in doubt. The pause doubles after each attempt.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Pause between two attempts while the log lacks the previous batch.
const UNLINKED_RETRY: Duration = Duration::from_millis(5);

/// How long the log may lack the previous batch. On MySQL, one more attempt then uses new connections. After that, the
/// log counts as replaced.
const UNLINKED_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Appender {
    pub(super) queue: Arc<AppendQueue>,
    pub(super) store: Store,
    pub(super) tail: Arc<Tail>,
    pub(super) index: Index,
    pub(super) metrics: Arc<Metrics>,
}

impl Appender {
    /// Appends until `stop` is cancelled and the queue is empty.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when retention has removed batches that this replica has not published, and
    /// [`StoreError::Replaced`] when the log is a different one, has lost its end or was deleted.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), StoreError> {
        let mut outage = Outage::default();
        loop {
            let stopped = stop.run_until_cancelled(self.queue.filled.notified()).await.is_none();
            while let Some(began) = self.begin() {
                // All waits count as store delay, so load is shed, as during a slow commit. `stop` also stops the
                // indexer, so from then on the wait might never end.
                let indexed = self.tail.wait_for(|tail| tail.index_lag() < MAX_INDEX_LAG);
                let indexed = stop.run_until_cancelled(indexed);
                self.refuse_while(indexed, "the index is too far behind", &mut outage).await;
                self.until_backlog_clears(Instant::now() + BACKLOG_TIMEOUT).await;
                if let Store::MySql(mysql) = &self.store {
                    for batch in mysql.take_turn(self.tail.end().0).await {
                        // A batch that does not follow the cursor is read from the log later.
                        let _ = self.tail.publish_stored(batch);
                    }
                }
                self.gather(Instant::now() + LINGER).await;
                let batch = self.take();
                // The whole queue may have been refused meanwhile.
                if !batch.is_empty() {
                    self.append(batch, began, &mut outage).await?;
                }
                if let Store::MySql(mysql) = &self.store {
                    // If every smile of the batch was a duplicate or was refused, no append has ended the turn.
                    mysql.end_turn().await;
                }
                self.queue.waiting.lock().pressure.batch_ended(Instant::now());
            }
            if stopped {
                return Ok(());
            }
        }
    }

    fn begin(&self) -> Option<Instant> {
        let mut waiting = self.queue.waiting.lock();
        if waiting.entries.is_empty() {
            return None;
        }
        let (now, limit) = (Instant::now(), self.store.batch_limit().smiles.min(self.index.look_up_limit()));
        waiting.pressure.batch_began(now, limit);
        Some(now)
    }

    /// Waits until the runtime's global queue is empty, a full batch is queued or `deadline` has passed. The global
    /// queue holds the ready tasks for which the workers' own queues have no room, and tasks that other threads have
    /// woken. Most of them are sessions that are about to write the previous batch. A batch published now would reach
    /// them no sooner, and would cost each of them a second write.
    async fn until_backlog_clears(&self, deadline: Instant) {
        let (runtime, full) = (Handle::current().metrics(), self.store.batch_limit().smiles);
        let has_room = || self.queue.waiting.lock().entries.len() < full;
        while runtime.global_queue_depth() > 0 && has_room() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
    }

    /// Yields to sessions with unread frames until one scheduler turn adds nothing to the queue, a full batch is queued
    /// or `deadline` has passed. Larger batches cost less per smile, and more frames share one write.
    async fn gather(&self, deadline: Instant) {
        let limit = self.store.batch_limit();
        let mut gathered = 0;
        loop {
            tokio::task::yield_now().await;
            let waiting = self.queue.waiting.lock().entries.len();
            if waiting <= gathered || waiting >= limit.smiles || Instant::now() >= deadline {
                return;
            }
            gathered = waiting;
        }
    }

    fn take(&self) -> Vec<Submission> {
        let mut waiting = self.queue.waiting.lock();
        let smiles = waiting.entries.iter().map(|sent| &sent.smile).take(self.index.look_up_limit());
        let count = self.store.batch_limit().fitting(smiles);
        waiting.entries.drain(..count).collect()
    }

    async fn append(&self, mut batch: Vec<Submission>, began: Instant, outage: &mut Outage) -> Result<(), StoreError> {
        self.metrics.append_smiles.observe(batch.len() as f64);
        let written = self.refuse_while(self.write(&mut batch), "the store does not answer", outage).await;
        self.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
        match written {
            Ok(0) => {}
            Ok(_) => outage.ends(),
            Err(error @ (StoreError::Trimmed | StoreError::Replaced)) => return Err(error),
            Err(error) => {
                outage.begins(&error);
                refuse(batch);
            }
        }
        Ok(())
    }

    /// Waits for `done`. Once the wait has taken [`UNAVAILABLE_AFTER`], and again after each [`OVERDUE_INTERVAL`],
    /// refuses the queued smiles. By then [`AppendQueue::submit`] refuses new ones, since the batch is overdue. The
    /// smiles of a batch that is being written must wait, since their outcome is unknown.
    async fn refuse_while<T>(&self, done: impl Future<Output = T>, why: &str, outage: &mut Outage) -> T {
        let mut done = pin!(done);
        let mut deadline = Instant::now() + UNAVAILABLE_AFTER;
        loop {
            if let Ok(done) = tokio::time::timeout_at(deadline.into(), done.as_mut()).await {
                return done;
            }
            outage.begins(&why);
            refuse(std::mem::take(&mut self.queue.waiting.lock().entries));
            deadline += OVERDUE_INTERVAL;
        }
    }

    /// Answers the repeats in a batch, and appends and publishes the other smiles. Starts over whenever another replica
    /// takes the offset first. Returns the number of appended smiles. After [`StoreError::Unavailable`], the batch
    /// holds the smiles that were not stored.
    async fn write(&self, batch: &mut Vec<Submission>) -> Result<usize, StoreError> {
        let (at, mut appended) = (Timestamp::now(), 0);
        while !batch.is_empty() {
            let hashes: Vec<_> = batch.iter().map(|sent| sent.hash).collect();
            let TailView { last, cursor, known } = self.index.look_up(&hashes).await?;
            self.answer_known(batch, &known);
            let new = move_repeats_to_end(batch);
            if batch.is_empty() {
                break;
            }
            let row = self.store.new_batch(last, cursor, batch[..new].iter().map(|sent| &sent.smile), at);
            if self.settle(&row).await? == Append::Done {
                let stored = batch.drain(..new).zip(row.key.first.0..).map(|(sent, offset)| {
                    let NewSmile { id, from, to, faces } = sent.smile;
                    let smile = Smile { offset: Offset(offset), id, from, to, faces, at };
                    Arc::new(Publication::new(smile, sent.hash, Some(sent.admitted_at)))
                });
                self.tail.publish(row.key, &stored.collect::<Vec<_>>())?;
                self.metrics.smiles_stored.inc_by(new as u64);
                appended += new;
            } else {
                // Another replica took the offset, and its batch may hold the same ids.
                self.tail.read().await?;
            }
        }
        Ok(appended)
    }

    fn answer_known(&self, batch: &mut Vec<Submission>, known: &HashMap<IdHash, Offset>) {
        for sent in batch.extract_if(.., |sent| known.contains_key(&sent.hash)) {
            self.metrics.smiles_duplicate.inc();
            sent.outbox.push(Push::Duplicate(sent.smile.id, known[&sent.hash]));
        }
    }

    /// Appends one batch, and retries until the outcome is certain or the log counts as replaced. After
    /// [`StoreError::Unavailable`] the batch is not in the log; after [`StoreError::Replaced`] its outcome may be
    /// unknown.
    async fn settle(&self, batch: &NewBatch) -> Result<Append, StoreError> {
        let (mut pause, mut unlinked_since) = (Duration::ZERO, None);
        let (mut in_doubt, mut follower_has_read, mut reconnected) = (false, false, false);
        loop {
            let attempt = async {
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                self.store.append(batch).await
            };
            let attempt = tokio::select! {
                biased;
                attempt = attempt => attempt,
                // The follower has published a batch at this offset. The store answers again, so retry immediately.
                () = self.tail.wait_for(|tail| tail.cursor() >= batch.key.first), if in_doubt && !follower_has_read => {
                    (follower_has_read, pause) = (true, Duration::ZERO);
                    continue;
                }
            };
            let error = match attempt {
                Ok(Append::Unlinked) => {
                    if unlinked_since.get_or_insert_with(Instant::now).elapsed() > UNLINKED_TIMEOUT {
                        // The server may no longer be the primary: ask once more over new connections.
                        if reconnected || !self.store.connect_again() {
                            return Err(StoreError::Replaced);
                        }
                        reconnected = true;
                    }
                    pause = UNLINKED_RETRY;
                    continue;
                }
                Ok(append) => return Ok(append),
                Err(AppendError::Replaced) => return Err(StoreError::Replaced),
                Err(AppendError::NotStored(error)) if !in_doubt => return Err(StoreError::Unavailable(error)),
                // This attempt or an earlier one may have committed, or may still commit.
                Err(AppendError::NotStored(error) | AppendError::InDoubt(error)) => error,
            };
            tracing::debug!(%error, "a batch is in doubt; appending it again");
            // A server that answers after an outage may still be applying the log, so the time limit for a missing
            // batch starts over.
            (in_doubt, unlinked_since, reconnected) = (true, None, false);
            pause = (pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        }
    }
}

/// A repeat is answered once the earlier smile with its id is in the log. Returns the number of smiles before the
/// repeats.
fn move_repeats_to_end(batch: &mut Vec<Submission>) -> usize {
    let mut ids = HashSet::default();
    let repeats: Vec<_> = batch.extract_if(.., |sent| !ids.insert(sent.hash)).collect();
    let firsts = batch.len();
    batch.extend(repeats);
    firsts
}

fn refuse(smiles: Vec<Submission>) {
    for sent in smiles {
        sent.outbox.push(Push::Refused(sent.smile.id));
    }
}
