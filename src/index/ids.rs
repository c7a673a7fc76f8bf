//! Where an id is stored: the shape of that part of the index, and its entries.
//!
//! An entry is the short hash of a sender and an id, and the offset of the smile. The entries of one segment are a **run** of tier
//! 0: sorted, and cut into blocks by the first bits of the hash, so that one block of a run has to be read to look for a
//! hash. [`FAN_OUT`] runs of a tier are merged into one run of the next tier, so the runs stay few while the log grows (a
//! log-structured merge tree: O'Neil and others, 1996).
//!
//! Merges are planned by counting alone. With each segment, one slice of each tier's merge is done: one block of each run
//! that is merged becomes [`FAN_OUT`] blocks of the new run, and the merge is complete right when the next one has to
//! begin. So each segment costs the same, and how many segments are indexed says which runs there are: nothing else has to
//! be kept, and a crash leaves nothing half-way.

use std::ops::Range;

use crate::model::Offset;
use crate::store::BlockKey;

/// Runs that are merged into one of the next tier.
pub(super) const FAN_OUT: u64 = 32;

/// Bits of the hash that choose one of so many blocks.
const FAN_OUT_BITS: u32 = FAN_OUT.ilog2();

/// No log is so long that it has a higher one.
const HIGHEST_TIER: u32 = 8;

/// Where the tier begins in the name of a block. Offsets stay below 2^53, so the rest has 45 bits at most.
const TIER_SHIFT: u32 = 58;

/// Bytes of an entry: the hash and the offset, both little-endian.
const ENTRY: usize = 16;

/// A sorted part of the ids, and which segments it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    tier: u32,
    number: u64,
}

impl Run {
    /// The first segment that it covers.
    pub(super) fn first_segment(self) -> u64 {
        self.number * segments(self.tier)
    }

    /// The first segment after it.
    pub(super) fn end_segment(self) -> u64 {
        (self.number + 1) * segments(self.tier)
    }

    /// The block in which a hash is, if it is in this run.
    pub(super) fn block(self, hash: u64) -> BlockKey {
        self.key(hash >> (u64::BITS - self.block_bits()))
    }

    /// How many of its first bits choose a hash's block.
    fn block_bits(self) -> u32 {
        FAN_OUT_BITS * (self.tier + 1)
    }

    /// The name of a block: tier, run and block. A run of a higher tier has more blocks and a smaller number.
    fn key(self, block: u64) -> BlockKey {
        BlockKey(u64::from(self.tier) << TIER_SHIFT | self.number << self.block_bits() | block)
    }

    /// All its blocks.
    pub(super) fn blocks(self) -> impl Iterator<Item = BlockKey> {
        (0..segments(self.tier) * FAN_OUT).map(move |block| self.key(block))
    }
}

/// A slice of a merge.
#[derive(Debug)]
pub(super) struct Merge {
    run: Run,
    slice: u64,
}

impl Merge {
    /// The blocks that are merged.
    pub(super) fn inputs(&self) -> impl Iterator<Item = BlockKey> {
        inputs(self.run, self.slice)
    }

    /// The blocks of the new run that the entries of all inputs make.
    pub(super) fn outputs(&self, entries: Vec<Entry>) -> Vec<(BlockKey, Vec<u8>)> {
        cut(self.run, entries)
    }

    /// The inputs of the merge before this one, which nothing reads any more.
    pub(super) fn superseded(&self) -> impl Iterator<Item = BlockKey> {
        let before = self.run.number.checked_sub(1).map(|number| Run { number, ..self.run });
        let slice = self.slice;
        before.into_iter().flat_map(move |run| inputs(run, slice))
    }
}

fn inputs(run: Run, slice: u64) -> impl Iterator<Item = BlockKey> {
    (0..FAN_OUT).map(move |part| Run { tier: run.tier - 1, number: run.number * FAN_OUT + part }.key(slice))
}

/// Segments that one run of a tier covers.
fn segments(tier: u32) -> u64 {
    FAN_OUT.pow(tier)
}

/// By how many segments the merges of a tier are later than those of the tiers below.
fn delay(tier: u32) -> u64 {
    (1..tier).map(segments).sum()
}

/// How many runs of a tier were ever completed when so many segments are indexed.
fn complete(tier: u32, indexed: u64) -> u64 {
    match tier {
        0 => indexed,
        tier => (indexed.saturating_sub(delay(tier)) / segments(tier)).saturating_sub(1),
    }
}

/// The runs that there are when so many segments are indexed, the newest first.
pub(super) fn runs(indexed: u64) -> Vec<Run> {
    let (mut runs, mut covered) = (Vec::new(), 0);
    for tier in (0..=HIGHEST_TIER).rev() {
        let complete = complete(tier, indexed);
        runs.extend((covered / segments(tier)..complete).map(|number| Run { tier, number }));
        covered = covered.max(complete * segments(tier));
    }
    runs.reverse();
    runs
}

/// The slices that are merged when this segment is indexed.
pub(super) fn merges(segment: u64) -> Vec<Merge> {
    let merge = |tier| {
        let step = segment.checked_sub(delay(tier))?;
        let number = (step / segments(tier)).checked_sub(1)?;
        Some(Merge { run: Run { tier, number }, slice: step % segments(tier) })
    };
    (1..=HIGHEST_TIER).map_while(merge).collect()
}

