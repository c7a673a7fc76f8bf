//! What the index is made of, in either database: where the smiles of a conversation are, and blocks of ids. It is written a
//! segment at a time.

use crate::model::{Offset, UserName};

/// Offsets that one segment covers: segment 0 is offsets 1 to this.
pub const SEGMENT: u64 = 4096;

/// Bytes of a place, which is an offset less the segment's first one.
const PLACE: usize = 2;

/// The part of the index that covers one segment, and what else changes with it. Written whole or not at all; writing it
/// twice changes nothing.
#[derive(Debug)]
pub struct IndexStep<'smiles> {
    /// The segment. All before it are indexed.
    pub segment: u64,
    /// The offsets of the segment by conversation: its two users in either order, and the offsets in order.
    pub conversations: Vec<((&'smiles UserName, &'smiles UserName), Vec<Offset>)>,
    /// Blocks of ids that are new.
    pub blocks: Vec<(BlockKey, Vec<u8>)>,
    /// Blocks of ids that nobody reads any more.
    pub superseded: Vec<BlockKey>,
}

/// Names a block of ids; below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockKey(pub u64);

/// Where the index finds the smiles of one user in one segment.
#[derive(Debug)]
pub struct SegmentPage {
    /// The last offset that retention has removed, 0 when none.
    pub trimmed: Offset,
    /// The offsets of the smiles to or from the user, in order.
    pub offsets: Vec<Offset>,
}

impl SegmentPage {
    /// What these rows of a segment hold.
    pub(super) fn new<'row>(trimmed: Offset, segment: u64, rows: impl Iterator<Item = &'row Vec<u8>>) -> Self {
        let mut offsets: Vec<_> = rows.flat_map(|row| decode_places(segment, row)).collect();
        offsets.sort_unstable();
        Self { trimmed, offsets }
    }
}

/// Offsets of one segment as a row holds them.
pub(super) fn encode_places(segment: u64, offsets: &[Offset]) -> Vec<u8> {
    let place = |offset: &Offset| u16::try_from(offset.0 - 1 - segment * SEGMENT).unwrap_or(u16::MAX).to_le_bytes();
    offsets.iter().flat_map(place).collect()
}

/// The offsets that such a row holds.
pub(super) fn decode_places(segment: u64, row: &[u8]) -> Vec<Offset> {
    let (places, _) = row.as_chunks::<PLACE>();
    places.iter().map(|place| Offset(segment * SEGMENT + 1 + u64::from(u16::from_le_bytes(*place)))).collect()
}

/// Keys as the members of a list in SQL.
pub(super) fn list(keys: &[BlockKey]) -> String {
    keys.iter().map(|key| key.0.to_string()).collect::<Vec<_>>().join(",")
}
