//! The id index: a log-structured merge tree (O'Neil et al., 1996) of entries in blocks.
//!
//! An entry is the short hash of a sender and an id, and the offset of the smile. The entries of one segment form a
//! **run** of tier 0. A run is sorted, and cut into blocks by the first bits of the hash, so that the look-up of an id
//! reads at most one block per run. [`FAN_OUT`] runs of a tier merge into one run of the next tier, which keeps the
//! number of runs small.
//!
//! The merge schedule depends only on the number of indexed segments. At most one merge per tier is under way. Indexing
//! a segment performs one slice of each of these merges. A slice merges one block of each input run into [`FAN_OUT`]
//! blocks of the new run. A merge completes exactly when the next one of its tier starts. Therefore indexing costs
//! about the same for every segment, and the number of indexed segments determines the set of runs. After a crash, it
//! is enough to index the interrupted segment again.

use std::ops::Range;

use crate::model::Offset;
use crate::store::BlockKey;

pub(super) const FAN_OUT: u64 = 32;

const FAN_OUT_BITS: u32 = FAN_OUT.ilog2();

/// The highest tier. Each of its runs covers 2^52 offsets, and offsets stay below 2^53.
const HIGHEST_TIER: u32 = 8;

/// Bit position of the tier in a block key. The numbers of the run and of the block together need at most 46 bits,
/// since offsets stay below 2^53.
const TIER_SHIFT: u32 = 58;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) tier: u32,
    pub(super) number: u64,
}

impl Run {
    pub(super) fn first_segment(self) -> u64 {
        self.number * segments(self.tier)
    }

    /// The first segment after this run.
    pub(super) fn end_segment(self) -> u64 {
        (self.number + 1) * segments(self.tier)
    }

    /// The only block of this run that can hold the hash.
    pub(super) fn block(self, hash: u64) -> BlockKey {
        self.key(hash >> (u64::BITS - self.block_bits()))
    }

    fn block_bits(self) -> u32 {
        FAN_OUT_BITS * (self.tier + 1)
    }

    /// In a higher tier, the number of the block takes more bits and that of the run fewer, since there are fewer runs
    /// and each has more blocks.
    fn key(self, block: u64) -> BlockKey {
        BlockKey(u64::from(self.tier) << TIER_SHIFT | self.number << self.block_bits() | block)
    }

    pub(super) fn blocks(self) -> impl Iterator<Item = BlockKey> {
        (0..segments(self.tier) * FAN_OUT).map(move |block| self.key(block))
    }

    pub(super) fn inputs(self, slice: u64) -> impl Iterator<Item = BlockKey> {
        (0..FAN_OUT).map(move |part| Self { tier: self.tier - 1, number: self.number * FAN_OUT + part }.key(slice))
    }

    /// The inputs of this slice of the previous run. No reader needs them once this slice is merged.
    pub(super) fn superseded(self, slice: u64) -> impl Iterator<Item = BlockKey> {
        let before = self.number.checked_sub(1).map(|number| Self { number, ..self });
        before.into_iter().flat_map(move |run| run.inputs(slice))
    }
}

/// Number of segments in a run of this tier.
fn segments(tier: u32) -> u64 {
    FAN_OUT.pow(tier)
}

/// Number of segments by which each merge of a tier is delayed, so that its inputs are complete.
fn delay(tier: u32) -> u64 {
    (1..tier).map(segments).sum()
}

/// Number of runs of a tier that are complete after `indexed` segments, including those that have been merged since.
fn complete(tier: u32, indexed: u64) -> u64 {
    match tier {
        0 => indexed,
        tier => (indexed.saturating_sub(delay(tier)) / segments(tier)).saturating_sub(1),
    }
}

/// The runs that hold the ids of the first `indexed` segments, newest first. Each segment is in exactly one of them.
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

