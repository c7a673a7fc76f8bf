//! The durable store: the log, its index and the users, on SQLite or MySQL. All SQL is here.
//!
//! There is no trait and no mock: two databases are an enum, and tests use real ones.
//!
//! Both databases guarantee:
//!
//! - **Durability.** [`Store::append`] returns after a commit that survives `kill -9` and a power cut.
//! - **Compare and append.** A batch is one row with its first offset as the key, and it names the batch before it. Of
//!   all batches that follow one offset, exactly one is taken. Offsets have no gaps, a reader that has seen offset n
//!   never sees a lower one appear later, and no batch reaches a log that its writer has not read.
//! - **Retries settle doubt.** A caller repeats an append without an answer, with the same offset and token. The token
//!   of the row at this offset shows whose batch was taken.
//! - **Derived index.** The index adds nothing to the log. It is written a segment at a time; writing a segment again
//!   changes nothing.

mod batch;
mod carry_over;
mod cluster;
mod error;
mod id_hash;
mod index;
mod mysql;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod user_directory;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use self::user_directory::UserDirectory;
use crate::config::StoreUrl;
use crate::model::{Epoch, Offset, SmileId, User, UserName};

pub(crate) use batch::{Batch, BatchKey, BatchLimit, NewBatch};
pub(crate) use cluster::{
    Following, LEASE, LOST_REPLICA_RETENTION, NewReplica, Registration, ReplicaRecord, ReplicaState, ReplicaStatus,
};
pub(crate) use error::{AppendError, Error, StoreError};
pub(crate) use id_hash::IdHash;
pub(crate) use index::{BlockKey, IndexStep, SEGMENT};
pub(crate) use mysql::MySql;

/// The outcome of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Append {
    /// The batch is in the log.
    Done,
    /// Another batch has its offset, so this batch can never be in the log at this offset.
    Occupied,
    /// The log does not hold the previous batch: either a commit from the binary log is not visible to queries yet, or
    /// the log was replaced or has lost its end.
    Unlinked,
}

/// The state of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogState {
    /// The identity of the log.
    pub epoch: Epoch,
    /// The last offset, 0 when the log is empty.
    pub head: Offset,
    /// The last offset that retention has removed, 0 if none.
    pub trimmed: Offset,
}

/// Consecutive batches of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPage {
    /// The state of the log, from the same snapshot.
    pub state: LogState,
    /// The token of the last batch before the page, if the log has one.
    pub previous: Option<i64>,
    /// In order, without gaps.
    pub batches: Vec<Batch>,
}

/// A row of a page: epoch, trimmed and head of the log, the token of the batch before the page, and token and payload of
/// a batch if there is one.
type PageRow = (String, i64, i64, Option<i64>, Option<i64>, Option<Vec<u8>>);

/// An open store. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Store {
    /// A file, for one process.
    Sqlite(Arc<sqlite::Sqlite>),
    /// A database, for any number of replicas.
    MySql(Arc<mysql::MySql>),
}

/// Calls the same method of either database.
macro_rules! either {
    ($store:expr, $database:ident => $call:expr) => {
        match $store {
            Store::Sqlite($database) => $call,
            Store::MySql($database) => $call,
        }
    };
}

