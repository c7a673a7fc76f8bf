//! The smiles in memory: all that are not indexed, and the newest indexed ones.

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::HashMap;

use crate::hub::Publication;
use crate::model::{Offset, Smile, UserName};
use crate::store::{BatchKey, IdHash};

/// How many of the newest smiles stay in memory even if they are indexed, until retention removes them. These smiles
/// serve clients that resume after a crash.
const KEPT_INDEXED: u64 = 65_536;

/// Maximum number of smiles that one call searches for a conversation, since publishing waits meanwhile.
const SEARCHED_AT_ONCE: usize = 1024;

pub(crate) struct StreamPage {
    /// In the order of the log.
    pub smiles: Vec<Arc<Publication>>,
    /// The page is complete up to and including this offset, which exceeds the offset `after` of the request whenever
    /// `until` does.
    pub through: Offset,
}

impl StreamPage {
    /// A page that ends at its last smile if it has `limit` smiles, else at `until`.
    pub(crate) fn new(smiles: Vec<Arc<Publication>>, until: Offset, limit: usize) -> Self {
        let full = smiles.last().filter(|_| smiles.len() == limit);
        let through = full.map_or(until, |last| last.smile.offset);
        Self { smiles, through }
    }
}

/// Consecutive smiles up to the cursor.
#[derive(Default)]
pub(crate) struct Recent {
    /// Everything after this offset is in memory.
    pub(crate) start: Offset,
    /// Everything up to this offset is in the index or removed by retention.
    pub(crate) indexed: Offset,
    pub(crate) last: Option<BatchKey>,
    smiles: VecDeque<Arc<Publication>>,
    /// The offsets of the smiles that are not indexed, by their hashes.
    offsets: HashMap<IdHash, Offset>,
    by_user: HashMap<UserName, VecDeque<Arc<Publication>>>,
}

impl Recent {
    pub(super) fn new(indexed: Offset) -> Self {
        Self { start: indexed, indexed, ..Self::default() }
    }

    /// The last offset in memory. If memory is empty, the offset before the next smile.
    pub(crate) fn end(&self) -> Offset {
        Offset(self.start.0 + self.smiles.len() as u64)
    }

    /// Adds the smile that follows the last one.
    pub(super) fn push(&mut self, publication: &Arc<Publication>) {
        let smile = &publication.smile;
        self.offsets.insert(publication.hash, smile.offset);
        for user in [&smile.from, &smile.to] {
            self.by_user.entry(user.clone()).or_default().push_back(Arc::clone(publication));
        }
        self.smiles.push_back(Arc::clone(publication));
    }

    /// The offset of a smile that is not indexed. Memory also holds indexed smiles, but this finds none of them.
    pub(crate) fn find(&self, hash: IdHash) -> Option<Offset> {
        self.offsets.get(&hash).copied()
    }

    /// The position in `smiles` of the smile after `offset`; `None` if memory does not reach back that far.
    fn place(&self, offset: Offset) -> Option<usize> {
        usize::try_from(offset.0.checked_sub(self.start.0)?).ok()
    }

    /// The smiles after `after` and up to `until`; `None` unless memory holds all of them.
    pub(crate) fn range(&self, after: Offset, until: Offset) -> Option<impl Iterator<Item = &Arc<Publication>>> {
        if after == until {
            return Some(self.smiles.range(0..0));
        }
        let (from, to) = (self.place(after)?, self.place(until)?);
        (from <= to && to <= self.smiles.len()).then(|| self.smiles.range(from..to))
    }

    /// A page of at most `limit` smiles of a user's stream after `after` and up to `until`; `None` if memory does not
    /// reach back to `after`.
    pub(crate) fn stream(&self, user: &UserName, after: Offset, until: Offset, limit: usize) -> Option<StreamPage> {
        if after < self.start {
            return None;
        }
        let stream = self.by_user.get(user).into_iter().flat_map(|smiles| {
            let first = smiles.partition_point(|publication| publication.smile.offset <= after);
            smiles.range(first..).take_while(|publication| publication.smile.offset <= until)
        });
        Some(StreamPage::new(stream.take(limit).cloned().collect(), until, limit))
    }

    /// The newest smiles in memory between two users before `before`, at most `limit`, newest first. Searches at most
    /// [`SEARCHED_AT_ONCE`] smiles of the first user, and also returns the offset after which it has searched all.
    pub(crate) fn conversation(
        &self,
        (one, other): (&UserName, &UserName),
        before: Offset,
        limit: usize,
    ) -> (Vec<Smile>, Offset) {
        let Some(smiles) = self.by_user.get(one) else { return (Vec::new(), self.start) };
        let end = smiles.partition_point(|publication| publication.smile.offset < before);
        let first = end.saturating_sub(SEARCHED_AT_ONCE);
        let searched = smiles.range(first..end).rev().map(|publication| &publication.smile);
        let between = searched.filter(|smile| smile.from == *other || smile.to == *other);
        let after = first.checked_sub(1).map_or(self.start, |place| smiles[place].smile.offset);
        (between.take(limit).cloned().collect(), after)
    }

    /// Records that all smiles up to `indexed`, or to the end of memory, are in the index or removed by retention.
    /// Drops the hashes of these smiles, and the oldest indexed smiles beyond [`KEPT_INDEXED`].
    pub(super) fn set_indexed(&mut self, indexed: Offset) {
        while self.indexed < indexed
            && let Some(publication) = self.place(self.indexed).and_then(|place| self.smiles.get(place))
        {
            self.indexed = self.indexed.next();
            // Another replica may have stored the id again once retention had removed this smile.
            if self.offsets.get(&publication.hash) == Some(&self.indexed) {
                self.offsets.remove(&publication.hash);
            }
        }
        self.forget(Offset(self.end().0.saturating_sub(KEPT_INDEXED)).min(self.indexed));
    }

