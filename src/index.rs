//! The index: streams, histories and ids. Memory ([`crate::tail`]) answers for the newest smiles, and the store for the
//! older ones.
//!
//! Appending to the log is cheap because the [`Indexer`] derives the index later and in bulk, a segment of [`SEGMENT`]
//! offsets at a time.

mod filters;
mod ids;
mod indexer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use foldhash::HashMap;
use parking_lot::{Mutex, MutexGuard};

use self::filters::Filters;
use self::ids::Entry;
use crate::hub::Publication;
use crate::model::{Offset, Smile, UserName};
use crate::store::{BatchKey, IdHash, SEGMENT, Store, StoreError, ensure_indexed};
use crate::tail::{StreamPage, Tail};

pub(crate) use self::indexer::{Indexer, forget, open};

/// Number of segments of a conversation that one query reads for a history.
const SEGMENTS_PER_READ: u32 = 4;

/// Maximum number of segments that one query reads for a stream. Each query that finds nothing doubles the number, so
/// that a session of a user with few smiles catches up before its client gives up on it.
const MAX_SEGMENTS_PER_READ: u64 = 256;

/// Below the limit of [`Store::batches_at`].
const OFFSETS_PER_READ: usize = 200;

const BLOCKS_PER_READ: usize = 500;

/// Maximum number of ids in one look-up until the filters are loaded. Each id needs a block of every run that is not
/// loaded yet, and the blocks for a full batch may take nearly as long to read as the filters take to load.
const IDS_WHILE_LOADING: usize = 16;

/// A consistent view of the end of the log and of the looked-up ids.
pub(crate) struct TailView {
    pub cursor: Offset,
    /// The batch that ends at `cursor`; `None` if the log has no such batch.
    pub last: Option<BatchKey>,
    /// The offset of each looked-up id that the log holds, and perhaps of other ids with the same short hash.
    pub known: HashMap<IdHash, Offset>,
}

/// A reader of the index. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Index {
    store: Store,
    /// The end of the log, which includes all smiles that are not indexed.
    tail: Arc<Tail>,
    filters: Arc<Mutex<Filters>>,
    /// Set once the filters hold the ids that were indexed before startup, or as many of the newest ones as fit.
    loaded: Arc<AtomicBool>,
    /// The largest number of segments that this replica has found in the index. A MySQL server that takes over may lack
    /// the last of them.
    segments: Arc<AtomicU64>,
}

/// The last offset of the first `segments` segments.
fn end_of(segments: u64) -> Offset {
    Offset(segments * SEGMENT)
}

impl Index {
    /// Reads at most `limit` smiles of the user's stream after `after`, up to and including `until`, which must not be
    /// beyond the tail's cursor. A page without smiles ends at `until`, or after the last indexed segment.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when retention has removed offsets after `after`, else [`StoreError::Unavailable`].
    pub(crate) async fn stream(
        &self,
        user: &UserName,
        after: Offset,
        until: Offset,
        limit: usize,
    ) -> Result<StreamPage, StoreError> {
        let in_memory = self.tail.recent.lock().stream(user, after, until, limit);
        if let Some(page) = in_memory {
            return Ok(page);
        }
        // Memory drops only smiles that are indexed or removed by retention. So the store has the whole first segment,
        // or reports that retention has removed a part of it or that a failover has lost its index.
        let first = after.0 / SEGMENT;
        let indexed = self.segments.load(Ordering::SeqCst).max(first + 1);
        let (mut range, mut offsets) = (first..first + 1, Vec::new());
        let end = loop {
            let end = until.min(end_of(range.end));
            let found = self.store.read_segments(user, range.clone(), after).await?;
            offsets.extend(found.into_iter().filter(|offset| *offset > after && *offset <= end).take(limit));
            if !offsets.is_empty() || end == until || range.end == indexed {
                break end;
            }
            let count = (2 * (range.end - range.start)).min(MAX_SEGMENTS_PER_READ);
            range = range.end..(range.end + count).min(indexed);
        };
        let smiles = self.read_smiles(&offsets).await?;
        if smiles.len() < offsets.len() {
            return Err(StoreError::Trimmed);
        }
        let smiles = smiles.into_iter().map(|smile| Publication::replayed(&self.store, smile));
        Ok(StreamPage::new(smiles.collect(), end, limit))
    }

    /// Reads the smiles at these ascending offsets. Omits smiles that retention has removed.
    async fn read_smiles(&self, offsets: &[Offset]) -> Result<Vec<Smile>, StoreError> {
        let mut smiles = Vec::with_capacity(offsets.len());
        for offsets in offsets.chunks(OFFSETS_PER_READ) {
            let batches = self.store.batches_at(offsets).await?;
            let found = batches.into_iter().flat_map(|batch| batch.smiles);
            smiles.extend(found.filter(|smile| offsets.binary_search(&smile.offset).is_ok()));
        }
        Ok(smiles)
    }