impl Store {
    /// Opens the store, creates or upgrades its tables and loads its users.
    ///
    /// Waits for a MySQL server that cannot be reached yet, without a time limit, and logs that it waits.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] if the file cannot be opened or the server refuses.
    pub(crate) async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Sqlite(path) => {
                let file = sqlite::Sqlite::open(path).await.map_err(|error| {
                    StoreError::CannotOpen(format!("cannot open the store {}: {error}", path.display()))
                })?;
                Ok(Self::Sqlite(Arc::new(file)))
            }
            StoreUrl::MySql(url) => Ok(Self::MySql(Arc::new(mysql::MySql::open(url).await?))),
        }
    }

    fn directory(&self) -> &UserDirectory {
        either!(self, database => &database.directory)
    }

    /// The users, in the order of their row ids. Loaded at the start; they never change.
    pub(crate) fn users(&self) -> &[User] {
        &self.directory().users
    }

    /// The user with this name, without a query.
    pub(crate) fn user(&self, name: &str) -> Option<&UserName> {
        self.directory().find(name)
    }

    /// The hash of a sender and an id, with the key of this log.
    pub(crate) fn id_hash(&self, sender: &UserName, id: &SmileId) -> IdHash {
        either!(self, database => IdHash::new(&database.hash_key, sender, id))
    }

    /// Whether other replicas may append to the same log.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::MySql(_))
    }

    /// The largest batch that this store takes at once.
    pub(crate) fn batch_limit(&self) -> BatchLimit {
        match self {
            Self::Sqlite(_) => BatchLimit::SQLITE,
            Self::MySql(_) => BatchLimit::MYSQL,
        }
    }

    /// Waits for this replica's turn to append, if replicas take turns. Returns the batches after `last`, which ends at
    /// `after`, that other replicas have committed; empty if they are not known.
    pub(crate) async fn take_turn(&self, last: Option<BatchKey>, after: Offset) -> Vec<Batch> {
        match self {
            Self::Sqlite(_) => Vec::new(),
            Self::MySql(store) => store.take_turn(last, after).await,
        }
    }

    /// Discards all connections, so later queries reach the server that the address leads to now. Returns `false` if
    /// the store has no server.
    pub(crate) fn connect_again(&self) -> bool {
        if let Self::MySql(store) = self {
            store.connect_again();
        }
        self.is_shared()
    }

    /// Appends a batch if the log ends with its previous batch. Returns once the batch is durable.
    ///
    /// Not cancel safe: dropping the future leaves the batch in doubt.
    ///
    /// # Errors
    /// [`AppendError`] says whether the batch may be in the log.
    pub(crate) async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        either!(self, database => database.append(batch).await)
    }

    /// Reads the state of the log.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn log_state(&self) -> Result<LogState, StoreError> {
        let no_batches = batch::select_page(Offset(0), 0);
        let rows = either!(self, database => database.rows(&no_batches).await?);
        Ok(self.page(&rows)?.state)
    }

    /// Reads at most `batches` batches after `after`, which must be the last offset of a batch.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if the tables are gone, else [`StoreError::Unavailable`].
    pub(crate) async fn read_log(&self, after: Offset, batches: u32) -> Result<LogPage, StoreError> {
        let text = batch::select_page(after, batches);
        let rows = match self {
            Self::Sqlite(file) => file.rows(&text).await?,
            Self::MySql(server) => server.following.rows(&text).await.map_err(mysql::read_error)?,
        };
        self.page(&rows)
    }

    /// Decodes what [`batch::select_page`] selects.
    fn page(&self, rows: &[PageRow]) -> Result<LogPage, StoreError> {
        let Some((epoch, trimmed, head, previous, ..)) = rows.first() else {
            return Err(StoreError::Unavailable("the log has no state: it was changed by hand".into()));
        };
        let state = LogState { epoch: Epoch::new(epoch), head: offset(*head), trimmed: offset(*trimmed) };
        let batches = rows
            .iter()
            .filter_map(|(.., token, payload)| Some(Batch::decode((*token)?, payload.as_ref()?, self.directory())));
        Ok(LogPage { state, previous: *previous, batches: batches.collect::<Result<_, _>>()? })
    }

    /// Reads the batch that holds `offset`, or the last one before it, if any.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn batch_at(&self, offset: Offset) -> Result<Option<Batch>, StoreError> {
        Ok(self.batches_at(&[offset]).await?.pop())
    }

    /// Reads the batches that hold these offsets, or the last one before each, in order and without repeats. At most
    /// 500 offsets.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn batches_at(&self, offsets: &[Offset]) -> Result<Vec<Batch>, StoreError> {
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        let text = batch::select_at(offsets);
        let rows: Vec<(i64, Vec<u8>)> = either!(self, database => database.rows(&text).await?);
        rows.iter().map(|(token, payload)| Batch::decode(*token, payload, self.directory())).collect()
    }

    /// Replaces `epoch` by a new one; `false` if the log has another epoch already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn begin_epoch(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        let (new, old) = (rand::random::<u128>(), epoch.as_str());
        let text = format!("UPDATE log_state SET epoch = '{new:032x}' WHERE one = 1 AND epoch = '{old}'");
        Ok(either!(self, database => database.execute(&text).await?) > 0)
    }

    /// Removes at most `batches` of the batches that are older than `kept` by the database's clock, oldest first.
    /// Returns the last offset and the number of the removed smiles.
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
        // one moves `trimmed`, so each batch is removed and counted once.
        let text = format!(
            "BEGIN; UPDATE log_state SET trimmed = {last} WHERE one = 1 AND trimmed < {first}; \
             DELETE FROM log_batches WHERE first <= {last} AND first <= (SELECT trimmed FROM log_state WHERE one = 1); \
             COMMIT"
        );
        let moved = either!(self, database => database.execute(&text).await?) > 0;
        let through = if moved { *last } else { first - 1 };
        Ok(Some((offset(through), (through + 1 - first).unsigned_abs())))
    }

    /// Reads the number of indexed segments.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] if the file was deleted or replaced, else [`StoreError::Unavailable`].
    pub(crate) async fn indexed(&self) -> Result<u64, StoreError> {
        if let Self::Sqlite(file) = self
            && !file.is_in_place()
        {
            return Err(StoreError::Replaced);
        }
        let text = "SELECT indexed FROM log_state WHERE one = 1";
        let rows: Vec<(i64,)> = either!(self, database => database.rows(text).await?);
        let (indexed,) = rows.first().ok_or(sqlx::Error::RowNotFound)?;
        Ok(indexed.unsigned_abs())
    }

    /// Claims the right to write the index for the next seconds; `false` if another claimant has it. The process of an
    /// SQLite file always has it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn claim_index(&self, claimant: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(true),
            Self::MySql(store) => store.claim_index(claimant).await,
        }
    }

    /// Writes a segment of the index. The segment counts as indexed only once all of it is written.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        either!(self, database => database.write_index(step).await)
    }

    /// Reads the number of indexed segments and the existing ones of these blocks, from one snapshot.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn read_blocks(&self, keys: &[BlockKey]) -> Result<(u64, HashMap<BlockKey, Vec<u8>>), StoreError> {
        let text = format!(
            "SELECT state.indexed, ids.block, ids.entries FROM log_state AS state \
             LEFT JOIN index_ids AS ids ON ids.block IN ({}) WHERE state.one = 1",
            index::list(keys)
        );
        let rows: Vec<(i64, Option<i64>, Option<Vec<u8>>)> = either!(self, database => database.rows(&text).await?);
        let (indexed, ..) = *rows.first().ok_or(sqlx::Error::RowNotFound)?;
        let blocks = rows.into_iter().filter_map(|(_, key, entries)| Some((BlockKey(key?.unsigned_abs()), entries?)));
        Ok((indexed.unsigned_abs(), blocks.collect()))
    }

    /// Reads the ascending offsets of a user's smiles in one segment.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] if retention has removed offsets after `after`, else [`StoreError::Unavailable`].
    pub(crate) async fn read_segment(
        &self,
        user: &UserName,
        segment: u64,
        after: Offset,
    ) -> Result<Vec<Offset>, StoreError> {
        let peers = self.users().iter().map(|peer| &peer.name).filter(|peer| *peer != user);
        let conversations: Vec<_> = peers.map(|peer| self.directory().conversation(user, peer).to_string()).collect();
        let text = format!(
            "SELECT state.trimmed, pages.places FROM log_state AS state LEFT JOIN index_conversations AS pages \
             ON pages.segment = {segment} AND pages.conversation IN ({}) WHERE state.one = 1",
            conversations.join(",")
        );
        let rows: Vec<(i64, Option<Vec<u8>>)> = either!(self, database => database.rows(&text).await?);
        if rows.first().is_some_and(|(trimmed, _)| offset(*trimmed) > after) {
            return Err(StoreError::Trimmed);
        }
        let places = rows.iter().filter_map(|(_, places)| places.as_ref());
        let mut offsets: Vec<_> = places.flat_map(|places| index::decode_places(segment, places)).collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    /// Reads the offsets of a conversation in the last `limit` segments up to `through` that have any, newest segment
    /// first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn read_conversation(
        &self,
        users: (&UserName, &UserName),
        through: u64,
        limit: u32,
    ) -> Result<Vec<Vec<Offset>>, StoreError> {
        let conversation = self.directory().conversation(users.0, users.1);
        let text = format!(
            "SELECT segment, places FROM index_conversations \
             WHERE conversation = {conversation} AND segment <= {through} ORDER BY segment DESC LIMIT {limit}"
        );
        let rows: Vec<(i64, Vec<u8>)> = either!(self, database => database.rows(&text).await?);
        Ok(rows.iter().map(|(segment, places)| index::decode_places(segment.unsigned_abs(), places)).collect())
    }

    /// Removes the conversations of the segments below `segments` and these blocks of ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn forget_index(&self, segments: u64, blocks: &[Range<BlockKey>]) -> Result<(), StoreError> {
        let mut text = format!("BEGIN; DELETE FROM index_conversations WHERE segment < {segments}");
        for Range { start, end } in blocks {
            let _ = write!(text, "; DELETE FROM index_ids WHERE block >= {} AND block < {}", start.0, end.0);
        }
        text.push_str("; COMMIT");
        either!(self, database => database.execute(&text).await?);
        Ok(())
    }

    /// Closes the database cleanly.
    pub(crate) async fn close(&self) {
        either!(self, database => database.close().await);
    }
}

/// Converts the stored hash key.
fn hash_key(bytes: Vec<u8>) -> sqlx::Result<[u8; 16]> {
    bytes.try_into().map_err(|_| sqlx::Error::Decode("the hash key does not have 16 bytes".into()))
}

/// Converts a database integer, which is never negative.
fn offset(integer: i64) -> Offset {
    Offset(integer.unsigned_abs())
}

/// Converts to a database integer: offsets, counts and times stay far below 2^63.
fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
