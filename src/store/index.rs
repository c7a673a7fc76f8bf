//! The index in both databases: offsets by conversation and segment, and blocks of ids.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;

use super::{BatchKey, Store, StoreError, offset};
use crate::model::{Offset, UserName};

/// The number of offsets in a segment. Segment 0 covers offsets 1 to 4096.
pub(crate) const SEGMENT: u64 = 4096;

/// Size of a place in bytes. A place is an offset relative to the first offset of its segment.
const PLACE: usize = 2;

/// What is trimmed, how many segments are indexed, and the places of one conversation in one segment.
type PlacesRow = (i64, i64, Option<i64>, Option<Vec<u8>>);

/// The changes to the index for one segment. Writing them is idempotent.
pub(crate) struct IndexStep<'smiles> {
    /// All earlier segments are indexed.
    pub segment: u64,
    /// A batch that ends at or after the end of the segment, from the same log as the smiles. A MySQL server that never
    /// had this batch, such as a new primary that lacks the end of the log, ignores the step. `None` if retention has
    /// removed every batch of the log. SQLite ignores this field.
    pub last: Option<BatchKey>,
    /// For each conversation with smiles in the segment, the offsets of these smiles in ascending order. The two users
    /// may be in either order.
    pub conversations: Vec<((&'smiles UserName, &'smiles UserName), Vec<Offset>)>,
    pub blocks: Vec<(BlockKey, Vec<u8>)>,
    /// Blocks of ids to delete, because merged runs have replaced them.
    pub superseded: Vec<BlockKey>,
}

/// The key of a block of ids, below 2^63.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct BlockKey(pub u64);

impl Store {
    /// Reads the number of indexed segments.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if the file was deleted or replaced, else [`StoreError::Unavailable`].
    pub(crate) async fn indexed(&self) -> Result<u64, StoreError> {
        if let Self::Sqlite(file) = self
            && !file.is_in_place()
        {
            return Err(StoreError::Replaced);
        }
        let text = "SELECT indexed FROM log_state WHERE one = 1";
        let rows: Vec<(i64,)> = either!(self, database => database.rows(text).await?);
        let (indexed,) = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(indexed.unsigned_abs())
    }

