//! Bloom filters of the newest ids (B. H. Bloom, 1970). They have no false negatives and few false positives,
//! so while they cover the whole index, almost every new id is known to be new without a query.

use std::collections::BTreeMap;

use fastbloom::BloomFilter;

use super::ids::Entry;
use crate::model::Offset;

/// Number of offsets that one filter covers. Each filter costs the look-up of a new id one or two cache misses, so
/// there are few filters and each is large.
const GENERATION: u64 = 1 << 23;

/// Number of bits in a filter: 20 per offset. A full filter gives about one false positive in 7,000 look-ups.
const BITS: usize = 20 << 23;

const HASHES: u32 = 8;

/// Maximum number of filters, of 20 MiB each. If the index has ids that are too old for the filters, every look-up also
/// reads a block of each run that holds such ids.
const MAX_FILTERS: usize = 3;

pub(super) struct Filters {
    generations: BTreeMap<u64, BloomFilter>,
    /// Every indexed id after this offset is in a filter.
    after: Offset,
    /// The last offset of the generations whose ids were dropped or omitted to make room for newer ones.
    dropped: Offset,
}

impl Filters {
    /// Empty filters that cover the ids after `after`, none of which is indexed yet.
    pub(super) fn new(after: Offset) -> Self {
        Self { generations: BTreeMap::new(), after, dropped: Offset::default() }
    }

    /// Adds ids, whether or not they are indexed yet. Omits ids that the filters have no room for, and drops the oldest
    /// filter to make room for newer ids.
    pub(super) fn add(&mut self, ids: impl IntoIterator<Item = Entry>) {
        for Entry { hash, offset } in ids {
            let generation = offset.0 / GENERATION;
            if self.has_no_room_for(offset) {
                self.give_up(generation);
                continue;
            }
            let filter = || BloomFilter::with_num_bits(BITS).hashes(HASHES);
            self.generations.entry(generation).or_insert_with(filter).insert_hash(hash);
            while self.generations.len() > MAX_FILTERS
                && let Some((oldest, _)) = self.generations.pop_first()
            {
                self.give_up(oldest);
            }
        }
    }

    /// Records that not all ids of a generation are in a filter.
    fn give_up(&mut self, generation: u64) {
        self.dropped = self.dropped.max(Offset((generation + 1) * GENERATION - 1));
        self.after = self.after.max(self.dropped);
    }

    pub(super) fn has_no_room_for(&self, offset: Offset) -> bool {
        self.generations.len() == MAX_FILTERS
            && self.generations.first_key_value().is_some_and(|(oldest, _)| offset.0 / GENERATION < *oldest)
    }

    /// Extends the covered range down to `after`, but not into the range of dropped or omitted ids. All indexed ids
    /// after `after` must have been passed to [`Filters::add`].
    pub(super) fn cover(&mut self, after: Offset) {
        self.after = self.after.min(after.max(self.dropped));
    }

    /// Whether an id with this hash may be indexed at an offset after `after` and up to `until`.
    pub(super) fn may_hold(&self, hash: u64, after: Offset, until: Offset) -> bool {
        after < self.after || {
            let generations = self.generations.range(after.next().0 / GENERATION..=until.0 / GENERATION);
            generations.into_iter().any(|(_, filter)| filter.contains_hash(hash))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(number: u64) -> u64 {
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[test]
    fn filters_have_no_false_negatives_and_few_false_positives() {
        let mut filters = Filters::new(Offset(0));
        let end = Offset(100_000);
        filters.add((1..=end.0).map(|offset| Entry { hash: hash(offset), offset: Offset(offset) }));
        assert!((1..=end.0).all(|offset| filters.may_hold(hash(offset), Offset(0), end)));
        let wrong = (end.0..end.0 * 2).filter(|number| filters.may_hold(hash(*number + 1), Offset(0), end));
        assert!(wrong.count() < 30);
    }

    #[test]
    fn ids_older_than_the_filters_always_match() {
        let mut filters = Filters::new(Offset(5_000));
        assert!(filters.may_hold(1, Offset(0), Offset(9_000)) && !filters.may_hold(1, Offset(5_000), Offset(9_000)));
        filters.cover(Offset(2_000));
        assert!(!filters.may_hold(1, Offset(2_000), Offset(9_000)));
        // Ids for more filters than are kept: the oldest filters are dropped.
        let newer = |generation| Entry { hash: hash(generation), offset: Offset(generation * GENERATION + 6_000) };
        filters.add((0..MAX_FILTERS as u64 + 3).map(newer));
        assert!(filters.may_hold(1, Offset(2_000), Offset(9_000)));
        assert!(filters.has_no_room_for(Offset(6_000)));
        assert!(!filters.may_hold(1, Offset(3 * GENERATION - 1), Offset(4 * GENERATION - 1)));
    }

    #[test]
    fn an_id_that_was_omitted_matches() {
        let mut filters = Filters::new(Offset(4 * GENERATION));
        let first = |generation| Entry { hash: hash(generation), offset: Offset(generation * GENERATION + 1) };
        filters.add([1, 2, 3, 0].map(first));
        filters.cover(Offset(0));
        assert!(filters.may_hold(hash(0), Offset(0), Offset(GENERATION - 1)));
        assert!(!filters.may_hold(hash(0), Offset(GENERATION), Offset(2 * GENERATION - 1)));
    }
}
