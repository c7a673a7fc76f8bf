//! Smiles that are known and not yet published: they wait for those before them.
//!
//! Owns their order. Pure code: it must not know where a smile comes from, or who is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::hub::Publication;
use crate::model::Offset;

/// The smiles after the tail's cursor, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    waiting: BTreeMap<Offset, Arc<Publication>>,
}

/// What the first smile of a backlog waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is none.
    Nothing,
    /// It comes right after the cursor.
    Follows,
    /// Smiles before it are not known.
    Missing,
}

impl Backlog {
    /// Adds a smile, unless it is at or before `cursor`. What this replica handed over is kept in place of what was seen in
    /// the log: it knows when it was admitted.
    pub(super) fn add(&mut self, cursor: Offset, publication: Arc<Publication>) {
        let offset = publication.smile.offset;
        if offset > cursor && (publication.admitted_at.is_some() || !self.waiting.contains_key(&offset)) {
            self.waiting.insert(offset, publication);
        }
    }

    /// How many smiles wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What the first one waits for.
    pub(super) fn next(&self, cursor: Offset) -> Next {
        match self.waiting.first_key_value() {
            None => Next::Nothing,
            Some((first, _)) if *first == cursor.next() => Next::Follows,
            Some(_) => Next::Missing,
        }
    }

    /// Takes the smiles that come right after `cursor`, without gaps, up to the first that is to be held back.
    pub(super) fn take(
        &mut self,
        mut cursor: Offset,
        held_back: impl Fn(&Publication) -> bool,
    ) -> Vec<Arc<Publication>> {
        let mut run = Vec::new();
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() != cursor.next() || held_back(first.get()) {
                break;
            }
            cursor = *first.key();
            run.push(first.remove());
        }
        run
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::model::{Faces, Smile, SmileId, Timestamp, UserName};

    fn smile(offset: u64, admitted_at: Option<Instant>) -> Arc<Publication> {
        let smile = Smile {
            offset: Offset(offset),
            id: SmileId::parse(&format!("c{offset}")).unwrap(),
            from: UserName::new("anna"),
            to: UserName::new("bruno"),
            faces: Faces::parse("😀").unwrap(),
            at: Timestamp::from_milliseconds(0),
        };
        Arc::new(Publication::new(smile, admitted_at))
    }

    fn offsets(run: &[Arc<Publication>]) -> Vec<u64> {
        run.iter().map(|publication| publication.smile.offset.0).collect()
    }

    #[test]
    fn smiles_wait_for_those_before_them() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.next(Offset(3)), Next::Nothing);
        for offset in [6, 5, 3, 2] {
            backlog.add(Offset(3), smile(offset, None));
        }
        assert_eq!((backlog.len(), backlog.next(Offset(3))), (2, Next::Missing), "what was published is not added");
        assert!(backlog.take(Offset(3), |_| false).is_empty());
        backlog.add(Offset(3), smile(4, None));
        backlog.add(Offset(3), smile(8, None));
        assert_eq!(backlog.next(Offset(3)), Next::Follows);
        assert_eq!(offsets(&backlog.take(Offset(3), |_| false)), [4, 5, 6]);
        assert_eq!(backlog.next(Offset(6)), Next::Missing);
    }

    #[test]
    fn what_is_held_back_holds_back_what_follows() {
        let mut backlog = Backlog::default();
        for offset in 1..=3 {
            backlog.add(Offset(0), smile(offset, None));
        }
        let second = |publication: &Publication| publication.smile.offset == Offset(2);
        assert_eq!(offsets(&backlog.take(Offset(0), second)), [1]);
        assert_eq!(backlog.next(Offset(1)), Next::Follows);
        assert_eq!(offsets(&backlog.take(Offset(1), |_| false)), [2, 3]);
    }

    #[test]
    fn what_was_handed_over_goes_before_what_was_seen() {
        let now = Some(Instant::now());
        for order in [[None, now], [now, None]] {
            let mut backlog = Backlog::default();
            for admitted_at in order {
                backlog.add(Offset(0), smile(1, admitted_at));
            }
            assert_eq!(backlog.take(Offset(0), |_| false)[0].admitted_at, now);
        }
    }
}
