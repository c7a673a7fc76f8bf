//! Appends, reads and removes batches of the log, on SQLite and on MySQL.

use std::time::Duration;

use super::mysql::{self, read_error};
use super::{AppendError, Batch, NewBatch, Store, StoreError, batch, offset, sqlite};
use crate::model::{Epoch, Offset};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Append {
    /// The batch is in the log: this attempt or an earlier one has appended it.
    Done,
    /// Another batch occupies the first offset of this batch, so this batch can never enter the log.
    Occupied,
    /// The log does not hold the previous batch, and retention has not removed exactly what comes before this batch.
    /// Either a commit that this replica has read from the binary log is not visible to queries yet, or retention has
    /// removed more than what comes before this batch, or the log was replaced or has lost its end.
    Unlinked,
}

/// The state of the log, and batches, from one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPage {
    pub epoch: Epoch,
    /// The last offset, even if retention has removed it; 0 if no batch was ever appended.
    pub head: Offset,
    /// The last offset that retention has removed; 0 if it has removed none.
    pub trimmed: Offset,
    /// The token of the last batch before the page, if the log has such a batch.
    pub previous: Option<i64>,
    /// In order, without gaps.
    pub batches: Vec<Batch>,
}

/// A row of [`batch::select_page`]: the log's epoch, trimmed offset and head; the token of the batch before the page;
/// and the token and payload of a batch, if there is one.
type PageRow = (String, i64, i64, Option<i64>, Option<i64>, Option<Vec<u8>>);

impl Store {
    /// Appends a batch if the log ends with its previous batch, or if retention has removed exactly what comes before
    /// the batch (in a new log, nothing). Returns [`Append::Done`] once the batch is durable.
    ///
    /// Not cancel safe: dropping the future leaves the batch in doubt.
    ///
    /// # Errors
    /// [`AppendError`] says whether the batch may be in the log.
    pub(crate) async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        either!(self, database => database.append(batch).await)
    }

    /// Reads the state of the log: a page without batches.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn log_state(&self) -> Result<LogPage, StoreError> {
        let no_batches = batch::select_page(Offset(0), 0);
        let rows = either!(self, database => database.rows(&no_batches).await?);
        self.page(&rows)
    }

    /// Reads at most `batches` batches that begin after `after`. If a batch holds `after`, that batch must end at
    /// `after`, since the page does not contain the rest of a batch that ends later.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if the tables are gone from a MySQL database, else [`StoreError::Unavailable`].
    pub(crate) async fn read_log(&self, after: Offset, batches: u32) -> Result<LogPage, StoreError> {
        let text = batch::select_page(after, batches);
        let rows = match self {
            Self::Sqlite(file) => file.rows(&text).await?,
            Self::MySql(mysql) => mysql.following.rows(&text).await.map_err(read_error)?,
        };
        self.page(&rows)
    }

    fn page(&self, rows: &[PageRow]) -> Result<LogPage, StoreError> {
        let Some((epoch, trimmed, head, previous, ..)) = rows.first() else {
            return Err(StoreError::Unavailable("the log has no state: it was changed by hand".into()));
        };
        let (epoch, head, trimmed) = (Epoch::new(epoch), offset(*head), offset(*trimmed));
        let batches = rows
            .iter()
            .filter_map(|(.., token, payload)| Some(Batch::decode((*token)?, payload.as_ref()?, self.directory())));
        Ok(LogPage { epoch, head, trimmed, previous: *previous, batches: batches.collect::<Result<_, _>>()? })
    }

    /// Reads the batch that holds `offset`. If no batch holds it, reads the last batch before it, if there is one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn batch_at(&self, offset: Offset) -> Result<Option<Batch>, StoreError> {
        Ok(self.batches_at(&[offset]).await?.pop())
    }

    /// Reads the batches that hold these offsets, in order and without repeats. For an offset that no batch holds,
    /// reads the last batch before that offset, if there is one. `offsets` must have 1 to 500 elements, the limit of
    /// SQLite for the terms of a compound `SELECT`.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn batches_at(&self, offsets: &[Offset]) -> Result<Vec<Batch>, StoreError> {
        let text = batch::select_at(offsets);
        let rows: Vec<(i64, Vec<u8>)> = either!(self, database => database.rows(&text).await?);
        rows.iter().map(|(token, payload)| Batch::decode(*token, payload, self.directory())).collect()
    }

    /// Replaces `epoch` with a new one. Returns `false` if the log already has another epoch, or if the file of the log
    /// was deleted or replaced: a file in its place keeps its own epoch.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn begin_epoch(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        if let Self::Sqlite(file) = self
            && !file.is_in_place()
        {
            return Ok(false);
        }
        let (new, old) = (rand::random::<u128>(), epoch.as_str());
        let text = format!("UPDATE log_state SET epoch = '{new:032x}' WHERE one = 1 AND epoch = '{old}'");
        Ok(either!(self, database => database.execute(&text).await?) > 0)
    }

    /// Removes at most `batches` batches from the beginning of the log, up to but not including the first one that is
    /// not older than `kept` by the database's clock. Returns the last removed offset and the number of smiles that
    /// this call removed, or `None` if the first batch is not old enough or the log has no batch. If another replica
    /// was faster, the number is 0, and the offset is the one before the first batch that this call found.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn trim(&self, kept: Duration, batches: u32) -> Result<Option<(Offset, u64)>, StoreError> {
        let now = match self {
            Self::Sqlite(_) => sqlite::NOW,
            Self::MySql(_) => mysql::NOW,
        };
        let text = format!(
            "SELECT first, first + smiles - 1, appended_at < {now} - {} FROM log_batches ORDER BY first LIMIT {batches}",
            kept.as_millis()
        );
        let oldest: Vec<(i64, i64, bool)> = either!(self, database => database.rows(&text).await?);
        let Some((_, last, _)) = oldest.iter().take_while(|(.., old)| *old).last() else { return Ok(None) };
        let first = oldest[0].0;
        // One round trip, so that a replica that freezes holds no lock. Of several replicas that trim at the same time,
        // only one moves `trimmed`, so each batch is removed once and counted at most once: if the connection is lost
        // after the commit, the repeated statements remove and count nothing.
        let text = format!(
            "BEGIN; UPDATE log_state SET trimmed = {last} WHERE one = 1 AND trimmed < {first}; \
             DELETE FROM log_batches WHERE first <= {last} AND first <= (SELECT trimmed FROM log_state WHERE one = 1); \
             COMMIT"
        );
        let moved = either!(self, database => database.execute(&text).await?) > 0;
        let through = if moved { *last } else { first - 1 };
        Ok(Some((offset(through), (through + 1 - first).unsigned_abs())))
    }
}
