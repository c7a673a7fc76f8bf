//! The index in MySQL: where the smiles of a conversation are, and blocks of ids, written a segment at a time by one of
//! the replicas.

use std::fmt::Write as _;
use std::ops::Range;

use sqlx::{MySqlConnection, QueryBuilder};

use super::{MySql, statements};
use crate::model::{Offset, UserName};
use crate::store::batch::BatchLimit;
use crate::store::index::{BlockKey, IndexStep, SegmentPage, encode_places, list};
use crate::store::{StoreError, integer, offset};

/// Claims the index, or extends the claim, for 1 s by the database's clock. The claim of a dead or frozen replica
/// expires.
const CLAIM: &str = "
    UPDATE log_state SET indexer = ?, indexer_until = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + 1000
    WHERE one = 1 AND (indexer = ? OR indexer_until < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED))";

/// Upper bound for the bytes of a row besides its blob, in the statement and its values.
const KEY_BYTES: usize = 40;

impl MySql {
    /// Whether this replica, identified by `claimant`, may write the index.
    pub(in crate::store) async fn claim_index(&self, claimant: i64) -> Result<bool, StoreError> {
        let claim = || sqlx::query(CLAIM).bind(claimant).bind(claimant);
        // Counts matching rows, changed or not.
        Ok(self.indexing.execute(claim).await?.rows_affected() > 0)
    }

    pub(in crate::store) async fn indexed(&self) -> Result<u64, StoreError> {
        let read = || sqlx::query("SELECT indexed FROM log_state WHERE one = 1");
        let rows: Vec<(i64,)> = self.indexing.rows(read).await?;
        let (indexed,) = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(indexed.unsigned_abs())
    }

    pub(in crate::store) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        Ok(self
            .indexing
            .ask_once(async |mut connection| Ok((self.write(step, &mut connection).await?, connection)))
            .await?)
    }

    async fn write(&self, step: &IndexStep<'_>, connection: &mut MySqlConnection) -> sqlx::Result<()> {
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        let moved = sqlx::query("UPDATE log_state SET indexed = ? WHERE one = 1 AND indexed = ?");
        let moved = moved.bind(integer(step.segment + 1)).bind(integer(step.segment)).execute(&mut *connection).await?;
        if moved.rows_affected() == 0 {
            // Another replica has written this segment.
            sqlx::raw_sql("ROLLBACK").execute(connection).await?;
            return Ok(());
        }
        // The statements stay prepared. Closing one and sending the next are two writes, and Nagle's algorithm delays
        // the second until the first is acknowledged, 40 ms later.
        let directory = &self.directory;
        let places = step
            .conversations
            .iter()
            .map(|(users, offsets)| (directory.conversation(users.0, users.1), encode_places(step.segment, offsets)));
        for places in in_one_write(&places.collect::<Vec<_>>()) {
            let mut insert = QueryBuilder::new("INSERT INTO index_conversations (conversation, segment, places) ");
            insert.push_values(places, |mut row, (conversation, places)| {
                row.push_bind(conversation).push_bind(integer(step.segment)).push_bind(places);
            });
            insert.push(" AS written ON DUPLICATE KEY UPDATE places = written.places");
            insert.build().execute(&mut *connection).await?;
        }
        for blocks in in_one_write(&step.blocks) {
            let mut insert = QueryBuilder::new("INSERT INTO index_ids (block, entries) ");
            insert.push_values(blocks, |mut row, (key, entries)| {
                row.push_bind(integer(key.0)).push_bind(entries);
            });
            insert.push(" AS written ON DUPLICATE KEY UPDATE entries = written.entries");
            insert.build().execute(&mut *connection).await?;
        }
        if !step.superseded.is_empty() {
            let text = format!("DELETE FROM index_ids WHERE block IN ({})", list(&step.superseded));
            statements(text).execute(&mut *connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(connection).await?;
        Ok(())
    }

    pub(in crate::store) async fn read_segment(
        &self,
        user: &UserName,
        segment: u64,
    ) -> Result<SegmentPage, StoreError> {
        let peers = self.directory.users().iter().filter(|peer| peer.name != *user);
        let conversations: Vec<String> =
            peers.map(|peer| self.directory.conversation(user, &peer.name).to_string()).collect();
        let text = format!(
            "SELECT state.trimmed, pages.places FROM log_state AS state LEFT JOIN index_conversations AS pages \
             ON pages.segment = {segment} AND pages.conversation IN ({}) WHERE state.one = 1",
            conversations.join(",")
        );
        let rows: Vec<(i64, Option<Vec<u8>>)> = self.rows(text).await?;
        let trimmed = rows.first().map_or_else(Offset::default, |(trimmed, _)| offset(*trimmed));
        Ok(SegmentPage::new(trimmed, segment, rows.iter().filter_map(|(_, places)| places.as_ref())))
    }

    pub(in crate::store) async fn forget_index(
        &self,
        segments: u64,
        blocks: &[Range<BlockKey>],
    ) -> Result<(), StoreError> {
        let mut text = format!("DELETE FROM index_conversations WHERE segment < {segments}");
        for Range { start, end } in blocks {
            let _ = write!(text, "; DELETE FROM index_ids WHERE block >= {} AND block < {}", start.0, end.0);
        }
        self.upkeep.execute(|| statements(text.clone())).await?;
        Ok(())
    }
}

/// Splits rows into parts that fit one write each, unless a single row does not.
fn in_one_write<Key>(rows: &[(Key, Vec<u8>)]) -> Vec<&[(Key, Vec<u8>)]> {
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    for (place, (_, bytes)) in rows.iter().enumerate() {
        let bytes = KEY_BYTES + bytes.len();
        sum += bytes;
        if sum > BatchLimit::MYSQL.payload && place > start {
            parts.push(&rows[start..place]);
            (start, sum) = (place, bytes);
        }
    }
    if start < rows.len() {
        parts.push(&rows[start..]);
    }
    parts
}
