//! Migrations of an SQLite file, including the conversion of an earlier version's smiles into batches.

use sqlx::{Connection, SqliteConnection};

use super::Sqlite;
use crate::store::carry_over::{ROWS_PER_TRANSACTION, StoredRow, into_batches};
use crate::store::{StoreError, hash_key, integer};

const START: &str = "UPDATE log_state SET starts = starts + 1 RETURNING hash_key, starts";

const IS_THERE: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'smiles_before_batches'";

const READ: &str = "
    SELECT position, sender, receiver, id, faces, at FROM smiles_before_batches
    WHERE position > ?1 ORDER BY position LIMIT ?2";

const INSERT: &str = "INSERT INTO log_batches (first, smiles, token, appended_at, payload) VALUES (?1, ?2, ?3, ?4, ?5)";

/// The values that are constant while a file is open.
pub(super) struct Opened {
    /// Row id, name and face of each user.
    pub(super) users: Vec<(u32, String, String)>,
    /// The key of [`IdHash`](crate::store::IdHash).
    pub(super) hash_key: [u8; 16],
    /// How often the file was opened, including this time.
    pub(super) starts: i64,
}

/// Runs the migrations, and counts this start.
pub(super) async fn up_to_date(connection: &mut SqliteConnection) -> sqlx::Result<Opened> {
    sqlx::migrate!("sql/sqlite").run_direct(None, connection, false).await?;
    let users = sqlx::query_as("SELECT id, name, face FROM users ORDER BY id").fetch_all(&mut *connection).await?;
    let (key, starts): (Vec<u8>, i64) = sqlx::query_as(START).fetch_one(connection).await?;
    Ok(Opened { users, hash_key: hash_key(key)?, starts })
}

impl Sqlite {
    /// Converts the rows of an earlier version into batches, some thousands per transaction. After an interruption the
    /// next start continues at the head of the log.
    pub(super) async fn carry_over(&self) -> Result<(), StoreError> {
        let mut log = self.inner.writer.lock().await;
        let mut connection = log.take().await?;
        let old_tables: i64 = sqlx::query_scalar(IS_THERE).fetch_one(&mut connection).await?;
        if old_tables > 0 {
            while self.carry_some_over(&mut connection).await? {
                tracing::info!("carrying smiles of an earlier version over into batches");
            }
            sqlx::query("DROP TABLE smiles_before_batches").execute(&mut connection).await?;
        }
        log.keep(connection);
        Ok(())
    }

    /// Converts some rows; `false` if none were left.
    async fn carry_some_over(&self, connection: &mut SqliteConnection) -> Result<bool, StoreError> {
        let after = integer(self.log_state().await?.head);
        let rows: Vec<StoredRow> =
            sqlx::query_as(READ).bind(after).bind(ROWS_PER_TRANSACTION).fetch_all(&mut *connection).await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for (batch, at) in into_batches(&rows, self.directory())? {
            sqlx::query(INSERT)
                .bind(integer(batch.key.first))
                .bind(i64::try_from(batch.count).unwrap_or(i64::MAX))
                .bind(batch.key.token)
                .bind(at.as_milliseconds())
                .bind(&batch.payload)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(!rows.is_empty())
    }
}
