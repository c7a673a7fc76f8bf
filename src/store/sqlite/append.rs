//! Putting smiles into the SQLite log, and taking the oldest out of it.
//!
//! Owns the two transactions that change the log and what is known when one of them breaks.

use std::collections::HashMap;

use sqlx::{Connection, SqliteConnection};

use super::{Sqlite, Writer, connect};
use crate::model::{NewSmile, Offset, Timestamp};
use crate::protocol::to_json;
use crate::store::batch::{Batch, Row};
use crate::store::{Appended, StoreError};

/// Which smiles of a batch are stored already, and where. One look-up in the index for each.
const FIND_DUPLICATES: &str = "
    SELECT batch.key, smiles.position
    FROM json_each(?1) AS batch
    CROSS JOIN smiles ON smiles.sender = batch.value ->> 0 AND smiles.id = batch.value ->> 1";

/// The new smiles of a batch, from offset ?2 on. One statement whatever their number, so that it is compiled once.
const INSERT: &str = "
    INSERT INTO smiles (position, sender, id, receiver, conversation, faces, at)
    SELECT ?2 + batch.key, batch.value ->> 0, batch.value ->> 1, batch.value ->> 2, batch.value ->> 3,
        batch.value ->> 4, ?3
    FROM json_each(?1) AS batch";

impl Sqlite {
    pub(in crate::store) async fn append(
        &self,
        smiles: &[NewSmile],
        at: Timestamp,
    ) -> Result<Vec<Appended>, StoreError> {
        let rows: Vec<Row<'_>> = smiles.iter().map(|smile| Row::new(smile, self.directory())).collect();
        let mut writer = self.writer().await?;

        let (head, stored): (i64, Vec<(i64, i64)>) = {
            let head = sqlx::query_scalar("SELECT head FROM log").fetch_one(&mut writer.connection).await?;
            let stored = sqlx::query_as(FIND_DUPLICATES).bind(to_json(&rows));
            (head, stored.fetch_all(&mut writer.connection).await?)
        };
        let stored = stored.into_iter().filter_map(|(place, position)| {
            let row = rows.get(usize::try_from(place).ok()?)?;
            Some((row.key(), Appended::Duplicate(offset(position))))
        });
        let batch = Batch::new(&rows, &stored.collect::<HashMap<_, _>>());
        if batch.new.is_empty() {
            writer.keep();
            return Ok(batch.appended(offset(head)));
        }

        let new_head = head + i64::try_from(batch.new.len()).unwrap_or(i64::MAX);
        match insert(&mut writer.connection, &batch.new, head, at).await {
            Ok(()) => writer.keep(),
            Err(error) => self.find_out(writer, error, new_head).await?,
        }
        Ok(batch.appended(offset(head)))
    }

    /// Whether the commit that was answered with `error` took place all the same: this process is the only writer, so
    /// the head tells. Keeps the fresh connection that it asked with.
    async fn find_out(&self, writer: Writer<'_>, error: sqlx::Error, new_head: i64) -> Result<(), StoreError> {
        let Writer { slot, connection } = writer;
        drop(connection);
        let asked = async {
            let mut connection = connect(&self.inner.path).await?;
            let head: i64 = sqlx::query_scalar("SELECT head FROM log").fetch_one(&mut connection).await?;
            Ok::<_, sqlx::Error>((connection, head))
        };
        match asked.await {
            Ok((connection, head)) => {
                Writer { slot, connection }.keep();
                if head == new_head { Ok(()) } else { Err(error.into()) }
            }
            Err(_) => Err(StoreError::OutcomeUnknown(Box::new(error))),
        }
    }

    pub(in crate::store) async fn trim(&self, older_than: Timestamp, limit: u32) -> Result<u64, StoreError> {
        // Read apart from the writer: only this function removes, so what is old stays old and stays there.
        let oldest: Vec<(i64, i64)> = sqlx::query_as("SELECT position, at FROM smiles ORDER BY position LIMIT ?1")
            .bind(limit)
            .fetch_all(&self.inner.readers)
            .await?;
        let old = oldest.iter().take_while(|(_, at)| *at < older_than.as_milliseconds());
        let Some((last, _)) = old.last() else { return Ok(0) };

        let mut writer = self.writer().await?;
        let mut transaction = writer.connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE log SET trimmed = ?1").bind(last).execute(&mut *transaction).await?;
        let removed =
            sqlx::query("DELETE FROM smiles WHERE position <= ?1").bind(last).execute(&mut *transaction).await?;
        transaction.commit().await?;
        writer.keep();
        Ok(removed.rows_affected())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    new: &[&Row<'_>],
    head: i64,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    sqlx::query(INSERT)
        .bind(to_json(&new))
        .bind(head + 1)
        .bind(at.as_milliseconds())
        .execute(&mut *transaction)
        .await?;
    sqlx::query("UPDATE log SET head = head + ?1")
        .bind(i64::try_from(new.len()).unwrap_or(i64::MAX))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// A row's position as an offset; positions are never negative.
pub(super) fn offset(position: i64) -> Offset {
    Offset(position.unsigned_abs())
}
