//! The task that appends: it empties the queue, looks up each id once, and commits batches.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::outage::{Outage, STUMBLE};
use super::{Log, Submission};
use crate::hub::{Publication, Push};
use crate::index::Index;
use crate::limits::UNAVAILABLE_AFTER;
use crate::model::{NewSmile, Offset, Smile, Timestamp};
use crate::store::{Append, AppendError, Error, IdHash, NewBatch, Store, StoreError};
use crate::tail::{Tail, TailView};
use crate::telemetry::Metrics;

/// The largest index lag in smiles. Past it appending waits for the index, and the delay sheds load.
const MAX_INDEX_LAG: u64 = 40_000;

/// How long a growing batch may gather.
const LINGER: Duration = Duration::from_millis(1);

/// How long a batch may wait for a backlog of sessions.
const BACKLOG_TIMEOUT: Duration = Duration::from_millis(200);

/// Back-off between two attempts for a batch in doubt: doubles from the shortest to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Pause between two attempts while the previous batch is missing, and how long it may be missing before the log counts
/// as replaced.
const UNLINKED_RETRY: Duration = Duration::from_millis(5);
const UNLINKED_TIMEOUT: Duration = Duration::from_secs(5);

/// The task that appends. One runs per replica.
#[derive(Debug)]
pub(crate) struct Appender {
    log: Arc<Log>,
    writer: Writer,
    outage: Outage,
    metrics: Arc<Metrics>,
}

/// Looks up, appends and publishes batches.
#[derive(Debug)]
struct Writer {
    store: Store,
    tail: Arc<Tail>,
    index: Index,
}

/// The outcome of a batch.
#[derive(Debug, Default)]
struct Appended {
    /// The offsets of the duplicates, by index in the batch.
    duplicates: HashMap<usize, Offset>,
    /// Why the remaining smiles were not stored; `None` if they were.
    refused: Option<Error>,
}

impl Appender {
    pub(super) fn new(log: Arc<Log>, store: Store, tail: Arc<Tail>, index: Index, metrics: Arc<Metrics>) -> Self {
        Self { log, writer: Writer { store, tail, index }, outage: Outage::default(), metrics }
    }

