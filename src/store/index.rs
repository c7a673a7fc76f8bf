//! The rows of the index in both databases: offsets by conversation and segment, and blocks of ids.

use crate::model::{Offset, UserName};

/// The number of offsets in a segment. Segment 0 covers offsets 1 to 4096.
pub(crate) const SEGMENT: u64 = 4096;

/// Bytes of a place: an offset relative to the first one of its segment.
const PLACE: usize = 2;

/// The changes of the index for one segment. Writing them is idempotent.
pub(crate) struct IndexStep<'smiles> {
    /// The segment. All segments before it are indexed.
    pub segment: u64,
    /// The ascending offsets of the segment by conversation, with its users in either order.
    pub conversations: Vec<((&'smiles UserName, &'smiles UserName), Vec<Offset>)>,
    /// New blocks of ids.
    pub blocks: Vec<(BlockKey, Vec<u8>)>,
    /// Blocks of ids to delete: no reader needs them.
    pub superseded: Vec<BlockKey>,
}

/// The key of a block of ids, below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockKey(pub u64);

/// Encodes the offsets of one segment as a row.
pub(super) fn encode_places(segment: u64, offsets: &[Offset]) -> Vec<u8> {
    let place = |offset: &Offset| u16::try_from(offset.0 - 1 - segment * SEGMENT).unwrap_or(u16::MAX).to_le_bytes();
    offsets.iter().flat_map(place).collect()
}

/// Decodes a row into offsets.
pub(super) fn decode_places(segment: u64, row: &[u8]) -> Vec<Offset> {
    let (places, _) = row.as_chunks::<PLACE>();
    places.iter().map(|place| Offset(segment * SEGMENT + 1 + u64::from(u16::from_le_bytes(*place)))).collect()
}

/// Formats keys as an SQL list.
pub(super) fn list(keys: &[BlockKey]) -> String {
    keys.iter().map(|key| key.0.to_string()).collect::<Vec<_>>().join(",")
}