/// The runs under construction, and the slice of each that is merged while this segment is indexed.
pub(super) fn merges(segment: u64) -> Vec<(Run, u64)> {
    let merge = |tier| {
        let step = segment.checked_sub(delay(tier))?;
        let number = (step / segments(tier)).checked_sub(1)?;
        Some((Run { tier, number }, step % segments(tier)))
    };
    (1..=HIGHEST_TIER).map_while(merge).collect()
}

/// The ranges of block keys of all runs that cover only segments below `segment`.
pub(super) fn before(segment: u64) -> Vec<Range<BlockKey>> {
    let end = |tier| Run { tier, number: segment / segments(tier) };
    let ends = (0..=HIGHEST_TIER).map(end).take_while(|end| end.number > 0);
    ends.map(|end| Run { number: 0, ..end }.key(0)..end.key(0)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) hash: u64,
    pub(super) offset: Offset,
}

/// Omits empty blocks.
pub(super) fn cut(run: Run, mut entries: Vec<Entry>) -> Vec<(BlockKey, Vec<u8>)> {
    // This sort is fast on concatenated sorted inputs.
    entries.sort();
    let blocks = entries.chunk_by(|one, other| run.block(one.hash) == run.block(other.hash));
    blocks.map(|block| (run.block(block[0].hash), encode(block))).collect()
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let numbers = entries.iter().map(|entry| [entry.hash.to_le_bytes(), entry.offset.0.to_le_bytes()]);
    numbers.collect::<Vec<_>>().into_flattened().into_flattened()
}

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

    /// An id index in memory with three entries per segment.
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
            let mut new = cut(Run { tier: 0, number: self.indexed }, entries_of(self.indexed));
            let mut superseded = Vec::new();
            for (run, slice) in merges(self.indexed) {
                let inputs = run.inputs(slice).filter_map(|key| self.blocks.get(&key));
                new.extend(cut(run, inputs.flat_map(|block| entries(block)).collect()));
                superseded.extend(run.superseded(slice));
            }
            self.blocks.extend(new);
            for key in superseded {
                self.blocks.remove(&key);
            }
            self.indexed += 1;
        }

        fn find(&self, hash: u64) -> Vec<u64> {
            let blocks = runs(self.indexed).into_iter().filter_map(|run| self.blocks.get(&run.block(hash)));
            let found = blocks.flat_map(|block| entries(block)).filter(|entry| entry.hash == hash);
            found.map(|entry| entry.offset.0).collect()
        }
    }

    #[test]
    fn ids_are_found_exactly_once_while_the_log_grows() {
        let mut model = Model::default();
        for segment in 0..1_000 {
            model.step();
            let some = (0..=segment).step_by(if segment < 40 { 1 } else { 97 }).chain([segment]);
            for entry in some.flat_map(entries_of) {
                let found = model.find(entry.hash);
                assert_eq!(
                    found,
                    [entry.offset.0],
                    "an id of segment {} was missing or was found twice after segment {segment}",
                    entry.offset.0 / 3
                );
            }
        }
        assert!(model.find(12_345).is_empty(), "an id that was never stored was found");
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
            assert!(runs.len() < 400, "{} runs covered {indexed} segments", runs.len());
        }
    }

    #[test]
    fn superseded_blocks_are_removed_in_time() {
        let mut model = Model::default();
        let mut most = 0.0_f64;
        for segment in 0..1_500_u64 {
            model.step();
            let kept: usize = model.blocks.values().map(|block| entries(block).count()).sum();
            most = most.max(kept as f64 / (segment as f64 * 3.0 + 100.0));
        }
        assert!(most < 3.5, "an id had {most} copies on average");
    }

    #[test]
    fn retention_selects_runs_that_end_before_a_segment() {
        let keys = |tier, end| Run { tier, number: 0 }.key(0)..Run { tier, number: end }.key(0);
        assert_eq!(before(0), []);
        assert_eq!(before(1_500), [keys(0, 1_500), keys(1, 46), keys(2, 1)]);
    }
}
