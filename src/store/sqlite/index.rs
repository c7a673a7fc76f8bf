//! The index in SQLite: pages of conversations and blocks of ids, written a segment at a time.

use std::collections::HashMap;

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Connection, QueryBuilder, Sqlite as Database};

use super::Sqlite;
use crate::model::{Offset, Smile, UserName};
use crate::store::batch::{decode, encode};
use crate::store::index::{BlockKey, IndexStep, Pages, SegmentPage, list};
use crate::store::{StoreError, integer, offset};

/// One user's pages of a segment: one look-up for each user this one may have a conversation with.
const SEGMENT: &str = "
    SELECT pages.smiles FROM users AS peer
    CROSS JOIN index_pages AS pages
    ON pages.conversation = min(?1, peer.id) << 32 | max(?1, peer.id) AND pages.segment = ?2";

const PAGES: &str = "
    SELECT smiles FROM index_pages WHERE conversation = ?1 AND segment <= ?2
    ORDER BY segment DESC, part DESC LIMIT ?3 OFFSET ?4";

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// After so many segments the write-ahead log is moved into the file: it has grown by about 10 MiB.
const SEGMENTS_PER_CHECKPOINT: u64 = 16;

impl Sqlite {
    pub(in crate::store) async fn indexed(&self) -> Result<u64, StoreError> {
        if !self.inner.file.is_in_place() {
            return Err(StoreError::Replaced);
        }
        let indexed: i64 = sqlx::query_scalar("SELECT indexed FROM log_state").fetch_one(&self.inner.readers).await?;
        Ok(indexed.unsigned_abs())
    }

    pub(in crate::store) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        let mut pages = QueryBuilder::new("INSERT OR REPLACE INTO index_pages (conversation, segment, part, smiles) ");
        let mut blocks = QueryBuilder::new("INSERT OR REPLACE INTO index_ids (tier, run, block, entries) ");
        let superseded =
            format!("DELETE FROM index_ids WHERE (tier, run, block) IN (VALUES {})", list(&step.superseded));
        // Two short transactions, so that no commit of the log waits for long. What a crash leaves of them is written again.
        let mut first = Vec::new();
        if !step.superseded.is_empty() {
            first.push(sqlx::query(AssertSqlSafe(superseded)).persistent(false));
        }
        if !step.pages.is_empty() {
            pages.push_values(&step.pages, |mut row, page| {
                row.push_bind(self.directory().conversation(page.users.0, page.users.1))
                    .push_bind(number(step.segment))
                    .push_bind(page.part)
                    .push_bind(encode(page.smiles.iter().copied(), self.directory()));
            });
            first.push(pages.build().persistent(false));
        }
        self.write(first).await?;
        let mut second = Vec::new();
        if !step.blocks.is_empty() {
            blocks.push_values(&step.blocks, |mut row, (key, entries)| {
                row.push_bind(key.tier).push_bind(number(key.run)).push_bind(number(key.block)).push_bind(entries);
            });
            second.push(blocks.build().persistent(false));
        }
        second.push(sqlx::query("UPDATE log_state SET indexed = ?1").bind(number(step.segment + 1)));
        self.write(second).await?;
        if (step.segment + 1).is_multiple_of(SEGMENTS_PER_CHECKPOINT) { self.checkpoint().await } else { Ok(()) }
    }

    async fn write(&self, statements: Vec<Query<'_, Database, SqliteArguments>>) -> Result<(), StoreError> {
        let index = &mut self.inner.writers.lock().await.index;
        let mut connection = index.take().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for statement in statements {
            statement.execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        index.keep(connection);
        Ok(())
    }

    /// Moves the write-ahead log into the file before a commit has to. Most of it is moved beside the commits; only for
    /// the little that they have added meanwhile do they wait, so that the next one begins the log from its start.
    async fn checkpoint(&self) -> Result<(), StoreError> {
        let mut checkpointer = self.inner.checkpointer.lock().await;
        let mut connection = checkpointer.take().await?;
        sqlx::query(CHECKPOINT).execute(&mut connection).await?;
        let writers = self.inner.writers.lock().await;
        sqlx::query(CHECKPOINT).execute(&mut connection).await?;
        drop(writers);
        checkpointer.keep(connection);
        Ok(())
    }

    pub(in crate::store) async fn read_blocks(
        &self,
        keys: &[BlockKey],
    ) -> Result<(u64, HashMap<BlockKey, Vec<u8>>), StoreError> {
        let mut snapshot = self.inner.readers.begin().await?;
        let indexed: i64 = sqlx::query_scalar("SELECT indexed FROM log_state").fetch_one(&mut *snapshot).await?;
        let keys = list(keys);
        let text =
            format!("SELECT tier, run, block, entries FROM index_ids WHERE (tier, run, block) IN (VALUES {keys})");
        let rows = sqlx::query_as(AssertSqlSafe(text)).persistent(false);
        let rows: Vec<(u32, i64, i64, Vec<u8>)> = rows.fetch_all(&mut *snapshot).await?;
        let blocks = rows.into_iter().map(|(tier, run, block, entries)| {
            (BlockKey { tier, run: run.unsigned_abs(), block: block.unsigned_abs() }, entries)
        });
        Ok((indexed.unsigned_abs(), blocks.collect()))
    }

    pub(in crate::store) async fn read_segment(
        &self,
        user: &UserName,
        segment: u64,
    ) -> Result<SegmentPage, StoreError> {
        let mut snapshot = self.inner.readers.begin().await?;
        let trimmed: i64 = sqlx::query_scalar("SELECT trimmed FROM log_state").fetch_one(&mut *snapshot).await?;
        let rows = sqlx::query_scalar(SEGMENT).bind(self.directory().id(user)).bind(number(segment));
        let rows: Vec<Vec<u8>> = rows.fetch_all(&mut *snapshot).await?;
        let pages = rows.iter().map(|row| decode(row, self.directory())).collect::<Result<_, _>>()?;
        Ok(SegmentPage { trimmed: offset(trimmed), pages })
    }

    pub(in crate::store) async fn read_pages(
        &self,
        users: (&UserName, &UserName),
        pages: Pages,
    ) -> Result<Vec<Vec<Smile>>, StoreError> {
        let rows: Vec<Vec<u8>> = sqlx::query_scalar(PAGES)
            .bind(self.directory().conversation(users.0, users.1))
            .bind(number(pages.through_segment))
            .bind(pages.limit)
            .bind(pages.skip)
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(|row| decode(row, self.directory())).collect()
    }

    pub(in crate::store) async fn forget_index(&self, segments: u64, runs: &[(u32, u64)]) -> Result<(), StoreError> {
        let index = &mut self.inner.writers.lock().await.index;
        let mut connection = index.take().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        let pages = sqlx::query("DELETE FROM index_pages WHERE segment < ?1").bind(number(segments));
        pages.execute(&mut *transaction).await?;
        for (tier, run) in runs {
            let blocks = sqlx::query("DELETE FROM index_ids WHERE tier = ?1 AND run < ?2");
            blocks.bind(tier).bind(number(*run)).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        index.keep(connection);
        Ok(())
    }
}

/// A count as the integer SQLite keeps.
fn number(count: u64) -> i64 {
    integer(Offset(count))
}
