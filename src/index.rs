//! The index: streams, histories and old ids, read from the store where it has them and from memory where it does not.
//!
//! The log is the truth and is cheap to append to; the index is derived from it later and in bulk, a segment of
//! [`SEGMENT`] offsets at a time ([`Indexer`]). What is not indexed yet is in memory ([`crate::tail`]).

mod filters;
mod ids;
mod indexer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::SetOnce;

use self::filters::Filters;
use self::ids::Entry;
use crate::hub::Publication;
use crate::model::{NewSmile, Offset, Smile, UserName};
use crate::store::{IdHash, Pages, SEGMENT, Store, StoreError};
use crate::tail::{StreamPage, Tail};

pub use self::indexer::{Indexer, forget, open};

/// Pages of a conversation that are read at once.
const PAGES: u32 = 4;

/// Blocks of ids that are read at once.
const BLOCKS: usize = 500;

/// What reads the index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Index {
    store: Store,
    tail: Tail,
    filters: Arc<Mutex<Filters>>,
    /// Set when the filters cover what the index had at the start, as far as they go.
    loaded: Arc<SetOnce<()>>,
}

/// Which of some smiles are repeats of indexed ones.
#[derive(Debug)]
pub struct Found {
    /// The last offset that the index had.
    pub indexed: Offset,
    /// By its place among those that were asked about, the offset of a smile with the same sender and id.
    pub offsets: HashMap<usize, Offset>,
}

/// The last offset of the segments before `segment`.
fn end_of(segments: u64) -> Offset {
    Offset(segments * SEGMENT)
}

impl Index {
    /// The next smiles to or from `user` above `after` and up to `until`, in order, at most `limit`, and how far they go.
    /// `until` must be at or below the tail's cursor.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when some of them are removed already, else [`StoreError::Unavailable`].
    pub async fn stream(
        &self,
        user: &UserName,
        after: Offset,
        until: Offset,
        limit: usize,
    ) -> Result<StreamPage, StoreError> {
        if let Some(page) = self.tail.stream(user, after, until, limit) {
            return Ok(page);
        }
        // Memory gives up only what is indexed, so the store has the whole segment.
        let segment = after.0 / SEGMENT;
        let until = until.min(end_of(segment + 1));
        let found = self.store.read_segment(user, segment).await?;
        if found.trimmed > after {
            return Err(StoreError::Trimmed);
        }
        let wanted = |smile: &Smile| smile.offset > after && smile.offset <= until;
        let mut smiles: Vec<Smile> = found.pages.into_iter().flatten().filter(wanted).collect();
        smiles.sort_unstable_by_key(|smile| smile.offset);
        let cut_off = smiles.len() > limit;
        smiles.truncate(limit);
        let through = smiles.last().filter(|_| cut_off).map_or(until, |last| last.offset);
        let smiles = smiles.into_iter().map(|smile| Arc::new(Publication::new(smile, None))).collect();
        Ok(StreamPage { smiles, through })
    }

    /// The newest `limit` smiles between two users below `before`, oldest first, and whether there are older ones.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn conversation(
        &self,
        users: (&UserName, &UserName),
        before: Option<Offset>,
        limit: usize,
    ) -> Result<(Vec<Smile>, bool), StoreError> {
        let before = before.unwrap_or(Offset(u64::MAX));
        let wanted = limit + 1;
        let (mut smiles, after) = self.tail.conversation(users, before, wanted);
        let indexed = Offset(after.0.min(before.0.saturating_sub(1)));
        let through_segment = indexed.0.saturating_sub(1) / SEGMENT;
        let mut skip = 0;
        while smiles.len() < wanted && indexed.0 > 0 {
            let pages = self.store.read_pages(users, Pages { through_segment, skip, limit: PAGES }).await?;
            let end = pages.len() < PAGES as usize;
            let older = pages.into_iter().flat_map(|page| page.into_iter().rev());
            // A page stays until retention has removed all of its segment.
            smiles.extend(older.filter(|smile| smile.offset <= indexed && smile.offset > self.tail.trimmed()));
            if end {
                break;
            }
            skip += PAGES;
        }
        let more = smiles.len() > limit;
        smiles.truncate(limit);
        smiles.reverse();
        Ok((smiles, more))
    }

    /// Which of these smiles, each with its hash, are repeats of indexed ones.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn find(&self, smiles: &[NewSmile], hashes: &[IdHash]) -> Result<Found, StoreError> {
        self.loaded.wait().await;
        // Ids enter the filters before memory gives them up, so none is missed between the two.
        let indexed = self.tail.indexed();
        let candidates: Vec<(usize, u64)> = {
            let filters = self.filters();
            let hashes = hashes.iter().map(|hash| hash.short()).enumerate();
            hashes.filter(|(_, hash)| filters.may_hold(*hash, Offset::default(), indexed)).collect()
        };
        let mut offsets = HashMap::new();
        if candidates.is_empty() || indexed.0 == 0 {
            return Ok(Found { indexed, offsets });
        }
        for (hash, offset) in self.stored(&candidates).await? {
            for (place, _) in candidates.iter().filter(|(_, candidate)| *candidate == hash) {
                // Two ids may have one hash, and retention may have removed the smile.
                let smile = &smiles[*place];
                let batch = self.store.batch_at(offset).await?;
                let mut stored = batch.into_iter().flat_map(|batch| batch.smiles);
                if stored.any(|stored| stored.offset == offset && stored.id == smile.id && stored.from == smile.from) {
                    offsets.insert(*place, offset);
                }
            }
        }
        Ok(Found { indexed, offsets })
    }

    /// The entries of the index with one of these hashes.
    async fn stored(&self, candidates: &[(usize, u64)]) -> Result<Vec<(u64, Offset)>, StoreError> {
        // Memory gives up a segment bit by bit, after the store has all of it.
        let mut expected = self.tail.indexed().0.div_ceil(SEGMENT);
        'again: loop {
            let keys: Vec<_> = {
                let filters = self.filters();
                let runs = ids::runs(expected);
                let wanted = candidates.iter().flat_map(|(_, hash)| {
                    let filters = &filters;
                    runs.iter()
                        .filter(|run| filters.may_hold(*hash, end_of(run.first_segment()), end_of(run.end_segment())))
                        .map(|run| run.block(*hash))
                });
                wanted.collect()
            };
            let mut found = Vec::new();
            for keys in keys.chunks(BLOCKS) {
                let (indexed, blocks) = self.store.read_blocks(keys).await?;
                if indexed != expected {
                    // Other runs were there when this was read.
                    expected = indexed;
                    continue 'again;
                }
                let entries = blocks.values().flat_map(|block| ids::entries(block));
                let wanted = entries.filter(|entry| candidates.iter().any(|(_, hash)| *hash == entry.hash));
                found.extend(wanted.map(|Entry { hash, offset }| (hash, offset)));
            }
            return Ok(found);
        }
    }

    fn filters(&self) -> MutexGuard<'_, Filters> {
        self.filters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
