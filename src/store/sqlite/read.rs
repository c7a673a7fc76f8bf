//! Reading the SQLite log: all of it, one user's stream, one conversation.
//!
//! Owns those queries. Each is answered from an index, and reads no more than it returns.

use sqlx::{Sqlite as Database, Transaction};

use super::Sqlite;
use super::append::offset;
use crate::model::{Epoch, Faces, Offset, Smile, SmileId, Timestamp, UserName};
use crate::store::batch::conversation;
use crate::store::{LogPage, LogState, StoreError, StreamPage};

/// position, sender, receiver, id, faces, at
type Row = (i64, i64, i64, String, String, i64);

/// What is read in it belongs together.
type Snapshot = Transaction<'static, Database>;

const READ_LOG: &str = "
    SELECT position, sender, receiver, id, faces, at FROM smiles WHERE position > ?1 ORDER BY position LIMIT ?2";

/// A user's stream: one look-up for each user this one may have a conversation with, merged.
const READ_STREAM: &str = "
    SELECT position, sender, receiver, smiles.id, faces, at FROM users AS peer
    CROSS JOIN smiles ON conversation = min(?1, peer.id) << 32 | max(?1, peer.id) AND position > ?2 AND position <= ?3
    ORDER BY position LIMIT ?4";

/// Offsets that one look at a stream covers. The merge sorts, so what it may find must be bounded.
const WINDOW: u64 = 10_000;

const READ_CONVERSATION: &str = "
    SELECT position, sender, receiver, id, faces, at FROM smiles
    WHERE conversation = ?1 AND position < ?2 ORDER BY position DESC LIMIT ?3";

impl Sqlite {
    pub(in crate::store) async fn log_state(&self) -> Result<LogState, StoreError> {
        let (epoch, head, trimmed): (String, i64, i64) =
            sqlx::query_as("SELECT epoch, head, trimmed FROM log").fetch_one(&self.inner.readers).await?;
        Ok(LogState { epoch: Epoch::new(&epoch), head: offset(head), trimmed: offset(trimmed) })
    }

    pub(in crate::store) async fn read_log(&self, after: Offset, limit: u32) -> Result<LogPage, StoreError> {
        let (mut snapshot, head) = self.snapshot_reaching_back_to(after).await?;
        let rows: Vec<Row> =
            sqlx::query_as(READ_LOG).bind(position(after)).bind(limit).fetch_all(&mut *snapshot).await?;
        Ok(LogPage { smiles: self.smiles(rows)?, head })
    }

    pub(in crate::store) async fn read_stream(
        &self,
        user: &UserName,
        after: Offset,
        until: Offset,
        limit: u32,
    ) -> Result<StreamPage, StoreError> {
        let (mut snapshot, _) = self.snapshot_reaching_back_to(after).await?;
        let window_end = until.min(Offset(after.0 + WINDOW));
        let rows: Vec<Row> = sqlx::query_as(READ_STREAM)
            .bind(self.directory().id(user))
            .bind(position(after))
            .bind(position(window_end))
            .bind(limit)
            .fetch_all(&mut *snapshot)
            .await?;
        let cut_off = rows.len() >= limit as usize;
        let smiles = self.smiles(rows)?;
        let through = smiles.last().filter(|_| cut_off).map_or(window_end, |last| last.offset);
        Ok(StreamPage { smiles, through })
    }

    pub(in crate::store) async fn read_conversation(
        &self,
        (one, other): (&UserName, &UserName),
        before: Option<Offset>,
        limit: u32,
    ) -> Result<(Vec<Smile>, bool), StoreError> {
        let rows: Vec<Row> = sqlx::query_as(READ_CONVERSATION)
            .bind(conversation(self.directory().id(one), self.directory().id(other)))
            .bind(before.map_or(i64::MAX, position))
            .bind(limit + 1)
            .fetch_all(&self.inner.readers)
            .await?;
        let more = rows.len() > limit as usize;
        let mut smiles = self.smiles(rows.into_iter().take(limit as usize).collect())?;
        smiles.reverse();
        Ok((smiles, more))
    }

    /// One consistent view of the log that holds everything after `after`, and its head: retention cannot remove any of
    /// it between the question and the answer.
    async fn snapshot_reaching_back_to(&self, after: Offset) -> Result<(Snapshot, Offset), StoreError> {
        let mut snapshot = self.inner.readers.begin().await?;
        let ends = sqlx::query_as("SELECT head, trimmed FROM log").fetch_one(&mut *snapshot);
        let (head, trimmed): (i64, i64) = ends.await?;
        if offset(trimmed) > after { Err(StoreError::Trimmed) } else { Ok((snapshot, offset(head))) }
    }

    fn smiles(&self, rows: Vec<Row>) -> Result<Vec<Smile>, StoreError> {
        let smile = |(at_position, sender, receiver, id, faces, at): Row| {
            Some(Smile {
                offset: offset(at_position),
                id: SmileId::parse(&id)?,
                from: self.directory().name(sender)?,
                to: self.directory().name(receiver)?,
                faces: Faces::from_stored(&faces),
                at: Timestamp::from_milliseconds(at),
            })
        };
        let damaged =
            || StoreError::Unavailable("a row of the log is not a smile: the file was changed by hand".into());
        rows.into_iter().map(|row| smile(row).ok_or_else(damaged)).collect()
    }
}

/// An offset as the integer SQLite keeps; offsets stay below 2^53.
fn position(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