    /// Drops everything up to `trimmed`, indexed or not.
    pub(super) fn trim(&mut self, trimmed: Offset) {
        self.set_indexed(trimmed);
        self.forget(trimmed);
    }

    fn forget(&mut self, until: Offset) {
        while self.start < until
            && let Some(publication) = self.smiles.pop_front()
        {
            self.start = publication.smile.offset;
            for user in [&publication.smile.from, &publication.smile.to] {
                if let Some(smiles) = self.by_user.get_mut(user) {
                    smiles.pop_front();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Faces, SmileId, Timestamp};

    fn publication(offset: u64, from: &str, to: &str) -> Arc<Publication> {
        let smile = Smile {
            offset: Offset(offset),
            id: SmileId::parse(&format!("c{offset}")).unwrap(),
            from: UserName::new(from),
            to: UserName::new(to),
            faces: Faces::parse("😀").unwrap(),
            at: Timestamp(0),
        };
        Arc::new(Publication::new(smile, hash(offset), None))
    }

    fn offsets<'recent>(smiles: impl Iterator<Item = &'recent Arc<Publication>>) -> Vec<u64> {
        smiles.map(|publication| publication.smile.offset.0).collect()
    }

    /// Smiles from offset 11 on, alternately from anna to bruno and from bruno to carla.
    fn recent(count: u64) -> Recent {
        let mut recent = Recent::new(Offset(10));
        for offset in 11..11 + count {
            let (from, to) = if offset % 2 == 1 { ("anna", "bruno") } else { ("bruno", "carla") };
            recent.push(&publication(offset, from, to));
        }
        recent
    }

    fn hash(offset: u64) -> IdHash {
        IdHash::new(&[7; 16], &UserName::new("anna"), &SmileId::parse(&format!("c{offset}")).unwrap())
    }

    #[test]
    fn memory_serves_streams_and_conversations_back_to_its_start() {
        let recent = recent(6);
        let stream = |user, after| {
            let page = recent.stream(&UserName::new(user), Offset(after), recent.end(), 9)?;
            Some(offsets(page.smiles.iter()))
        };
        assert_eq!(stream("anna", 10), Some(vec![11, 13, 15]));
        assert_eq!(stream("bruno", 13), Some(vec![14, 15, 16]));
        assert_eq!(stream("zoe", 10), Some(vec![]));
        assert_eq!(stream("anna", 9), None);
        let users = (&UserName::new("bruno"), &UserName::new("anna"));
        let (smiles, after) = recent.conversation(users, Offset(15), 9);
        let offset = |smile: &Smile| smile.offset.0;
        assert_eq!((smiles.iter().map(offset).collect(), after), (vec![13, 11], Offset(10)));
        assert_eq!(recent.range(Offset(12), Offset(15)).map(offsets), Some(vec![13, 14, 15]));
        assert!(recent.range(Offset(9), Offset(15)).is_none() && recent.range(Offset(12), Offset(17)).is_none());
    }

    #[test]
    fn a_search_for_a_conversation_stops_before_it_has_searched_all_of_memory() {
        let mut recent = Recent::new(Offset(0));
        for offset in 1..=KEPT_INDEXED {
            recent.push(&publication(offset, if offset == 1 { "zoe" } else { "bruno" }, "anna"));
        }
        let users = (&UserName::new("anna"), &UserName::new("zoe"));
        let (mut before, mut calls) = (Offset(u64::MAX), 0);
        let found = loop {
            let (smiles, after) = recent.conversation(users, before, 9);
            let searched = before.0.min(recent.end().0 + 1) - after.next().0;
            assert!(searched <= SEARCHED_AT_ONCE as u64, "one call searched {searched} smiles");
            (before, calls) = (after.next(), calls + 1);
            if after == recent.start {
                break smiles;
            }
        };
        assert_eq!((found.len(), calls), (1, 64));
    }

    #[test]
    fn ids_are_known_until_they_are_indexed() {
        let mut recent = recent(6);
        assert_eq!((recent.find(hash(13)), recent.find(hash(17))), (Some(Offset(13)), None));
        recent.set_indexed(Offset(13));
        assert_eq!((recent.find(hash(13)), recent.indexed), (None, Offset(13)));
        assert_eq!(recent.find(hash(15)), Some(Offset(15)));
        let anna = UserName::new("anna");
        assert!(recent.stream(&anna, Offset(10), recent.end(), 9).is_some(), "indexed smiles were dropped");
        recent.set_indexed(Offset(99));
        assert_eq!(recent.indexed, Offset(16), "`indexed` went beyond the end of memory");
    }

    #[test]
    fn an_id_that_is_stored_again_after_retention_stays_known() {
        let mut recent = recent(6);
        recent.push(&Arc::new(Publication::new(publication(17, "anna", "bruno").smile.clone(), hash(11), None)));
        recent.trim(Offset(12));
        assert_eq!(recent.find(hash(11)), Some(Offset(17)));
        recent.set_indexed(Offset(17));
        assert_eq!(recent.find(hash(11)), None);
    }

    #[test]
    fn old_indexed_smiles_are_dropped() {
        let mut recent = recent(KEPT_INDEXED + 100);
        recent.set_indexed(Offset(60));
        assert_eq!(recent.start, Offset(60), "smiles that are not indexed were dropped");
        recent.set_indexed(Offset(1000));
        assert_eq!(recent.start, Offset(110));
        let held = recent.stream(&UserName::new("anna"), Offset(110), recent.end(), 9).unwrap();
        assert_eq!(offsets(held.smiles.iter()).first(), Some(&111));
        assert_eq!(recent.end(), Offset(KEPT_INDEXED + 110));
    }
}