    /// Returns the newest smiles between two users, at most `limit` and all below the offset `before` if there is one,
    /// oldest first. Also returns whether older smiles exist.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if the SQLite file was deleted or replaced, else [`StoreError::Unavailable`].
    pub(crate) async fn history(
        &self,
        users: (&UserName, &UserName),
        before: Option<Offset>,
        limit: usize,
    ) -> Result<(Vec<Smile>, bool), StoreError> {
        let wanted = limit + 1;
        let (mut smiles, newest) = self.recent_conversation(users, before.unwrap_or(Offset(u64::MAX)), wanted);
        let mut through = newest.0.checked_sub(1).map(|place| place / SEGMENT);
        if smiles.len() < wanted && through.is_some() {
            let most = self.segments.load(Ordering::SeqCst);
            ensure_indexed(self.store.indexed().await?, most)?;
        }
        while let Some(segment) = through
            && smiles.len() < wanted
        {
            let segments = self.store.read_conversation(users, segment, SEGMENTS_PER_READ).await?;
            let oldest = segments.last().and_then(|offsets| offsets.first());
            through = oldest.and_then(|oldest| ((oldest.0 - 1) / SEGMENT).checked_sub(1));
            let older = segments.iter().flat_map(|offsets| offsets.iter().rev()).filter(|offset| **offset <= newest);
            let mut offsets: Vec<_> = older.copied().take(wanted - smiles.len()).collect();
            offsets.reverse();
            smiles.extend(self.read_smiles(&offsets).await?.into_iter().rev());
        }
        let more = smiles.len() > limit;
        smiles.truncate(limit);
        smiles.reverse();
        Ok((smiles, more))
    }

    /// The newest smiles in memory between two users before `before`, at most `limit`, newest first, and the newest
    /// offset that was not searched.
    fn recent_conversation(
        &self,
        users: (&UserName, &UserName),
        mut before: Offset,
        limit: usize,
    ) -> (Vec<Smile>, Offset) {
        let mut smiles = Vec::new();
        loop {
            let recent = self.tail.recent.lock();
            let (found, after) = recent.conversation(users, before, limit - smiles.len());
            smiles.extend(found);
            let newest = Offset(after.0.min(before.0.saturating_sub(1)));
            if smiles.len() == limit || newest <= recent.start {
                return (smiles, newest);
            }
            // Otherwise this thread could take the lock again before publishing does.
            MutexGuard::unlock_fair(recent);
            before = newest.next();
        }
    }

    pub(crate) fn look_up_limit(&self) -> usize {
        if self.loaded.load(Ordering::SeqCst) { usize::MAX } else { IDS_WHILE_LOADING }
    }

    /// Looks the ids up in the index and in memory. The result is one consistent view of both.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn look_up(&self, hashes: &[IdHash]) -> Result<TailView, StoreError> {
        loop {
            // Ids enter the filters before memory drops them, so none is missed in between.
            let indexed = self.tail.indexed();
            let mut known = self.find_indexed(hashes, indexed).await?;
            let recent = self.tail.recent.lock();
            // If the index has advanced meanwhile, an id that has left memory may be in neither result.
            if recent.indexed == indexed {
                known.extend(hashes.iter().filter_map(|hash| Some((*hash, recent.find(*hash)?))));
                return Ok(TailView { cursor: recent.end(), last: recent.last, known });
            }
        }
    }

    async fn find_indexed(&self, hashes: &[IdHash], indexed: Offset) -> Result<HashMap<IdHash, Offset>, StoreError> {
        let mut candidates: Vec<_> = {
            let filters = self.filters.lock();
            let may_hold = |hash: &&IdHash| filters.may_hold(hash.short(), Offset::default(), indexed);
            hashes.iter().filter(may_hold).collect()
        };
        if !candidates.is_empty() {
            // The filters also hold ids that are not indexed yet. Memory answers for those.
            let recent = self.tail.recent.lock();
            candidates.retain(|hash| recent.find(**hash).is_none());
        }
        let candidates: Vec<_> = candidates.into_iter().map(|hash| hash.short()).collect();
        if candidates.is_empty() {
            return Ok(HashMap::default());
        }
        // Short hashes may collide, and retention may have removed a smile, so the smiles themselves are read.
        let stored = self.read_smiles(&self.read_offsets(&candidates).await?).await?;
        Ok(stored.iter().map(|smile| (self.store.id_hash(&smile.from, &smile.id), smile.offset)).collect())
    }

    /// Reads the indexed offsets of these short hashes, in order.
    async fn read_offsets(&self, candidates: &[u64]) -> Result<Vec<Offset>, StoreError> {
        // The ids of an indexed segment leave memory gradually. Once some of them have left, the segment counts as
        // indexed.
        let mut expected = self.tail.indexed().0.div_ceil(SEGMENT);
        'again: loop {
            // A set, since many ids share a block of a small run.
            let keys: BTreeSet<_> = {
                let filters = self.filters.lock();
                let runs = ids::runs(expected);
                let wanted = candidates.iter().flat_map(|hash| {
                    let filters = &filters;
                    runs.iter()
                        .filter(|run| filters.may_hold(*hash, end_of(run.first_segment()), end_of(run.end_segment())))
                        .map(|run| run.block(*hash))
                });
                wanted.collect()
            };
            let keys: Vec<_> = keys.into_iter().collect();
            let mut found = Vec::new();
            for keys in keys.chunks(BLOCKS_PER_READ) {
                // Loaded before the read, since the index may advance during it.
                let most = self.segments.load(Ordering::SeqCst);
                let (indexed, blocks) = self.store.read_blocks(keys).await?;
                ensure_indexed(indexed, most)?;
                if indexed != expected {
                    // The index has more or fewer segments than expected, and therefore different runs.
                    expected = indexed;
                    continue 'again;
                }
                let entries = blocks.values().flat_map(|block| ids::entries(block));
                let wanted = entries.filter(|entry| candidates.contains(&entry.hash));
                found.extend(wanted.map(|Entry { offset, .. }| offset));
            }
            found.sort_unstable();
            return Ok(found);
        }
    }
}
