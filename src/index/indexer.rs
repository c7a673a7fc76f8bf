//! The task that derives the index from the log, a segment at a time.
//!
//! On a shared store, every replica runs this task, and one replica at a time holds the claim to write. The other
//! replicas read how far the index reaches. Before it serves, a replica may have to index segments itself; for that, it
//! needs no claim: see [`open`]. A replica may die at any point: a segment counts as indexed only once all of it is
//! written, and writing it again changes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;

use super::ids::{self, Entry, Run};
use super::{BLOCKS_PER_READ, Filters, Index, end_of};
use crate::hub::{Hub, Publication};
use crate::model::{Offset, Smile};
use crate::store::{BatchKey, IdHash, IndexStep, SEGMENT, Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// The largest index lag in smiles with which a replica starts to serve. Beyond it, as after a crash under load or
/// an upgrade that carried smiles over, the replica indexes first.
const MAX_LAG_AT_START: u64 = 2 * SEGMENT;

/// Maximum number of ids that enter the filters, or leave memory, between two yields.
const IDS_PER_YIELD: u64 = 1024;

/// Maximum wait for a full segment before the task reads again how far the index reaches.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Pause after a failed step, and after a failed attempt to load the filters. The pause while another replica writes,
/// and after a write that the store has ignored, is a tenth of this time.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// If every step of the indexer fails for this long, a warning is logged, and another one after each further such
/// period. The appender and, on a shared store, the task that renews the lease report an unavailable store earlier.
const STANDSTILL: Duration = Duration::from_mins(1);

pub(crate) struct Indexer {
    index: Index,
    /// Identifies this replica in the claim to write.
    claimant: i64,
}

/// Opens the index and a tail that publishes to `hub`. Indexes full segments while the index lag exceeds
/// [`MAX_LAG_AT_START`] or retention has removed the whole next segment. Then loads into memory the smiles that are not
/// indexed. The caller must run the returned indexer.
///
/// # Errors
/// [`StoreError::Trimmed`] or [`StoreError::Replaced`] if the log is trimmed or replaced meanwhile, else
/// [`StoreError::Unavailable`].
pub(crate) async fn open(
    store: &Store,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
) -> Result<(Arc<Tail>, Index, Indexer), StoreError> {
    let mut indexed = store.indexed().await?;
    let log = store.log_state().await?;
    let mut after = log.trimmed.max(end_of(indexed));
    // A segment that retention trimmed completely before it was indexed cannot come from memory.
    while log.head.0.saturating_sub(after.0) > MAX_LAG_AT_START || log.trimmed >= end_of(indexed + 1) {
        write_from_log(store, indexed).await?;
        indexed = store.indexed().await?;
        after = log.trimmed.max(end_of(indexed));
    }
    let start = before_batch_at(store, after).await?;
    let tail = Tail::new(store.clone(), log.epoch, start, hub, Arc::clone(&metrics));
    tail.read().await?;
    // The smiles just read reached no session: the replica does not serve yet.
    metrics.smiles_published.reset();
    tail.set_indexed(after);
    let filters = Arc::new(Mutex::new(Filters::new(end_of(indexed))));
    let (loaded, segments) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(indexed)));
    let index = Index { store: store.clone(), tail: Arc::clone(&tail), filters, loaded, segments };
    Ok((tail, index.clone(), Indexer { index, claimant: rand::random() }))
}

/// The last offset before the batch that holds `offset`: a batch may span the end of a segment, and a read of the log
/// begins with a whole batch. `offset` itself if no batch holds it.
async fn before_batch_at(store: &Store, offset: Offset) -> Result<Offset, StoreError> {
    let holding = store.batch_at(offset).await?.filter(|batch| batch.last() >= offset);
    Ok(holding.map_or(offset, |batch| Offset(batch.key.first.0 - 1)))
}

