//! The index in MySQL: pages of conversations and blocks of ids, written a segment at a time by one of the replicas.

use std::collections::HashMap;
use std::fmt::Write as _;

use sqlx::{FromRow, MySqlConnection, QueryBuilder};

use super::connections::{ANSWER, within};
use super::{MySql, statements};
use crate::model::{Offset, Smile, UserName};
use crate::store::batch::{LARGEST_PAYLOAD, decode, encode};
use crate::store::index::{BlockKey, IndexStep, Pages, SegmentPage, list};
use crate::store::{StoreError, integer, offset};

/// Takes the index, or keeps it, for 1 s by the database's clock: a replica that dies or freezes with it keeps it no longer.
const CLAIM: &str = "
    UPDATE log_state SET indexer = ?, indexer_until = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) + 1000
    WHERE one = 1 AND (indexer = ? OR indexer_until < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED))";

const PAGES: &str = "
    SELECT smiles FROM index_pages WHERE conversation = ? AND segment <= ?
    ORDER BY segment DESC, part DESC LIMIT ? OFFSET ?";

/// How many segments are indexed, and a block unless there is none: tier, run, block and entries.
type BlockRow = (i64, Option<i64>, Option<i64>, Option<i64>, Option<Vec<u8>>);

impl MySql {
    /// Whether this replica, which calls itself `claimant`, is the one that writes the index for the next seconds.
    pub(in crate::store) async fn claim_index(&self, claimant: i64) -> Result<bool, StoreError> {
        let indexing = &self.inner.indexing;
        let ask = async || {
            let mut lane = indexing.take().await?;
            let claim = sqlx::query(CLAIM).bind(claimant).bind(claimant).execute(&mut lane.connection);
            // Rows that match count, changed or not.
            let claimed = within(ANSWER, claim).await?.rows_affected() > 0;
            lane.keep();
            Ok(claimed)
        };
        Ok(indexing.ask(ask).await?)
    }

    pub(in crate::store) async fn indexed(&self) -> Result<u64, StoreError> {
        let indexing = &self.inner.indexing;
        let ask = async || {
            let mut lane = indexing.take().await?;
            let indexed = sqlx::query_scalar("SELECT indexed FROM log_state WHERE one = 1");
            let indexed: i64 = within(ANSWER, indexed.fetch_one(&mut lane.connection)).await?;
            lane.keep();
            Ok(indexed)
        };
        Ok(indexing.ask(ask).await?.unsigned_abs())
    }

