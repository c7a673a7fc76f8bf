//! Moving the index forward: one task that derives it from the log, a segment at a time.
//!
//! On a shared log each replica has this task, and one of them at a time writes; the others learn how far the index reaches.
//! A replica may die at any point of it: a segment is written whole or not at all, and writing it again changes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::SetOnce;

use super::ids::{self, Entry};
use super::{BLOCKS, Filters, Index, end_of};
use crate::hub::{Hub, Publication};
use crate::model::{Offset, Smile, UserName};
use crate::store::{IndexStep, LogState, SEGMENT, Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// How many smiles the index may be behind when a replica begins to serve: what is more is indexed first, as the smiles of an
/// earlier version are. A replica that died may have left as many behind as appending allows.
const BEHIND_AT_START: u64 = 2 * SEGMENT;

/// Ids that move from memory into the filters without a pause.
const AT_ONCE: u64 = 1024;

/// From one look at how far another replica has moved the index to the next.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait before a segment is written again after that failed.
const RETRY: Duration = Duration::from_millis(500);

/// The index may stand still this long before it is said: of a store that is away, the appender and the lease say it.
const STANDSTILL: Duration = Duration::from_mins(1);

/// The one task that moves the index.
#[derive(Debug)]
pub struct Indexer {
    index: Index,
    /// What this replica calls itself when it asks to write.
    claimant: i64,
}

/// Opens the end of the log and the index behind it: reads what the index does not have into memory.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub async fn open(store: &Store, hub: Arc<Hub>, metrics: Arc<Metrics>) -> Result<(LogState, Indexer), StoreError> {
    let mut indexed = store.indexed().await?;
    let log = store.log_state().await?;
    let mut after = log.trimmed.max(end_of(indexed));
    // A segment that retention has removed before it was indexed is in nobody's memory.
    while log.head.0.saturating_sub(after.0) > BEHIND_AT_START || log.trimmed >= end_of(indexed + 1) {
        write_from_log(store, indexed).await?;
        indexed = store.indexed().await?;
        after = log.trimmed.max(end_of(indexed));
    }
    let tail = Tail::new(store.clone(), log.epoch.clone(), after, hub, metrics);
    // It may begin before the end of a segment, and end there or after.
    if let Some(batch) = store.batch_at(after.next()).await? {
        tail.starts_with(batch);
    }
    tail.read().await?;
    let filters = Arc::new(Mutex::new(Filters::new(end_of(indexed))));
    let index = Index { store: store.clone(), tail, filters, loaded: Arc::new(SetOnce::new()) };
    Ok((log, Indexer { index, claimant: rand::random() }))
}

/// Indexes a segment whose smiles are in the log and not in memory.
async fn write_from_log(store: &Store, segment: u64) -> Result<(), StoreError> {
    let (mut after, end) = (end_of(segment), end_of(segment + 1));
    let mut smiles = Vec::new();
    if let Some(batch) = store.batch_at(after.next()).await? {
        after = batch.smiles.last().map_or(after, |last| last.offset).max(after);
        smiles.extend(batch.smiles);
    }
    while after < end {
        let page = store.read_log(after, 64).await?;
        let Some(last) = page.batches.last().and_then(|batch| batch.smiles.last()) else { break };
        after = last.offset;
        smiles.extend(page.batches.into_iter().flat_map(|batch| batch.smiles));
    }
    smiles.retain(|smile| smile.offset > end_of(segment) && smile.offset <= end);
    let step = plan(store, segment, &smiles.iter().collect::<Vec<_>>()).await?;
    store.write_index(&step).await
}

impl Indexer {
    /// What reads the index.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// The end of the log that the index follows.
    #[must_use]
    pub fn tail(&self) -> &Tail {
        &self.index.tail
    }

    /// Moves the index for ever.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] when the store has other data than it had.
    pub async fn run(self) -> Result<(), StoreError> {
        tokio::join!(self.load_filters(), self.follow()).1
    }

