//! Appends batches to the log in MySQL.

use std::time::{Duration, Instant};

use super::MySql;
use super::connections::{NOT_PRIMARY, number, within};
use crate::store::batch::NewBatch;
use crate::store::{Append, AppendError, StoreError, integer};

/// Errors that show that this attempt has not stored the batch: MySQL did not start the statement or rolled it back.
/// Error 1053, server shutdown, is not among them, since MySQL may have committed before the shutdown.
const NOT_STORED: [u16; 9] = [1021, 1044, 1049, 1114, 1142, 1205, 1213, 1305, 1370];

/// Results of the procedure `append_to_log` (`sql/mysql/0023_append_to_log.sql`).
const DONE: i64 = 0;
const OCCUPIED: i64 = 1;

/// Time limit for reaching MySQL, so that a smile is refused within about a second when MySQL is down.
const REACHED: Duration = Duration::from_millis(800);

/// The error for a missing table: the database was dropped and created again.
const NO_TABLE: u16 = 1146;

pub(in crate::store) fn read_error(error: sqlx::Error) -> StoreError {
    if number(&error) == Some(NO_TABLE) { StoreError::Replaced } else { error.into() }
}

impl MySql {
    pub(in crate::store) async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        let pooled = within(REACHED, self.appending.take()).await;
        let pooled = pooled.map_err(|error| AppendError::NotStored(error.into()))?;
        let call = sqlx::query_scalar("CALL append_to_log(?, ?, ?, ?, ?, ?)")
            .bind(batch.previous.map(|previous| integer(previous.first.0)))
            .bind(batch.previous.map(|previous| previous.token))
            .bind(integer(batch.key.first.0))
            .bind(integer(batch.count))
            .bind(batch.key.token)
            .bind(&batch.payload);
        // Reads the whole answer: a connection with unread results accepts no further statement.
        let answers = pooled.run(async |mut connection| Ok((call.fetch_all(&mut connection).await?, connection))).await;
        let append = match answers.map(|answers| answers.first().copied()) {
            Ok(Some(DONE)) => Append::Done,
            Ok(Some(OCCUPIED)) => self.compare_token(batch).await?,
            Ok(_) => Append::Unlinked,
            Err(error) => {
                let not_stored =
                    number(&error).is_some_and(|number| NOT_STORED.contains(&number) || NOT_PRIMARY.contains(&number));
                let error = error.into();
                return Err(if not_stored { AppendError::NotStored(error) } else { AppendError::InDoubt(error) });
            }
        };
        if append == Append::Done {
            self.peer_appends.lock().appended(batch.key.first, batch.count, Instant::now());
        }
        Ok(append)
    }

    /// An earlier attempt, whose answer was lost, may have appended the batch at this offset.
    async fn compare_token(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        let tokens: sqlx::Result<Vec<(i64,)>> = self.rows(&batch.select_token()).await;
        match tokens.map_err(|error| AppendError::InDoubt(error.into()))?[..] {
            [(token,)] if token == batch.key.token => Ok(Append::Done),
            [_, ..] => Ok(Append::Occupied),
            [] => Err(AppendError::InDoubt("the batch at this offset is gone".into())),
        }
    }
}
