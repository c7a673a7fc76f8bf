//! The log in MySQL: append a batch, read batches, remove the oldest.

use std::time::{Duration, Instant};

use sqlx::FromRow;

use super::connections::{NOT_PRIMARY, number, within};
use super::{MySql, statements};
use crate::model::{Epoch, Offset};
use crate::store::batch::{Batch, NewBatch};
use crate::store::{Append, AppendError, LogPage, LogState, StoreError, integer, offset};

/// Errors after which a batch is certainly not in the log: MySQL did not start the statement or rolled it back. 1053,
/// server shutdown, is not among them, since MySQL may have committed before it.
const NOT_STORED: [u16; 9] = [1021, 1044, 1049, 1114, 1142, 1205, 1213, 1305, 1370];

/// Results of the procedure `append_batch` (`sql/mysql/0020_append_batch.sql`).
const DONE: i64 = 0;
const OCCUPIED: i64 = 1;

/// Time limit for reaching MySQL, so that a smile is refused within a second when MySQL is down.
const REACHED: Duration = Duration::from_millis(800);

const STATE: &str = "
    SELECT epoch, trimmed,
        COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), trimmed) AS head
    FROM log_state WHERE one = 1";

/// A page and the state of the log, in one snapshot.
const READ: &str = "
    SELECT state.epoch, state.trimmed,
        COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), state.trimmed) AS head,
        page.token, page.payload
    FROM log_state AS state LEFT JOIN (
        SELECT first, token, payload FROM log_batches WHERE first > ? ORDER BY first LIMIT ?
    ) AS page ON TRUE
    WHERE state.one = 1 ORDER BY page.first";

const BEGIN_EPOCH: &str = "
    UPDATE log_state SET epoch = LOWER(HEX(RANDOM_BYTES(16))) WHERE one = 1 AND epoch = ?";

/// The oldest batches, and whether retention may remove them.
const OLDEST: &str = "
    SELECT first + smiles - 1 AS last,
        CAST(appended_at < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - ? AS SIGNED)
    FROM log_batches ORDER BY first LIMIT ?";

/// A row of a page: the state of the log, and a batch if there is one.
type PageRow = (String, i64, i64, Option<i64>, Option<Vec<u8>>);

impl MySql {
    pub(in crate::store) async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        let pooled = within(REACHED, self.appending.take()).await;
        let pooled = pooled.map_err(|error| AppendError::NotBegun(error.into()))?;
        let call = sqlx::query_scalar("CALL append_batch(?, ?, ?, ?, ?, ?)")
            .bind(batch.previous.map(|previous| integer(previous.first.0)))
            .bind(batch.previous.map(|previous| previous.token))
            .bind(integer(batch.key.first.0))
            .bind(integer(batch.count))
            .bind(batch.key.token)
            .bind(&batch.payload);
        // Reads the whole answer: a connection with unread results accepts no further statement.
        let answers = pooled.ask(async |mut connection| Ok((call.fetch_all(&mut connection).await?, connection))).await;
        match answers.map(|answers| answers.first().copied()) {
            Ok(Some(DONE)) => {
                self.peer_appends.lock().appended(batch.key.first, batch.count, Instant::now());
                Ok(Append::Done)
            }
            Ok(Some(OCCUPIED)) => self.whose(batch).await,
            Ok(_) => Ok(Append::Unlinked),
            Err(error) => match number(&error) {
                Some(number) if NOT_STORED.contains(&number) || NOT_PRIMARY.contains(&number) => {
                    Err(AppendError::NotBegun(error.into()))
                }
                _ => Err(AppendError::InDoubt(error.into())),
            },
        }
    }

    /// Whether the batch at this offset is the given one: an earlier attempt may have succeeded without an answer.
    async fn whose(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        let tokens = self.rows(format!("SELECT token FROM log_batches WHERE first = {}", batch.key.first)).await;
        match tokens.map(|tokens: Vec<(i64,)>| tokens.first().copied()) {
            Ok(Some((token,))) if token == batch.key.token => {
                self.peer_appends.lock().appended(batch.key.first, batch.count, Instant::now());
                Ok(Append::Done)
            }
            Ok(Some(_)) => Ok(Append::Occupied),
            Ok(None) => Err(AppendError::InDoubt("the batch in its place is gone".into())),
            Err(error) => Err(AppendError::InDoubt(error.into())),
        }
    }

    pub(in crate::store) async fn log_state(&self) -> Result<LogState, StoreError> {
        let rows: Vec<(String, i64, i64)> = self.reading.rows(|| sqlx::query(STATE)).await?;
        let (epoch, trimmed, head) = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(log_state(epoch, *trimmed, *head))
    }

    pub(in crate::store) async fn read_log(&self, after: Offset, batches: u32) -> Result<LogPage, StoreError> {
        let read = || sqlx::query(READ).bind(integer(after.0)).bind(batches);
        let rows: Vec<PageRow> = self.following.rows(read).await?;
        let Some((epoch, trimmed, head, ..)) = rows.first() else {
            return Err(StoreError::Unavailable("the log has no state: it was changed by hand".into()));
        };
        let state = log_state(epoch, *trimmed, *head);
        let batches = rows
            .iter()
            .filter_map(|(.., token, payload)| Some(Batch::decode((*token)?, payload.as_ref()?, &self.directory)));
        Ok(LogPage { state, batches: batches.collect::<Result<_, _>>()? })
    }

    pub(in crate::store) async fn begin_epoch(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        let change = || sqlx::query(BEGIN_EPOCH).bind(epoch.as_str());
        Ok(self.upkeep.execute(change).await?.rows_affected() > 0)
    }

    pub(in crate::store) async fn trim(
        &self,
        kept: Duration,
        batches: u32,
    ) -> Result<Option<(Offset, u64)>, StoreError> {
        let kept = integer(kept.as_millis());
        let upkeep = &self.upkeep;
        let oldest: Vec<(i64, i64)> = upkeep.rows(|| sqlx::query(OLDEST).bind(kept).bind(batches)).await?;
        let Some((trimmed, _)) = oldest.iter().take_while(|(_, old)| *old != 0).last() else { return Ok(None) };
        // One round trip, so that a replica that freezes holds no lock. The row lock of `log_state` lets one replica
        // trim at a time, so each batch is removed and counted once.
        let text = format!(
            "BEGIN; UPDATE log_state SET trimmed = GREATEST(trimmed, {trimmed}) WHERE one = 1; \
             SELECT SUM(smiles) INTO @removed FROM log_batches WHERE first <= {trimmed}; \
             DELETE FROM log_batches WHERE first <= {trimmed}; COMMIT; \
             SELECT CAST(COALESCE(@removed, 0) AS SIGNED)"
        );
        // Not repeated after a lost connection: the second attempt would count nothing.
        let remove = async |mut connection| Ok((statements(text).fetch_one(&mut connection).await?, connection));
        let (removed,) = <(i64,)>::from_row(&upkeep.ask_once(remove).await?)?;
        Ok(Some((offset(*trimmed), removed.unsigned_abs())))
    }
}

fn log_state(epoch: &str, trimmed: i64, head: i64) -> LogState {
    LogState { epoch: Epoch::new(epoch), head: offset(head), trimmed: offset(trimmed) }
}
