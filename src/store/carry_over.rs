//! Converts the smiles of an earlier schema, which had one row per smile, into batches.

use std::fmt::Write as _;

use super::batch::encode;
use super::offset;
use super::user_directory::UserDirectory;
use crate::model::{Faces, Smile, SmileId, Timestamp};

/// The end of the log shows how far an interrupted conversion got.
pub(super) const NEXT_ROWS: &str = "
    SELECT position, sender, receiver, id, faces, at FROM smiles_before_batches
    WHERE position > (
        SELECT COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), trimmed)
        FROM log_state WHERE one = 1
    )
    ORDER BY position LIMIT 20000";

/// On SQLite, there is no table `replicas_before_batches`.
const DROP_OLD: &str = "DROP TABLE IF EXISTS replicas_before_batches; DROP TABLE smiles_before_batches";

const SMILES_PER_BATCH: usize = 1000;

/// As [`NEXT_ROWS`] selects it.
pub(super) type StoredRow = (i64, i64, i64, String, String, i64);

/// The SQL of the next step of the conversion. The step inserts consecutive rows as batches, each with the time of its
/// last smile as `appended_at`. The last step drops the old tables.
///
/// # Errors
/// [`sqlx::Error::Decode`] if a row has an invalid id or an unknown user. The faces are not checked.
pub(super) fn next_step(rows: &[StoredRow], directory: &UserDirectory) -> sqlx::Result<String> {
    if rows.is_empty() {
        return Ok(DROP_OLD.to_owned());
    }
    tracing::info!(smiles = rows.len(), "converting smiles of an earlier version into batches");
    let smile = |(position, sender, receiver, id, faces, at): &StoredRow| {
        let user = |id: i64| directory.name(u32::try_from(id).ok()?).cloned();
        Some(Smile {
            offset: offset(*position),
            id: SmileId::parse(id)?,
            from: user(*sender)?,
            to: user(*receiver)?,
            faces: Faces::from_stored(faces),
            at: Timestamp(*at),
        })
    };
    let damaged = |(position, ..): &StoredRow| {
        sqlx::Error::Decode(format!("row {position} is not a valid smile: was it edited by hand?").into())
    };
    let smiles: Vec<Smile> = rows.iter().map(|row| smile(row).ok_or_else(|| damaged(row))).collect::<Result<_, _>>()?;
    let mut insert = "INSERT INTO log_batches (first, smiles, token, appended_at, payload) VALUES ".to_owned();
    for (place, batch) in smiles.chunks(SMILES_PER_BATCH).enumerate() {
        let (first, count, at) = (batch[0].offset, batch.len(), batch[batch.len() - 1].at.0);
        let comma = if place > 0 { "," } else { "" };
        let _ = write!(insert, "{comma}({first}, {count}, {}, {at}, x'", rand::random::<i64>());
        for byte in encode(batch, directory) {
            let _ = write!(insert, "{byte:02x}");
        }
        insert.push_str("')");
    }
    Ok(insert)
}