/// The blocks of the runs that have nothing after the segments below `segment`.
pub(super) fn before(segment: u64) -> Vec<Range<BlockKey>> {
    let end = |tier| Run { tier, number: segment / segments(tier) };
    let ends = (0..=HIGHEST_TIER).map(end).take_while(|end| end.number > 0);
    ends.map(|end| Run { number: 0, ..end }.key(0)..end.key(0)).collect()
}

/// The short hash of a sender and an id, and the offset of their smile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) offset: Offset,
}

/// The blocks of a run of tier 0: the entries of one segment.
pub(super) fn first_run(segment: u64, entries: Vec<Entry>) -> Vec<(BlockKey, Vec<u8>)> {
    cut(Run { tier: 0, number: segment }, entries)
}

/// Entries as the blocks of `run` that they fall into. Blocks without entries are left out.
fn cut(run: Run, mut entries: Vec<Entry>) -> Vec<(BlockKey, Vec<u8>)> {
    // Sorted parts follow each other, and this finds them.
    entries.sort();
    let blocks = entries.chunk_by(|one, other| run.block(one.hash) == run.block(other.hash));
    blocks.map(|block| (run.block(block[0].hash), encode(block))).collect()
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut block = Vec::with_capacity(entries.len() * ENTRY);
    for Entry { hash, offset } in entries {
        block.extend_from_slice(&hash.to_le_bytes());
        block.extend_from_slice(&offset.0.to_le_bytes());
    }
    block
}

/// The entries of a block.
pub(super) fn entries(block: &[u8]) -> impl Iterator<Item = Entry> {
    let (numbers, _) = block.as_chunks();
    let (entries, _) = numbers.as_chunks();
    entries
        .iter()
        .map(|[hash, offset]| Entry { hash: u64::from_le_bytes(*hash), offset: Offset(u64::from_le_bytes(*offset)) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The index of ids in memory, written as the indexer writes it, with three entries to a segment.
    #[derive(Default)]
    struct Model {
        indexed: u64,
        blocks: BTreeMap<BlockKey, Vec<u8>>,
    }

    fn entries_of(segment: u64) -> Vec<Entry> {
        let entry = |place: u64| {
            let offset = segment * 3 + place;
            Entry { hash: offset.wrapping_mul(0x9e37_79b9_7f4a_7c15), offset: Offset(offset) }
        };
        (0..3).map(entry).collect()
    }

    impl Model {
        fn step(&mut self) {
            let mut new = first_run(self.indexed, entries_of(self.indexed));
            let mut superseded = Vec::new();
            for merge in merges(self.indexed) {
                let inputs = merge.inputs().filter_map(|key| self.blocks.get(&key));
                new.extend(merge.outputs(inputs.flat_map(|block| entries(block)).collect()));
                superseded.extend(merge.superseded());
            }
            self.blocks.extend(new);
            for key in superseded {
                self.blocks.remove(&key);
            }
            self.indexed += 1;
        }

        /// The offsets of a hash in the runs that there are.
        fn find(&self, hash: u64) -> Vec<u64> {
            let blocks = runs(self.indexed).into_iter().filter_map(|run| self.blocks.get(&run.block(hash)));
            let found = blocks.flat_map(|block| entries(block)).filter(|entry| entry.hash == hash);
            found.map(|entry| entry.offset.0).collect()
        }
    }

    #[test]
    fn every_id_is_found_once_however_many_segments_there_are() {
        let mut model = Model::default();
        for segment in 0..1_000 {
            model.step();
            let some = (0..=segment).step_by(if segment < 40 { 1 } else { 97 }).chain([segment]);
            for entry in some.flat_map(entries_of) {
                let found = model.find(entry.hash);
                assert_eq!(found, [entry.offset.0], "of segment {} of {segment}", entry.offset.0 / 3);
            }
        }
        assert!(model.find(12_345).is_empty(), "what was never stored");
    }

    #[test]
    fn runs_cover_every_segment_once_and_stay_few() {
        for indexed in (0..5_000).chain([100_000, 1_000_003, 60_000_000]) {
            let mut runs = runs(indexed);
            runs.reverse();
            let mut covered = 0;
            for run in &runs {
                assert_eq!(run.first_segment(), covered);
                covered = run.end_segment();
            }
            assert_eq!(covered, indexed);
            assert!(runs.len() < 400, "{} runs of {indexed} segments", runs.len());
        }
    }

    #[test]
    fn what_is_superseded_is_removed_in_time() {
        let mut model = Model::default();
        let mut most = 0.0_f64;
        for segment in 0..1_500_u64 {
            model.step();
            let kept: usize = model.blocks.values().map(|block| block.len() / ENTRY).sum();
            most = most.max(kept as f64 / (segment as f64 * 3.0 + 100.0));
        }
        assert!(most < 3.5, "an id is kept {most} times");
    }

    #[test]
    fn retention_names_runs_that_end_before_a_segment() {
        let keys = |tier, end| Run { tier, number: 0 }.key(0)..Run { tier, number: end }.key(0);
        assert_eq!(before(0), []);
        assert_eq!(before(1_500), [keys(0, 1_500), keys(1, 46), keys(2, 1)]);
    }
}