    pub(in crate::store) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        let mut lane = self.inner.indexing.take().await?;
        within(ANSWER, self.write(step, &mut lane.connection)).await?;
        lane.keep();
        Ok(())
    }

    async fn write(&self, step: &IndexStep<'_>, connection: &mut MySqlConnection) -> sqlx::Result<()> {
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        let moved = sqlx::query("UPDATE log_state SET indexed = ? WHERE one = 1 AND indexed = ?");
        let moved = moved.bind(number(step.segment + 1)).bind(number(step.segment)).execute(&mut *connection).await?;
        if moved.rows_affected() == 0 {
            // Another replica has written this segment.
            sqlx::raw_sql("ROLLBACK").execute(connection).await?;
            return Ok(());
        }
        // The statements stay prepared: to close one and to send the next are two writes, of which Nagle's algorithm holds the
        // second back until the first is acknowledged, 40 ms later.
        let directory = self.directory();
        let pages: Vec<_> =
            step.pages.iter().map(|page| (page, encode(page.smiles.iter().copied(), directory))).collect();
        for pages in in_one_write(&pages, |(_, smiles)| smiles.len()) {
            let mut insert = QueryBuilder::new("INSERT INTO index_pages (conversation, segment, part, smiles) ");
            insert.push_values(pages, |mut row, (page, smiles)| {
                row.push_bind(directory.conversation(page.users.0, page.users.1))
                    .push_bind(number(step.segment))
                    .push_bind(page.part)
                    .push_bind(smiles);
            });
            insert.push(" AS written ON DUPLICATE KEY UPDATE smiles = written.smiles");
            insert.build().execute(&mut *connection).await?;
        }
        for blocks in in_one_write(&step.blocks, |(_, entries)| entries.len()) {
            let mut insert = QueryBuilder::new("INSERT INTO index_ids (tier, run, block, entries) ");
            insert.push_values(blocks, |mut row, (key, entries)| {
                row.push_bind(key.tier).push_bind(number(key.run)).push_bind(number(key.block)).push_bind(entries);
            });
            insert.push(" AS written ON DUPLICATE KEY UPDATE entries = written.entries");
            insert.build().execute(&mut *connection).await?;
        }
        if !step.superseded.is_empty() {
            let text = format!("DELETE FROM index_ids WHERE (tier, run, block) IN ({})", list(&step.superseded));
            statements(text).execute(&mut *connection).await?;
        }
        sqlx::raw_sql("COMMIT").execute(connection).await?;
        Ok(())
    }

    pub(in crate::store) async fn read_blocks(
        &self,
        keys: &[BlockKey],
    ) -> Result<(u64, HashMap<BlockKey, Vec<u8>>), StoreError> {
        let reading = &self.inner.reading;
        let ask = async || {
            let mut lane = reading.take().await?;
            let text = format!(
                "SELECT state.indexed, CAST(ids.tier AS SIGNED), ids.run, ids.block, ids.entries \
                 FROM log_state AS state LEFT JOIN index_ids AS ids ON (ids.tier, ids.run, ids.block) IN ({}) \
                 WHERE state.one = 1",
                list(keys)
            );
            let rows = within(ANSWER, statements(text).fetch_all(&mut lane.connection)).await?;
            lane.keep();
            rows.iter().map(FromRow::from_row).collect::<sqlx::Result<Vec<_>>>()
        };
        let rows: Vec<BlockRow> = reading.ask(ask).await?;
        let indexed = rows.first().map_or(0, |(indexed, ..)| indexed.unsigned_abs());
        let blocks = rows.into_iter().filter_map(|(_, tier, run, block, entries)| {
            let tier = u32::try_from(tier?).ok()?;
            Some((BlockKey { tier, run: run?.unsigned_abs(), block: block?.unsigned_abs() }, entries?))
        });
        Ok((indexed, blocks.collect()))
    }

    pub(in crate::store) async fn read_segment(
        &self,
        user: &UserName,
        segment: u64,
    ) -> Result<SegmentPage, StoreError> {
        let reading = &self.inner.reading;
        let ask = async || {
            let mut lane = reading.take().await?;
            let peers = self.directory().users().iter().filter(|peer| peer.name != *user);
            let conversations: Vec<String> =
                peers.map(|peer| self.directory().conversation(user, &peer.name).to_string()).collect();
            let text = format!(
                "SELECT state.trimmed, pages.smiles FROM log_state AS state LEFT JOIN index_pages AS pages \
                 ON pages.segment = {segment} AND pages.conversation IN ({}) WHERE state.one = 1",
                conversations.join(",")
            );
            let rows = within(ANSWER, statements(text).fetch_all(&mut lane.connection)).await?;
            lane.keep();
            rows.iter().map(FromRow::from_row).collect::<sqlx::Result<Vec<_>>>()
        };
        let rows: Vec<(i64, Option<Vec<u8>>)> = reading.ask(ask).await?;
        let trimmed = rows.first().map_or_else(Offset::default, |(trimmed, _)| offset(*trimmed));
        let pages = rows.iter().filter_map(|(_, page)| Some(decode(page.as_ref()?, self.directory())));
        Ok(SegmentPage { trimmed, pages: pages.collect::<Result<_, _>>()? })
    }

    pub(in crate::store) async fn read_pages(
        &self,
        users: (&UserName, &UserName),
        pages: Pages,
    ) -> Result<Vec<Vec<Smile>>, StoreError> {
        let reading = &self.inner.reading;
        let ask = async || {
            let mut lane = reading.take().await?;
            let rows = sqlx::query_scalar(PAGES)
                .bind(self.directory().conversation(users.0, users.1))
                .bind(number(pages.through_segment))
                .bind(pages.limit)
                .bind(pages.skip)
                .fetch_all(&mut lane.connection);
            let rows: Vec<Vec<u8>> = within(ANSWER, rows).await?;
            lane.keep();
            Ok(rows)
        };
        reading.ask(ask).await?.iter().map(|row| decode(row, self.directory())).collect()
    }

    pub(in crate::store) async fn forget_index(&self, segments: u64, runs: &[(u32, u64)]) -> Result<(), StoreError> {
        let upkeep = &self.inner.upkeep;
        let mut text = format!("DELETE FROM index_pages WHERE segment < {segments}");
        for (tier, run) in runs {
            let _ = write!(text, "; DELETE FROM index_ids WHERE tier = {tier} AND run < {run}");
        }
        let mut lane = upkeep.take().await?;
        within(ANSWER, statements(text).execute(&mut lane.connection)).await?;
        lane.keep();
        Ok(())
    }
}

/// Rows in parts that are sent in one write each, if a row allows it.
fn in_one_write<T>(rows: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut parts, mut start, mut sum) = (Vec::new(), 0, 0);
    for (place, row) in rows.iter().enumerate() {
        sum += bytes(row);
        if sum > LARGEST_PAYLOAD && place > start {
            parts.push(&rows[start..place]);
            (start, sum) = (place, bytes(row));
        }
    }
    if start < rows.len() {
        parts.push(&rows[start..]);
    }
    parts
}

/// A count as the integer MySQL keeps.
fn number(count: u64) -> i64 {
    integer(Offset(count))
}
