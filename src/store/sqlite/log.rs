//! The log in SQLite.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::{KeptConnection, Sqlite, explain};
use crate::model::{Epoch, Offset};
use crate::store::batch::{Batch, NewBatch};
use crate::store::{Append, AppendError, LogPage, LogState, StoreError, integer, offset};

/// Inserts a batch if the log ends with its previous batch, or if retention has removed everything before it. Violates
/// the primary key if a batch has this offset already.
const INSERT: &str = "
    INSERT INTO log_batches (first, smiles, token, appended_at, payload)
    SELECT ?1, ?2, ?3, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?4
    WHERE IIF(
        ?5 IS NULL,
        NOT EXISTS (SELECT 1 FROM log_batches WHERE first <> ?1) OR EXISTS (SELECT 1 FROM log_batches WHERE first = ?1),
        EXISTS (SELECT 1 FROM log_batches WHERE first = ?5 AND smiles = ?1 - ?5 AND token = ?6)
            OR EXISTS (SELECT 1 FROM log_state WHERE trimmed = ?1 - 1)
    )";

const STATE: &str = "
    SELECT epoch, trimmed, COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), trimmed)
    FROM log_state";

const READ: &str = "SELECT token, payload FROM log_batches WHERE first > ?1 ORDER BY first LIMIT ?2";

const BEGIN_EPOCH: &str = "UPDATE log_state SET epoch = lower(hex(randomblob(16))) WHERE epoch = ?1";

/// The oldest batches, and whether they are old enough.
const OLDEST: &str = "
    SELECT first + smiles - 1, smiles, appended_at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?1
    FROM log_batches ORDER BY first LIMIT ?2";

impl Sqlite {
    pub(in crate::store) async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        if !self.file.is_in_place() {
            return Err(AppendError::Replaced);
        }
        let insert = sqlx::query(INSERT)
            .bind(integer(batch.key.first.0))
            .bind(integer(batch.count))
            .bind(batch.key.token)
            .bind(&batch.payload)
            .bind(batch.previous.map(|previous| integer(previous.first.0)))
            .bind(batch.previous.map(|previous| previous.token));
        let mut log = self.writer.lock().await;
        let error = match log.execute(insert).await {
            Ok(0) => return Ok(Append::Unlinked),
            Ok(_) => return Ok(Append::Done),
            Err(error) => explain(error),
        };
        // The failed connection is closed, so the file now shows the outcome.
        match token_at(&mut log, batch.key.first).await {
            Ok(Some(token)) if token == batch.key.token => Ok(Append::Done),
            Ok(Some(_)) => Ok(Append::Occupied),
            Ok(None) => Err(AppendError::NotBegun(error)),
            Err(_) => Err(AppendError::InDoubt(error)),
        }
    }

    pub(in crate::store) async fn log_state(&self) -> Result<LogState, StoreError> {
        let state: (String, i64, i64) = sqlx::query_as(STATE).fetch_one(&self.readers).await?;
        Ok(log_state(&state))
    }

    pub(in crate::store) async fn read_log(&self, after: Offset, batches: u32) -> Result<LogPage, StoreError> {
        let mut snapshot = self.readers.begin().await?;
        let state: (String, i64, i64) = sqlx::query_as(STATE).fetch_one(&mut *snapshot).await?;
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(READ).bind(integer(after.0)).bind(batches).fetch_all(&mut *snapshot).await?;
        let batches = rows.iter().map(|(token, payload)| Batch::decode(*token, payload, &self.directory));
        Ok(LogPage { state: log_state(&state), batches: batches.collect::<Result<_, _>>()? })
    }

    pub(in crate::store) async fn begin_epoch(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        let begin = sqlx::query(BEGIN_EPOCH).bind(epoch.as_str());
        Ok(self.writer.lock().await.execute(begin).await? > 0)
    }

    pub(in crate::store) async fn trim(
        &self,
        kept: Duration,
        batches: u32,
    ) -> Result<Option<(Offset, u64)>, StoreError> {
        let kept = integer(kept.as_millis());
        // Safe on a reading connection: only this function removes batches.
        let mut oldest: Vec<(i64, i64, bool)> =
            sqlx::query_as(OLDEST).bind(kept).bind(batches).fetch_all(&self.readers).await?;
        let old = oldest.iter().take_while(|(.., old)| *old).count();
        oldest.truncate(old);
        let Some((trimmed, ..)) = oldest.last().copied() else { return Ok(None) };
        let remove = format!(
            "BEGIN IMMEDIATE; UPDATE log_state SET trimmed = {trimmed}; \
             DELETE FROM log_batches WHERE first <= {trimmed}; COMMIT"
        );
        self.writer.lock().await.execute(sqlx::raw_sql(AssertSqlSafe(remove))).await?;
        Ok(Some((offset(trimmed), oldest.iter().map(|(_, smiles, _)| smiles.unsigned_abs()).sum())))
    }
}

async fn token_at(log: &mut KeptConnection, first: Offset) -> sqlx::Result<Option<i64>> {
    let mut connection = log.take().await?;
    let token = sqlx::query_scalar("SELECT token FROM log_batches WHERE first = ?1").bind(integer(first.0));
    let token = token.fetch_optional(&mut connection).await?;
    log.keep(connection);
    Ok(token)
}

fn log_state((epoch, trimmed, head): &(String, i64, i64)) -> LogState {
    LogState { epoch: Epoch::new(epoch), head: offset(*head), trimmed: offset(*trimmed) }
}
