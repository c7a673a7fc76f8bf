//! Appending: the one task that empties the queue, judges each id once, and commits.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::outage::{Outage, STUMBLE};
use super::{Queue, Submission};
use crate::hub::{Outbox, Outcome, Publication};
use crate::index::{Found, Index};
use crate::limits::AWAY_AFTER;
use crate::model::{NewSmile, Offset, Smile, SmileId, Timestamp};
use crate::protocol::Refusal;
use crate::store::{Append, AppendError, BatchKey, Error, IdHash, LARGEST_BATCH, NewBatch, Store, StoreError, fitting};
use crate::tail::Tail;
use crate::telemetry::{Metrics, observe};

/// How far the index may be behind. Past it appending waits for the index, and the store's delay sheds.
const BEHIND: u64 = 40_000;

/// How long a batch may gather while it grows.
const LINGER: Duration = Duration::from_millis(1);

/// How long to wait before a batch in doubt is tried again: doubled from one try to the next.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// From one look for the batch before this one to the next, and how long it may be missing before the log is taken for
/// another one.
const NOT_YET: Duration = Duration::from_millis(5);
const UNLINKED: Duration = Duration::from_secs(5);

/// The one task that appends.
#[derive(Debug)]
pub struct Appender {
    queue: Arc<Queue>,
    writer: Writer,
    outage: Outage,
    metrics: Arc<Metrics>,
}

/// What a batch goes through.
#[derive(Debug)]
struct Writer {
    store: Store,
    tail: Tail,
    index: Index,
}

/// What is known of the smiles of a batch before it is appended.
#[derive(Debug)]
struct Judged {
    /// The batch that the log ends with.
    previous: Option<BatchKey>,
    /// Where it ends: this was looked at up to here.
    cursor: Offset,
    /// By place, the offset of each smile that was stored before.
    known: HashMap<usize, Offset>,
}

/// What became of the smiles of a batch.
#[derive(Debug, Default)]
struct Appended {
    /// By place in the batch, the offset of each smile that was stored before.
    duplicates: HashMap<usize, Offset>,
    /// Why the others were not stored, if they were not.
    refused: Option<Error>,
}

impl Appender {
    pub(super) fn new(queue: Arc<Queue>, store: Store, tail: Tail, index: Index, metrics: Arc<Metrics>) -> Self {
        Self { queue, writer: Writer { store, tail, index }, outage: Outage::default(), metrics }
    }