    /// Appends until `stop`, then appends the rest of the queue.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] or [`StoreError::Replaced`] when the log no longer matches what this replica published.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        loop {
            let filled = stop.run_until_cancelled(self.log.filled.notified()).await;
            while let Some(began) = self.begin() {
                // All waits count as store delay, so they shed load as a slow commit does.
                self.writer.tail.wait_for(|tail| tail.index_lag() < MAX_INDEX_LAG).await;
                self.wait_for_backlog(began + BACKLOG_TIMEOUT).await;
                self.writer.take_turn().await;
                self.gather(Instant::now() + LINGER).await;
                let batch = self.take();
                self.append(batch, began).await?;
            }
            if filled.is_none() {
                return Ok(());
            }
        }
    }

    /// Starts the clock of the next batch if the queue has smiles.
    fn begin(&self) -> Option<Instant> {
        let mut waiting = self.log.waiting.lock();
        if waiting.entries.is_empty() {
            return None;
        }
        let now = Instant::now();
        waiting.pressure.batch_began(now);
        Some(now)
    }

    /// Waits while more tasks are ready than the workers' own queues hold, unless a full batch is queued. Most of these
    /// are the sessions of the previous batch: a batch published now would reach each of them no sooner, and cost each a
    /// second write.
    async fn wait_for_backlog(&self, deadline: Instant) {
        let (runtime, full) = (Handle::current().metrics(), self.writer.store.batch_limit().smiles);
        let has_room = || self.log.waiting.lock().entries.len() < full;
        while runtime.global_queue_depth() > 0 && has_room() && Instant::now() < deadline {
            tokio::task::yield_now().await;
        }
    }

    /// Yields to sessions with unread frames until one scheduler turn adds nothing to the queue. Larger batches cost
    /// less per smile, and more frames share one write.
    async fn gather(&self, deadline: Instant) {
        let limit = self.writer.store.batch_limit();
        let mut gathered = 0;
        loop {
            tokio::task::yield_now().await;
            let waiting = self.log.waiting.lock().entries.len();
            if waiting <= gathered || waiting >= limit.smiles || Instant::now() >= deadline {
                return;
            }
            gathered = waiting;
        }
    }

    fn take(&self) -> Vec<Submission> {
        let mut waiting = self.log.waiting.lock();
        let count = self.writer.store.batch_limit().fitting(waiting.entries.iter().map(|sent| &sent.smile));
        waiting.entries.drain(..count).collect()
    }

    async fn append(&mut self, batch: Vec<Submission>, began: Instant) -> Result<(), StoreError> {
        self.metrics.append_smiles.observe(batch.len() as f64);
        let senders: Vec<_> = batch.iter().map(|sent| (Arc::clone(&sent.sender), sent.smile.id.clone())).collect();
        let appended = self.store_answers(batch, began).await?;
        self.metrics.append_seconds.observe(began.elapsed().as_secs_f64());
        match &appended.refused {
            Some(error) => {
                self.outage.begins(error);
                self.outage.refused(senders.len() - appended.duplicates.len());
            }
            None => self.outage.ends(),
        }
        for (place, (sender, id)) in senders.into_iter().enumerate() {
            match appended.duplicates.get(&place) {
                Some(offset) => {
                    self.metrics.smiles_duplicate.inc();
                    sender.push(Push::Duplicate(id, *offset));
                }
                None if appended.refused.is_some() => sender.push(Push::Refused(id)),
                None => self.metrics.smiles_stored.inc(),
            }
        }
        self.log.waiting.lock().pressure.batch_ended(Instant::now());
        Ok(())
    }

    /// Appends a batch. While the store does not answer, refuses the queued smiles at once; only the smiles in the
    /// batch must wait, since their outcome is unknown.
    async fn store_answers(&mut self, batch: Vec<Submission>, began: Instant) -> Result<Appended, StoreError> {
        let (smiles, admitted): (Vec<_>, Vec<_>) = batch.into_iter().map(|sent| (sent.smile, sent.admitted_at)).unzip();
        let mut append = pin!(self.writer.append(smiles, &admitted));
        if let Ok(appended) = tokio::time::timeout_at((began + UNAVAILABLE_AFTER).into(), append.as_mut()).await {
            return appended;
        }
        loop {
            self.outage.begins(&"it does not answer");
            let waiting = std::mem::take(&mut self.log.waiting.lock().entries);
            self.outage.refused(waiting.len());
            for sent in waiting {
                sent.sender.push(Push::Refused(sent.smile.id));
            }
            tokio::select! {
                biased;
                appended = append.as_mut() => return appended,
                () = self.log.filled.notified() => {}
                // The outage is logged by then.
                () = tokio::time::sleep(STUMBLE) => {}
            }
        }
    }
}

impl Writer {
    /// Waits for this replica's turn on a shared store.
    async fn take_turn(&self) {
        for batch in self.store.take_turn(self.tail.cursor()).await {
            // A batch that does not follow the cursor is read from the log later.
            let _ = self.tail.publish_stored(batch);
        }
    }

    /// Appends the new smiles of a batch. Starts over whenever another replica takes the offset first.
    async fn append(&self, smiles: Vec<NewSmile>, admitted: &[Instant]) -> Result<Appended, StoreError> {
        let at = Timestamp::now();
        let hashes: Vec<_> = smiles.iter().map(|smile| self.store.id_hash(&smile.from, &smile.id)).collect();
        loop {
            let TailView { last, cursor, known, .. } = match self.index.look_up(&smiles, &hashes).await {
                Ok(lookup) => lookup,
                Err(error) => return Ok(Appended { refused: Some(error.into()), ..Appended::default() }),
            };
            let duplicates = with_repeats(&hashes, cursor, &known);
            if duplicates.len() == smiles.len() {
                return Ok(Appended { duplicates, refused: None });
            }
            let is_new = |place: usize| !duplicates.contains_key(&place);
            let new = smiles.iter().enumerate().filter(|(place, _)| is_new(*place)).map(|(_, smile)| smile);
            let row = self.store.new_batch(last, cursor, new, at);
            match self.settle(&row).await? {
                Ok(Append::Done) => {
                    let places = smiles.into_iter().enumerate().filter(|(place, _)| is_new(*place));
                    let publications = places.zip(cursor.next().0..).map(|((place, smile), offset)| {
                        let NewSmile { id, from, to, faces } = smile;
                        let smile = Smile { offset: Offset(offset), id, from, to, faces, at };
                        (Arc::new(Publication::new(smile, Some(admitted[place]))), hashes[place])
                    });
                    // Fails only if the follower has already published this batch.
                    let _ = self.tail.publish(row.key, &publications.collect::<Vec<_>>());
                    return Ok(Appended { duplicates, refused: None });
                }
                // Another replica took the offset, and its batch may hold the same ids.
                Ok(_) => self.read_until_after(cursor).await?,
                Err(error) => return Ok(Appended { duplicates: known, refused: Some(error) }),
            }
        }
    }

