//! What the index is made of, in either database: pages of conversations and blocks of ids, written a segment at a time.

use crate::model::{Offset, Smile, UserName};

/// Offsets that one segment covers: segment 0 is offsets 1 to this.
pub const SEGMENT: u64 = 4096;

/// The part of the index that covers one segment, and what else changes with it. Written whole or not at all; writing it
/// twice changes nothing.
#[derive(Debug)]
pub struct IndexStep<'smiles> {
    /// The segment. All before it are indexed.
    pub segment: u64,
    /// The smiles of the segment by conversation.
    pub pages: Vec<Page<'smiles>>,
    /// Blocks of ids that are new.
    pub blocks: Vec<(BlockKey, Vec<u8>)>,
    /// Blocks of ids that nobody reads any more.
    pub superseded: Vec<BlockKey>,
}

/// Some smiles of one conversation in one segment.
#[derive(Debug)]
pub struct Page<'smiles> {
    /// Its two users, in either order.
    pub users: (&'smiles UserName, &'smiles UserName),
    /// Tells the pages of one conversation in one segment apart, in the order of the log.
    pub part: u32,
    /// In the order of the log.
    pub smiles: Vec<&'smiles Smile>,
}

/// Names a block of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey {
    /// How often its entries were merged.
    pub tier: u32,
    /// Which run of the tier, counted from the log's start.
    pub run: u64,
    /// Which part of the run, by the first bits of the hash.
    pub block: u64,
}

/// Keys as the members of a list in SQL.
pub(super) fn list(keys: &[BlockKey]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| format!("({},{},{})", key.tier, key.run, key.block)).collect();
    keys.join(",")
}

/// What the index holds of one user in one segment.
#[derive(Debug)]
pub struct SegmentPage {
    /// The last offset that retention has removed, 0 when none.
    pub trimmed: Offset,
    /// The smiles to or from the user, a page for each conversation or part of one.
    pub pages: Vec<Vec<Smile>>,
}

/// Which pages of a conversation to read: its newest come first.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    /// Pages of this segment and those before it.
    pub through_segment: u64,
    /// So many of them are passed over.
    pub skip: u32,
    /// At most so many are read.
    pub limit: u32,
}