    /// Appends until `stop`, and then what is still in the queue.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] and [`StoreError::Replaced`]: the log is not what this replica has published.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), StoreError> {
        loop {
            let filled = stop.run_until_cancelled(self.queue.filled.notified()).await;
            while let Some(began) = self.begin() {
                // Both waits count as the store's delay, so that they shed as a slow commit does.
                self.writer.tail.when(|tail| tail.behind() < BEHIND).await;
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

    /// When the next batch begins, if there is something to append.
    fn begin(&self) -> Option<Instant> {
        let mut waiting = self.queue.waiting();
        if waiting.entries.is_empty() {
            return None;
        }
        let now = Instant::now();
        waiting.pressure.batch_began(now);
        Some(now)
    }

    /// Lets the sessions that have a frame to read do so and join the batch, until one turn of the scheduler brings nothing
    /// more. The more a commit carries, the less of it each smile pays, and the more frames go out in one write.
    async fn gather(&self, deadline: Instant) {
        let mut gathered = 0;
        loop {
            tokio::task::yield_now().await;
            let waiting = self.queue.waiting().entries.len();
            if waiting <= gathered || waiting >= LARGEST_BATCH || Instant::now() >= deadline {
                return;
            }
            gathered = waiting;
        }
    }

    fn take(&self) -> Vec<Submission> {
        let mut waiting = self.queue.waiting();
        let count = fitting(waiting.entries.iter().map(|sent| &sent.smile));
        waiting.pressure.no_longer_wait(count);
        waiting.entries.drain(..count).collect()
    }

    async fn append(&mut self, batch: Vec<Submission>, began: Instant) -> Result<(), StoreError> {
        self.metrics.append_smiles.observe(batch.len() as f64);
        let senders: Vec<_> = batch.iter().map(|sent| (Arc::clone(&sent.sender), sent.smile.id.clone())).collect();
        let appended = self.store_answers(batch, began).await?;
        observe(&self.metrics.append_seconds, began.elapsed());
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
                    sender.answer(id, Outcome::Duplicate(*offset));
                }
                None if appended.refused.is_some() => refuse(&sender, id),
                None => self.metrics.smiles_stored.inc(),
            }
        }
        self.queue.waiting().pressure.batch_ended(Instant::now());
        Ok(())
    }

    /// Appends, and refuses what waits meanwhile when the store turns out to be away: only of the smiles that it was given
    /// is it not known yet what becomes of them, and nobody can be told anything.
    async fn store_answers(&mut self, batch: Vec<Submission>, began: Instant) -> Result<Appended, StoreError> {
        let (smiles, admitted): (Vec<_>, Vec<_>) = batch.into_iter().map(|sent| (sent.smile, sent.admitted_at)).unzip();
        let mut append = pin!(self.writer.append(smiles, &admitted));
        if let Ok(appended) = tokio::time::timeout_at((began + AWAY_AFTER).into(), append.as_mut()).await {
            return appended;
        }
        loop {
            self.outage.begins(&"it does not answer");
            let waiting = {
                let mut waiting = self.queue.waiting();
                let entries = std::mem::take(&mut waiting.entries);
                waiting.pressure.no_longer_wait(entries.len());
                entries
            };
            self.outage.refused(waiting.len());
            for sent in waiting {
                refuse(&sent.sender, sent.smile.id);
            }
            tokio::select! {
                biased;
                appended = append.as_mut() => return appended,
                () = self.queue.filled.notified() => {}
                // By then it is said.
                () = tokio::time::sleep(STUMBLE) => {}
            }
        }
    }
}

impl Writer {
    /// Waits for this replica's turn where other replicas append as well.
    async fn take_turn(&self) {
        if let Store::MySql(store) = &self.store {
            for batch in store.take_turn(self.tail.cursor()).await {
                // What does not follow is read from the log when it is in the way.
                let _ = self.tail.publish_stored(batch);
            }
        }
    }

    /// Appends those smiles of a batch that are new, however often other replicas come first.
    async fn append(&self, smiles: Vec<NewSmile>, admitted: &[Instant]) -> Result<Appended, StoreError> {
        let at = Timestamp::now();
        let hashes: Vec<_> = smiles.iter().map(|smile| self.store.id_hash(&smile.from, &smile.id)).collect();
        loop {
            let Judged { previous, cursor, known } = match self.judge(&smiles, &hashes).await {
                Ok(judged) => judged,
                Err(error) => return Ok(Appended { refused: Some(error.into()), ..Appended::default() }),
            };
            let duplicates = with_repeats(&hashes, cursor, &known);
            if duplicates.len() == smiles.len() {
                return Ok(Appended { duplicates, refused: None });
            }
            let is_new = |place: usize| !duplicates.contains_key(&place);
            let some: Vec<NewSmile>;
            let new = if duplicates.is_empty() {
                &smiles
            } else {
                let places = smiles.iter().enumerate().filter(|(place, _)| is_new(*place));
                some = places.map(|(_, smile)| smile.clone()).collect();
                &some
            };
            let row = self.store.new_batch(previous, cursor, new, at);
            match self.settle(&row).await? {
                Ok(Append::Done) => {
                    let places = smiles.into_iter().enumerate().filter(|(place, _)| is_new(*place));
                    let publications = places.zip(cursor.next().0..).map(|((place, smile), offset)| {
                        let NewSmile { id, from, to, faces } = smile;
                        let smile = Smile { offset: Offset(offset), id, from, to, faces, at };
                        (Arc::new(Publication::new(smile, Some(admitted[place]))), hashes[place])
                    });
                    // It follows the cursor, unless the binary log has brought it here already.
                    let _ = self.tail.publish(row.key, &publications.collect::<Vec<_>>());
                    return Ok(Appended { duplicates, refused: None });
                }
                // Another replica was first, and its batch may hold the same ids.
                Ok(_) => self.read_until_after(cursor).await?,
                Err(error) => return Ok(Appended { duplicates: known, refused: Some(error) }),
            }
        }
    }