    async fn follow(&self) -> Result<(), StoreError> {
        let (mut failing_since, mut said) = (None::<Instant>, false);
        loop {
            let due = end_of(self.indexed() + 1);
            let _ = tokio::time::timeout(LOOK, self.index.tail.when(|tail| tail.cursor() >= due)).await;
            match self.step().await {
                Ok(()) => {
                    if said {
                        tracing::info!("the index moves again");
                    }
                    (failing_since, said) = (None, false);
                }
                Err(StoreError::Replaced) => return Err(StoreError::Replaced),
                Err(error) => {
                    if !said && failing_since.get_or_insert_with(Instant::now).elapsed() > STANDSTILL {
                        tracing::warn!(%error, "the index cannot be written; trying again until it can");
                        said = true;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    /// Segments that this replica knows to be indexed.
    fn indexed(&self) -> u64 {
        self.index.tail.indexed().0 / SEGMENT
    }

    /// Learns how far the index is, and writes the next segment if it is complete and this replica is the one to write.
    async fn step(&self) -> Result<(), StoreError> {
        let Index { store, tail, .. } = &self.index;
        let segment = self.learn().await?;
        if tail.cursor() < end_of(segment + 1) {
            return Ok(());
        }
        if !store.claim_index(self.claimant).await? {
            // Another replica writes it.
            tokio::time::sleep(RETRY / 10).await;
            return Ok(());
        }
        let Some(smiles) = self.segment(segment) else { return Ok(()) };
        let smiles: Vec<&Smile> = smiles.iter().map(|publication| &publication.smile).collect();
        let step = plan(store, segment, &smiles).await?;
        store.write_index(&step).await?;
        self.learn().await?;
        Ok(())
    }

    /// How many segments are indexed; memory gives up their ids.
    async fn learn(&self) -> Result<u64, StoreError> {
        let stored = self.index.store.indexed().await?;
        while self.indexed() < stored && self.index.tail.cursor() >= end_of(self.indexed() + 1) {
            self.segment_is_indexed(self.indexed()).await;
        }
        Ok(stored)
    }

    /// The smiles of a segment that is not indexed yet, without those that retention has removed.
    fn segment(&self, segment: u64) -> Option<Vec<Arc<Publication>>> {
        let tail = &self.index.tail;
        let end = end_of(segment + 1);
        tail.range(tail.indexed().max(end_of(segment)).min(end), end)
    }

    /// Moves the ids of a segment from memory into the filters, a few at a time: sessions wait meanwhile.
    async fn segment_is_indexed(&self, segment: u64) {
        let tail = &self.index.tail;
        let end = end_of(segment + 1);
        while tail.indexed() < end {
            let from = tail.indexed();
            let until = Offset(from.0 + AT_ONCE).min(end);
            let Some(hashes) = tail.hashes(until) else { return };
            {
                let mut filters = self.index.filters();
                for (hash, offset) in hashes.iter().zip(from.next().0..) {
                    filters.add(hash.short(), Offset(offset));
                }
            }
            tail.index_reaches(until);
            tokio::task::yield_now().await;
        }
    }

    /// Fills the filters with what the index had at the start, the newest ids first.
    async fn load_filters(&self) {
        let mut said = false;
        loop {
            match self.load_runs().await {
                Ok(true) => break,
                // A run was merged into another one meanwhile.
                Ok(false) => {}
                Err(error) => {
                    if !said {
                        tracing::warn!(%error, "the ids of the index cannot be read; smiles wait until they can");
                        said = true;
                    }
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        // Nobody else sets it.
        let _ = self.index.loaded.set(());
    }

    /// Whether every run was there until it was read.
    async fn load_runs(&self) -> Result<bool, StoreError> {
        let runs = ids::runs(self.index.store.indexed().await?);
        for run in runs {
            if self.index.filters().has_no_room_for(end_of(run.first_segment()).next()) {
                break;
            }
            let keys: Vec<_> = run.blocks().collect();
            for keys in keys.chunks(BLOCKS) {
                let (indexed, blocks) = self.index.store.read_blocks(keys).await?;
                if !ids::runs(indexed).contains(&run) {
                    return Ok(false);
                }
                let mut filters = self.index.filters();
                for Entry { hash, offset } in blocks.values().flat_map(|block| ids::entries(block)) {
                    filters.add(hash, offset);
                }
            }
            self.index.filters().cover(end_of(run.first_segment()));
        }
        Ok(true)
    }
}

/// What the store is to write for a segment.
async fn plan<'smiles>(
    store: &Store,
    segment: u64,
    smiles: &[&'smiles Smile],
) -> Result<IndexStep<'smiles>, StoreError> {
    let hash = |smile: &Smile| store.id_hash(&smile.from, &smile.id).short();
    let entries = smiles.iter().map(|smile| Entry { hash: hash(smile), offset: smile.offset }).collect();
    let mut blocks = ids::first_run(segment, entries);
    let (merges, mut superseded) = (ids::merges(segment), Vec::new());
    let inputs: Vec<_> = merges.iter().flat_map(ids::Merge::inputs).collect();
    let read = if inputs.is_empty() { HashMap::new() } else { store.read_blocks(&inputs).await?.1 };
    for merge in merges {
        let inputs = merge.inputs().filter_map(|key| read.get(&key));
        blocks.extend(merge.outputs(inputs.flat_map(|block| ids::entries(block)).collect()));
        superseded.extend(merge.superseded());
    }
    Ok(IndexStep { segment, conversations: conversations(smiles), blocks, superseded })
}

/// The offsets of smiles by conversation.
fn conversations<'smiles>(smiles: &[&'smiles Smile]) -> Vec<((&'smiles UserName, &'smiles UserName), Vec<Offset>)> {
    let mut conversations: foldhash::HashMap<_, Vec<Offset>> = foldhash::HashMap::default();
    for smile in smiles {
        let users = ((&smile.from).min(&smile.to), (&smile.from).max(&smile.to));
        conversations.entry(users).or_default().push(smile.offset);
    }
    conversations.into_iter().collect()
}

/// Forgets what retention has removed up to `trimmed`.
///
/// # Errors
/// [`StoreError::Unavailable`].
pub async fn forget(store: &Store, trimmed: Offset) -> Result<(), StoreError> {
    let segments = trimmed.0 / SEGMENT;
    if segments == 0 {
        return Ok(());
    }
    store.forget_index(segments, &ids::before(segments)).await
}