    /// Retries one batch until its outcome is certain. The inner error says why the batch is not in the log.
    async fn settle(&self, batch: &NewBatch) -> Result<Result<Append, Error>, StoreError> {
        let (mut tries, mut pause, began) = (0_u32, Duration::ZERO, Instant::now());
        let (mut follower_has_read, mut reconnected) = (false, false);
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
                // The follower has read a batch at this offset: the store answers again, so a pending attempt is lost.
                () = self.tail.wait_for(|tail| tail.cursor() >= batch.key.first), if tries > 0 && !follower_has_read => {
                    (follower_has_read, pause) = (true, Duration::ZERO);
                    continue;
                }
            };
            let error = match attempt {
                Ok(Append::Unlinked) if began.elapsed() > UNLINKED_TIMEOUT => {
                    // The server may no longer be the primary: ask once more over new connections.
                    if reconnected || !self.store.connect_again() {
                        return Err(StoreError::Replaced);
                    }
                    reconnected = true;
                    continue;
                }
                Ok(Append::Unlinked) => {
                    pause = UNLINKED_RETRY;
                    continue;
                }
                Ok(append) => return Ok(Ok(append)),
                Err(AppendError::Replaced) => return Err(StoreError::Replaced),
                Err(AppendError::NotBegun(error)) if tries == 0 => return Ok(Err(error)),
                // An earlier attempt may have committed, or may still commit.
                Err(AppendError::NotBegun(error) | AppendError::InDoubt(error)) => error,
            };
            tries += 1;
            if tries == 1 {
                tracing::warn!(%error, "a batch is in doubt; appending it again");
            }
            pause = SHORTEST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
        }
    }

    /// Publishes the batches of other replicas until the tail has passed `cursor`.
    async fn read_until_after(&self, cursor: Offset) -> Result<(), StoreError> {
        while self.tail.cursor() <= cursor {
            match self.tail.read().await {
                Ok(_) if self.tail.cursor() > cursor => return Ok(()),
                Ok(_) => {}
                Err(error @ (StoreError::Trimmed | StoreError::Replaced)) => return Err(error),
                Err(error) => tracing::debug!(%error, "cannot read the batch of another replica yet"),
            }
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
        Ok(())
    }
}

/// Adds to `known` the smiles that repeat an earlier one of the same batch. Their offset is the earlier smile's, as it
/// is or as it will be once the new smiles are appended after `cursor`.
fn with_repeats(hashes: &[IdHash], cursor: Offset, known: &HashMap<usize, Offset>) -> HashMap<usize, Offset> {
    let mut duplicates = known.clone();
    let mut firsts = foldhash::HashMap::<_, Offset>::default();
    let mut next = cursor.next();
    for (place, hash) in hashes.iter().enumerate() {
        match firsts.entry(hash) {
            Entry::Occupied(first) => {
                duplicates.insert(place, *first.get());
            }
            Entry::Vacant(vacant) => {
                let offset = known.get(&place).copied().unwrap_or(next);
                if offset == next {
                    next = next.next();
                }
                vacant.insert(offset);
            }
        }
    }
    duplicates
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreUrl;
    use crate::model::{SmileId, UserName};

    #[tokio::test]
    async fn repeats_within_a_batch_get_the_first_offset() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreUrl::Sqlite(folder.path().join("chat.db"))).await.unwrap();
        let hash = |id| store.id_hash(&UserName::new("anna"), &SmileId::parse(id).unwrap());
        let hashes = ["a", "b", "a", "c", "b"].map(hash);
        let known = HashMap::from([(1, Offset(3))]);
        let duplicates = with_repeats(&hashes, Offset(7), &known);
        assert_eq!(duplicates, HashMap::from([(1, Offset(3)), (2, Offset(8)), (4, Offset(3))]));
    }
}