    /// Looks for these smiles in all of the log that is known.
    async fn judge(&self, smiles: &[NewSmile], hashes: &[IdHash]) -> Result<Judged, StoreError> {
        let mut found: Option<Found> = None;
        loop {
            let view = self.tail.judge(hashes);
            match found {
                Some(found) if found.indexed == view.indexed => {
                    let mut known = found.offsets;
                    known.extend(view.known.iter().zip(0..).filter_map(|(offset, place)| Some((place, (*offset)?))));
                    return Ok(Judged { previous: view.last, cursor: view.cursor, known });
                }
                // The index has moved since it was asked.
                _ => found = Some(self.index.find(smiles, hashes).await?),
            }
        }
    }

    /// Tries to append until it is known whether the batch is in the log, however long the store is away. The error says
    /// why it is not.
    async fn settle(&self, batch: &NewBatch) -> Result<Result<Append, Error>, StoreError> {
        let (mut tries, mut pause, began) = (0_u32, Duration::ZERO, Instant::now());
        let (mut read_on, mut asked_again) = (false, false);
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
                // The follower has read a batch at this offset. So the store answers again, and an attempt that still waits
                // is one that it did not get.
                () = self.tail.when(|tail| tail.cursor() >= batch.key.first), if tries > 0 && !read_on => {
                    (read_on, pause) = (true, Duration::ZERO);
                    continue;
                }
            };
            let error = match attempt {
                Ok(Append::Unlinked) if began.elapsed() > UNLINKED => match &self.store {
                    // A server that is no longer the primary is no judge.
                    Store::MySql(store) if !asked_again => {
                        asked_again = true;
                        store.connect_again();
                        continue;
                    }
                    _ => return Err(StoreError::Replaced),
                },
                Ok(Append::Unlinked) => {
                    pause = NOT_YET;
                    continue;
                }
                Ok(append) => return Ok(Ok(append)),
                Err(AppendError::Replaced) => return Err(StoreError::Replaced),
                Err(AppendError::NotBegun(error)) if tries == 0 => return Ok(Err(error)),
                // An earlier try may have taken place, or may yet.
                Err(AppendError::NotBegun(error) | AppendError::InDoubt(error)) => error,
            };
            tries += 1;
            if tries == 1 {
                tracing::warn!(%error, "it is not known yet whether a batch is in the log; trying again");
            }
            pause = SHORTEST_PAUSE.saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
        }
    }

    /// Publishes what other replicas have appended after `cursor`.
    async fn read_until_after(&self, cursor: Offset) -> Result<(), StoreError> {
        while self.tail.cursor() <= cursor {
            match self.tail.read().await {
                Ok(_) if self.tail.cursor() > cursor => return Ok(()),
                Ok(_) => {}
                Err(error @ (StoreError::Trimmed | StoreError::Replaced)) => return Err(error),
                Err(error) => tracing::debug!(%error, "what another replica has appended cannot be read yet"),
            }
            tokio::time::sleep(SHORTEST_PAUSE).await;
        }
        Ok(())
    }
}

/// The smiles that are `known`, and those that repeat an earlier one of the same batch, each with the offset that this one
/// has, or will have when the rest is appended after `cursor`.
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

/// Tells a session that the store is away. The smile of that id was not stored.
fn refuse(sender: &Outbox, id: SmileId) {
    sender.answer(id, Outcome::Refused(Box::new(Refusal::store_unavailable())));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreUrl;
    use crate::model::{SmileId, UserName};

    #[tokio::test]
    async fn of_several_with_one_id_the_first_counts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreUrl::Sqlite(folder.path().join("chat.db"))).await.unwrap();
        let hash = |id| store.id_hash(&UserName::new("anna"), &SmileId::parse(id).unwrap());
        let hashes = ["a", "b", "a", "c", "b"].map(hash);
        let known = HashMap::from([(1, Offset(3))]);
        let duplicates = with_repeats(&hashes, Offset(7), &known);
        assert_eq!(duplicates, HashMap::from([(1, Offset(3)), (2, Offset(8)), (4, Offset(3))]));
    }
}