async fn write_from_log(store: &Store, segment: u64) -> Result<(), StoreError> {
    let (start, end) = (end_of(segment), end_of(segment + 1));
    let mut after = before_batch_at(store, start).await?;
    let (mut smiles, mut key) = (Vec::new(), None);
    while after < end {
        let page = store.read_log(after, 64).await?;
        if page.head < end {
            return Err(StoreError::Unavailable("the log ends within the segment".into()));
        }
        let Some(last) = page.batches.last() else { break };
        (after, key) = (last.last(), Some(last.key));
        smiles.extend(page.batches.into_iter().flat_map(|batch| batch.smiles));
    }
    smiles.retain(|smile| smile.offset > start && smile.offset <= end);
    let smiles = smiles.iter().map(|smile| (store.id_hash(&smile.from, &smile.id), smile));
    write_segment(store, segment, key, smiles).await
}

impl Indexer {
    /// Loads the filters, and writes the index until the store is replaced.
    ///
    /// # Errors
    /// [`StoreError::Replaced`].
    pub(crate) async fn run(self) -> Result<(), StoreError> {
        tokio::try_join!(self.follow(), self.load_filters().map(Ok))?;
        Ok(())
    }

    async fn follow(&self) -> Result<(), StoreError> {
        // The time of the task's start, of the last successful step or of the last warning, whichever is latest.
        let mut quiet_since = Instant::now();
        let mut filled = self.index.tail.indexed();
        loop {
            let due = end_of(self.index.tail.indexed().0 / SEGMENT + 1);
            let _ = tokio::time::timeout(POLL_INTERVAL, self.fill_filters(&mut filled, due)).await;
            match self.step(filled).await {
                Ok(()) => quiet_since = Instant::now(),
                Err(StoreError::Replaced) => return Err(StoreError::Replaced),
                Err(error) => {
                    if quiet_since.elapsed() > STANDSTILL {
                        tracing::warn!(%error, "the index cannot be written; trying again");
                        quiet_since = Instant::now();
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Adds the ids after `filled` to the filters as their smiles are published, until the filters hold all ids up to
    /// `due`. The first ids of a new filter touch all of its memory pages, so adding a whole segment at once would take
    /// tens of milliseconds. Cancel safe.
    async fn fill_filters(&self, filled: &mut Offset, due: Offset) {
        let Index { tail, filters, .. } = &self.index;
        while *filled < due {
            tail.wait_for(|tail| tail.cursor() > *filled).await;
            // Retention may have removed some of the smiles.
            let from = tail.indexed().max(*filled);
            let until = tail.cursor().min(Offset(from.0 + IDS_PER_YIELD));
            let id = |Publication { hash, smile, .. }: &Publication| Entry { hash: hash.short(), offset: smile.offset };
            let ids = tail.recent.lock().range(from, until).map(|smiles| smiles.map(|one| id(one)).collect::<Vec<_>>());
            if let Some(ids) = ids {
                filters.lock().add(ids);
                *filled = until;
            }
            tokio::task::yield_now().await;
        }
    }

    /// The filters must already hold the ids up to `filled`.
    async fn step(&self, filled: Offset) -> Result<(), StoreError> {
        let Index { store, tail, segments, .. } = &self.index;
        let segment = self.read_progress(filled).await?;
        let end = end_of(segment + 1);
        if tail.cursor() < end {
            return Ok(());
        }
        if !store.claim_index(self.claimant).await? {
            tokio::time::sleep(RETRY_PAUSE / 10).await;
            return Ok(());
        }
        if segment < segments.load(Ordering::SeqCst) {
            // The database server lacks a segment that was indexed before, and memory may have dropped the smiles of
            // that segment.
            return write_from_log(store, segment).await;
        }
        // Retention may have removed the first smiles of the segment.
        let after = tail.indexed().max(end_of(segment)).min(end);
        let (last, smiles): (_, Option<Vec<_>>) = {
            let recent = tail.recent.lock();
            (recent.last, recent.range(after, end).map(|smiles| smiles.cloned().collect()))
        };
        let Some(smiles) = smiles else { return Ok(()) };
        let smiles = smiles.iter().map(|publication| (publication.hash, &publication.smile));
        write_segment(store, segment, last, smiles).await?;
        if self.read_progress(filled).await? == segment {
            // The store ignored the write: queries do not show the last published batch yet, or the log has lost its
            // end. The follower detects a lost end and makes the replica exit.
            tokio::time::sleep(RETRY_PAUSE / 10).await;
        }
        Ok(())
    }

    /// Reads the number of indexed segments. Drops their ids from memory if the filters hold them, [`IDS_PER_YIELD`] at
    /// a time, since the tail's lock blocks sessions.
    async fn read_progress(&self, filled: Offset) -> Result<u64, StoreError> {
        let Index { store, tail, segments, .. } = &self.index;
        let stored = store.indexed().await?;
        // Raised before memory drops the ids, so that look-ups detect a database server that lacks their segments.
        segments.fetch_max(stored, Ordering::SeqCst);
        let end = end_of(stored).min(filled);
        while tail.indexed() < end {
            tail.set_indexed(end.min(Offset(tail.indexed().0 + IDS_PER_YIELD)));
            tokio::task::yield_now().await;
        }
        Ok(stored)
    }

    /// Loads into the filters the ids that were indexed before startup, newest first, as far as they fit. Until they
    /// are loaded, look-ups read more runs.
    async fn load_filters(&self) {
        // The appender reports an unavailable store.
        while let Err(error) = self.load_runs().await {
            tracing::debug!(%error, "the ids of the index cannot be read yet");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        self.index.loaded.store(true, Ordering::SeqCst);
    }

    async fn load_runs(&self) -> Result<(), StoreError> {
        let Index { store, filters, .. } = &self.index;
        for run in ids::runs(store.indexed().await?) {
            if filters.lock().has_no_room_for(end_of(run.first_segment()).next()) {
                break;
            }
            let keys: Vec<_> = run.blocks().collect();
            for keys in keys.chunks(BLOCKS_PER_READ) {
                let (indexed, blocks) = store.read_blocks(keys).await?;
                if !ids::runs(indexed).contains(&run) {
                    return Err(StoreError::Unavailable("a run of ids was merged meanwhile".into()));
                }
                // Locked for each block, so that a look-up need not wait for all of them.
                for block in blocks.values() {
                    filters.lock().add(ids::entries(block));
                }
            }
            filters.lock().cover(end_of(run.first_segment()));
        }
        Ok(())
    }
}

/// Writes a segment with these smiles. For `last`, see [`IndexStep::last`].
async fn write_segment<'smiles>(
    store: &Store,
    segment: u64,
    last: Option<BatchKey>,
    smiles: impl Iterator<Item = (IdHash, &'smiles Smile)>,
) -> Result<(), StoreError> {
    let (mut entries, mut conversations) = (Vec::new(), foldhash::HashMap::<_, Vec<_>>::default());
    for (hash, Smile { offset, from, to, .. }) in smiles {
        entries.push(Entry { hash: hash.short(), offset: *offset });
        conversations.entry((from.min(to), from.max(to))).or_default().push(*offset);
    }
    let mut blocks = ids::cut(Run { tier: 0, number: segment }, entries);
    let (merges, mut superseded) = (ids::merges(segment), Vec::new());
    let inputs: Vec<_> = merges.iter().flat_map(|(run, slice)| run.inputs(*slice)).collect();
    let read = if inputs.is_empty() { HashMap::new() } else { store.read_blocks(&inputs).await?.1 };
    for (run, slice) in merges {
        let inputs = run.inputs(slice).filter_map(|key| read.get(&key));
        blocks.extend(ids::cut(run, inputs.flat_map(|block| ids::entries(block)).collect()));
        superseded.extend(run.superseded(slice));
    }
    let conversations = conversations.into_iter().collect();
    store.write_index(&IndexStep { segment, last, conversations, blocks, superseded }).await
}

/// Removes the index of the segments that retention has trimmed completely, up to the offset `trimmed`. Ids stay if
/// their run also covers later segments.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub(crate) async fn forget(store: &Store, trimmed: Offset) -> Result<(), StoreError> {
    let segments = trimmed.0 / SEGMENT;
    store.forget_index(segments, &ids::before(segments)).await
}
