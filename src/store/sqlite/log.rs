//! The log in SQLite.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection};

use super::{KeptConnection, Sqlite, explain};
use crate::model::{Epoch, Offset};
use crate::store::batch::{Batch, NewBatch, decode, select_at};
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
        if !self.inner.file.is_in_place() {
            return Err(AppendError::Replaced);
        }
        let mut log = self.inner.writer.lock().await;
        let error = match insert(&mut log, batch).await {
            Ok(true) => return Ok(Append::Done),
            Ok(false) => return Ok(Append::Unlinked),
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
        let state: (String, i64, i64) = sqlx::query_as(STATE).fetch_one(&self.inner.readers).await?;
        Ok(log_state(&state))
    }

    pub(in crate::store) async fn read_log(&self, after: Offset, batches: u32) -> Result<LogPage, StoreError> {
        let mut snapshot = self.inner.readers.begin().await?;
        let state: (String, i64, i64) = sqlx::query_as(STATE).fetch_one(&mut *snapshot).await?;
        let rows: Vec<(i64, Vec<u8>)> =
            sqlx::query_as(READ).bind(integer(after)).bind(batches).fetch_all(&mut *snapshot).await?;
        let batches = rows.iter().map(|row| self.batch(row)).collect::<Result<_, _>>()?;
        Ok(LogPage { state: log_state(&state), batches })
    }

    pub(in crate::store) async fn batches_at(&self, offsets: &[Offset]) -> Result<Vec<Batch>, StoreError> {
        let rows = sqlx::query_as(AssertSqlSafe(select_at(offsets))).persistent(false);
        let rows: Vec<(i64, Vec<u8>)> = rows.fetch_all(&self.inner.readers).await?;
        rows.iter().map(|row| self.batch(row)).collect()
    }

    fn batch(&self, (token, payload): &(i64, Vec<u8>)) -> Result<Batch, StoreError> {
        Ok(Batch { token: *token, smiles: decode(payload, self.directory())? })
    }

    pub(in crate::store) async fn begin_epoch(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        let mut log = self.inner.writer.lock().await;
        let mut connection = log.take().await?;
        let begin = sqlx::query(BEGIN_EPOCH).bind(epoch.as_str()).execute(&mut connection).await?;
        log.keep(connection);
        Ok(begin.rows_affected() > 0)
    }

    pub(in crate::store) async fn trim(
        &self,
        kept: Duration,
        batches: u32,
    ) -> Result<Option<(Offset, u64)>, StoreError> {
        let kept = i64::try_from(kept.as_millis()).unwrap_or(i64::MAX);
        // Safe on a reading connection: only this function removes batches.
        let mut oldest: Vec<(i64, i64, bool)> =
            sqlx::query_as(OLDEST).bind(kept).bind(batches).fetch_all(&self.inner.readers).await?;
        let old = oldest.iter().take_while(|(.., old)| *old).count();
        oldest.truncate(old);
        let Some((trimmed, ..)) = oldest.last().copied() else { return Ok(None) };
        let mut log = self.inner.writer.lock().await;
        let mut connection = log.take().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE log_state SET trimmed = ?1").bind(trimmed).execute(&mut *transaction).await?;
        sqlx::query("DELETE FROM log_batches WHERE first <= ?1").bind(trimmed).execute(&mut *transaction).await?;
        transaction.commit().await?;
        log.keep(connection);
        Ok(Some((offset(trimmed), oldest.iter().map(|(_, smiles, _)| smiles.unsigned_abs()).sum())))
    }
}

/// Inserts a batch; `false` if the log does not end with its previous batch.
async fn insert(log: &mut KeptConnection, batch: &NewBatch) -> sqlx::Result<bool> {
    let mut connection = log.take().await?;
    let inserted = sqlx::query(INSERT)
        .bind(integer(batch.key.first))
        .bind(i64::try_from(batch.count).unwrap_or(i64::MAX))
        .bind(batch.key.token)
        .bind(&batch.payload)
        .bind(batch.previous.map(|previous| integer(previous.first)))
        .bind(batch.previous.map(|previous| previous.token))
        .execute(&mut connection)
        .await?;
    log.keep(connection);
    Ok(inserted.rows_affected() > 0)
}

async fn token_at(log: &mut KeptConnection, first: Offset) -> sqlx::Result<Option<i64>> {
    let mut connection = log.take().await?;
    let token = sqlx::query_scalar("SELECT token FROM log_batches WHERE first = ?1").bind(integer(first));
    let token = token.fetch_optional(&mut connection).await?;
    log.keep(connection);
    Ok(token)
}

fn log_state((epoch, trimmed, head): &(String, i64, i64)) -> LogState {
    LogState { epoch: Epoch::new(epoch), head: offset(*head), trimmed: offset(*trimmed) }
}