    /// Claims the right to write the index, or extends the claim, for 1 s by the database's clock. Returns `false` if
    /// another claimant has the right. On SQLite, every claim succeeds.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn claim_index(&self, claimant: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(true),
            Self::MySql(mysql) => mysql.claim_index(claimant).await,
        }
    }

    /// Writes a segment of the index. The segment counts as indexed only once all of it is written. On MySQL, changes
    /// nothing if the segment is not the next one, or if the log neither holds the batch `step.last` nor has been
    /// trimmed up to or beyond the first offset of that batch.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        either!(self, database => database.write_index(step).await)
    }

    /// Reads the number of indexed segments and the blocks with these keys from one snapshot. Omits blocks that do not
    /// exist. `keys` must not be empty, since MySQL does not accept an empty list.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn read_blocks(&self, keys: &[BlockKey]) -> Result<(u64, HashMap<BlockKey, Vec<u8>>), StoreError> {
        let text = format!(
            "SELECT state.indexed, ids.block, ids.entries FROM log_state AS state \
             LEFT JOIN index_ids AS ids ON ids.block IN ({}) WHERE state.one = 1",
            list(keys)
        );
        let rows: Vec<(i64, Option<i64>, Option<Vec<u8>>)> = either!(self, database => database.rows(&text).await?);
        let (indexed, ..) = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let blocks = rows.into_iter().filter_map(|(_, key, entries)| Some((BlockKey(key?.unsigned_abs()), entries?)));
        Ok((indexed.unsigned_abs(), blocks.collect()))
    }

    /// Reads the ascending offsets of a user's smiles in these segments, which must be indexed. A query takes about as
    /// long for many segments as for one, if the user has few smiles in them: it looks each conversation up once.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] if retention has removed offsets after `after`, else [`StoreError::Unavailable`].
    pub(crate) async fn read_segments(
        &self,
        user: &UserName,
        segments: Range<u64>,
        after: Offset,
    ) -> Result<Vec<Offset>, StoreError> {
        let peers = self.users().iter().map(|peer| &peer.name).filter(|peer| *peer != user);
        let conversations: Vec<_> = peers.map(|peer| self.directory().conversation(user, peer).to_string()).collect();
        let text = format!(
            "SELECT state.trimmed, state.indexed, pages.segment, pages.places \
             FROM log_state AS state LEFT JOIN index_conversations AS pages \
             ON pages.conversation IN ({}) AND pages.segment >= {} AND pages.segment < {} WHERE state.one = 1",
            conversations.join(","),
            segments.start,
            segments.end
        );
        let rows: Vec<PlacesRow> = either!(self, database => database.rows(&text).await?);
        let (trimmed, indexed, ..) = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        if offset(*trimmed) > after {
            return Err(StoreError::Trimmed);
        }
        ensure_indexed(indexed.unsigned_abs(), segments.end)?;
        let pages = rows.iter().filter_map(|(.., segment, places)| Some((segment.as_ref()?, places.as_ref()?)));
        let mut offsets: Vec<_> =
            pages.flat_map(|(segment, places)| decode_places(segment.unsigned_abs(), places)).collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    /// Reads the indexed offsets of a conversation in at most `limit` segments: of the segments up to and including
    /// `through`, the newest that contain smiles of the conversation. The newest segment comes first; the offsets in a
    /// segment ascend.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn read_conversation(
        &self,
        users: (&UserName, &UserName),
        through: u64,
        limit: u32,
    ) -> Result<Vec<Vec<Offset>>, StoreError> {
        let conversation = self.directory().conversation(users.0, users.1);
        let text = format!(
            "SELECT segment, places FROM index_conversations \
             WHERE conversation = {conversation} AND segment <= {through} ORDER BY segment DESC LIMIT {limit}"
        );
        let rows: Vec<(i64, Vec<u8>)> = either!(self, database => database.rows(&text).await?);
        Ok(rows.iter().map(|(segment, places)| decode_places(segment.unsigned_abs(), places)).collect())
    }

    /// Removes the offsets of all conversations in the segments below `segments`, and the blocks of ids with keys in
    /// the ranges `blocks`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn forget_index(&self, segments: u64, blocks: &[Range<BlockKey>]) -> Result<(), StoreError> {
        let mut text = format!("BEGIN; DELETE FROM index_conversations WHERE segment < {segments}");
        for Range { start, end } in blocks {
            let _ = write!(text, "; DELETE FROM index_ids WHERE block >= {} AND block < {}", start.0, end.0);
        }
        text.push_str("; COMMIT");
        either!(self, database => database.execute(&text).await?);
        Ok(())
    }
}

/// The index has had `least` segments before, but a MySQL server that took over may lack the last segments, and memory
/// may have dropped the smiles of these segments.
pub(crate) fn ensure_indexed(indexed: u64, least: u64) -> Result<(), StoreError> {
    if indexed < least {
        return Err(StoreError::Unavailable("the index lacks segments, which are being derived again".into()));
    }
    Ok(())
}

pub(super) fn encode_places(segment: u64, offsets: &[Offset]) -> Vec<u8> {
    let place = |offset: &Offset| u16::try_from(offset.0 - 1 - segment * SEGMENT).unwrap_or(u16::MAX).to_le_bytes();
    offsets.iter().flat_map(place).collect()
}

pub(super) fn decode_places(segment: u64, row: &[u8]) -> Vec<Offset> {
    let (places, _) = row.as_chunks::<PLACE>();
    places.iter().map(|place| Offset(segment * SEGMENT + 1 + u64::from(u16::from_le_bytes(*place)))).collect()
}

pub(super) fn list(keys: &[BlockKey]) -> String {
    keys.iter().map(|key| key.0.to_string()).collect::<Vec<_>>().join(",")
}
