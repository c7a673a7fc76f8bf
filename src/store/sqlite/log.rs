//! Appends batches to the log in SQLite.

use sqlx::error::DatabaseError;

use super::{Sqlite, explain};
use crate::store::batch::NewBatch;
use crate::store::{Append, AppendError, integer};

/// Inserts a batch if the log holds its previous batch, or if retention has removed exactly what comes before it. In
/// either case, a batch that already has this offset, even the same batch, makes the insert violate the primary key.
const INSERT: &str = "
    INSERT INTO log_batches (first, smiles, token, appended_at, payload)
    SELECT ?1, ?2, ?3, CAST(unixepoch('subsec') * 1000 AS INTEGER), ?4
    WHERE EXISTS (SELECT 1 FROM log_batches WHERE first = ?5 AND smiles = ?1 - ?5 AND token = ?6)
        OR EXISTS (SELECT 1 FROM log_state WHERE trimmed = ?1 - 1)";

/// Result codes of a commit that failed after all of it was written to the write-ahead log: that log could not be
/// synced (`SQLITE_IOERR_FSYNC`), or its index, the file with the suffix `-shm`, could not grow
/// (`SQLITE_IOERR_SHMSIZE`, `SQLITE_IOERR_SHMMAP`, `SQLITE_IOERR_NOMEM`, `SQLITE_NOMEM`). No query shows such a commit,
/// but if the process dies before the next commit overwrites it, the next start recovers it
/// (<https://www.sqlite.org/rescode.html>).
const COMPLETE: [&str; 5] = ["1034", "4874", "5386", "3082", "7"];

impl Sqlite {
    pub(in crate::store) async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        if !self.is_in_place() {
            return Err(AppendError::Replaced);
        }
        let insert = sqlx::query(INSERT)
            .bind(integer(batch.key.first.0))
            .bind(integer(batch.count))
            .bind(batch.key.token)
            .bind(&batch.payload)
            .bind(batch.previous.map(|previous| integer(previous.first.0)))
            .bind(batch.previous.map(|previous| previous.token));
        let inserted = self.writer.lock().await.execute(insert).await;
        let (complete, error) = match inserted {
            Ok(0) => return Ok(Append::Unlinked),
            // The file may have been deleted or replaced during the commit.
            Ok(_) if !self.is_in_place() => return Err(AppendError::Replaced),
            Ok(_) => return Ok(Append::Done),
            Err(error) => (may_be_complete(&error), explain(error)),
        };
        // The failed connection is closed, so the file now shows the outcome.
        match self.rows::<(i64,)>(&batch.select_token()).await.as_deref() {
            Ok([(token,)]) if *token == batch.key.token => Ok(Append::Done),
            Ok([_, ..]) => Ok(Append::Occupied),
            Ok([]) if !complete => Err(AppendError::NotStored(error)),
            Ok([]) | Err(_) => Err(AppendError::InDoubt(error)),
        }
    }
}

fn may_be_complete(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| COMPLETE.contains(&&*code))
}
