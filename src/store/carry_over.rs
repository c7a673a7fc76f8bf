//! Converts the smiles of an earlier schema, with one row per smile, into batches.

use sqlx::{Database, Encode, FromRow, QueryBuilder, Type};

use super::StoreError;
use super::batch::{BatchKey, NewBatch, encode};
use super::user_directory::UserDirectory;
use super::{integer, offset};
use crate::model::{Faces, Smile, SmileId, Timestamp};

/// Rows carried over in one transaction.
pub(super) const ROWS_PER_TRANSACTION: u32 = 20_000;

/// The end of the log tells how far an interrupted conversion got.
pub(super) const HEAD: &str = "
    SELECT COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), trimmed)
    FROM log_state WHERE one = 1";

pub(super) const READ_OLD: &str = "
    SELECT position, sender, receiver, id, faces, at FROM smiles_before_batches
    WHERE position > ? ORDER BY position LIMIT ?";

/// Smiles in one batch.
const SMILES_PER_BATCH: usize = 1000;

/// A row of the earlier schema.
#[derive(Debug, FromRow)]
pub(super) struct StoredRow {
    pub(super) position: i64,
    pub(super) sender: i64,
    pub(super) receiver: i64,
    pub(super) id: String,
    pub(super) faces: String,
    pub(super) at: i64,
}

/// Groups consecutive rows into batches, each with the time of its last smile.
///
/// # Errors
/// [`StoreError::Unavailable`] if a row is not a valid smile.
pub(super) fn into_batches(
    rows: &[StoredRow],
    directory: &UserDirectory,
) -> Result<Vec<(NewBatch, Timestamp)>, StoreError> {
    let smile = |row: &StoredRow| {
        let user = |id: i64| directory.name(u32::try_from(id).ok()?).cloned();
        Some(Smile {
            offset: offset(row.position),
            id: SmileId::parse(&row.id)?,
            from: user(row.sender)?,
            to: user(row.receiver)?,
            faces: Faces::from_stored(&row.faces),
            at: Timestamp(row.at),
        })
    };
    let damaged = |row: &StoredRow| {
        StoreError::Unavailable(format!("row {} is not a smile: it was edited by hand", row.position).into())
    };
    let smiles: Vec<Smile> = rows.iter().map(|row| smile(row).ok_or_else(|| damaged(row))).collect::<Result<_, _>>()?;
    let batches = smiles.chunks(SMILES_PER_BATCH).map(|smiles| {
        let batch = NewBatch {
            previous: None,
            key: BatchKey { first: smiles[0].offset, token: rand::random() },
            count: smiles.len(),
            payload: encode(smiles.iter(), directory),
        };
        (batch, smiles[smiles.len() - 1].at)
    });
    Ok(batches.collect())
}

/// Inserts batches. Their number must not be zero.
pub(super) fn insert<DB: Database>(batches: &[(NewBatch, Timestamp)]) -> QueryBuilder<DB>
where
    i64: for<'value> Encode<'value, DB> + Type<DB>,
    Vec<u8>: for<'value> Encode<'value, DB> + Type<DB>,
{
    let mut insert = QueryBuilder::new("INSERT INTO log_batches (first, smiles, token, appended_at, payload) ");
    insert.push_values(batches, |mut row, (batch, at)| {
        row.push_bind(integer(batch.key.first.0))
            .push_bind(integer(batch.count))
            .push_bind(batch.key.token)
            .push_bind(at.0)
            .push_bind(&batch.payload);
    });
    insert
}
