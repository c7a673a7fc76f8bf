//! The store: the log, its index and the users, durable. The contract both databases keep.
//!
//! It is the only home of SQL. There is no trait and no mock: the databases are two and known, and tests use real ones.
//!
//! What a store promises, and its callers build on:
//!
//! - **Durable.** [`Store::append`] returns after a commit that survives `kill -9` and a power cut.
//! - **Compare and append.** A batch is one row, and its key is its first offset. A caller appends right after the last
//!   batch it knows, and names it. So of all batches that follow one offset, exactly one is taken: offsets have no gaps, a
//!   reader that has seen offset n never sees one below n appear later, and nothing is appended to another log than the
//!   one that the caller has read.
//! - **Settled by trying again.** An append without an answer is tried again with the same offset. The row that stands
//!   there in the end tells by its token whose batch it is, whatever happened in between.
//! - **Derived.** The index says nothing that the log does not say. It is written a segment at a time, and may be written
//!   twice.

mod batch;
mod carry_over;
mod cluster;
mod directory;
mod id_hash;
mod index;
mod mysql;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use crate::config::StoreUrl;
use crate::model::{Epoch, NewSmile, Offset, SmileId, Timestamp, User, UserName};

pub use batch::{Batch, BatchKey, LARGEST_BATCH, NewBatch, fitting};
pub use cluster::{
    CrashMode, Following, HEARD_OF_LATELY, LEASE, LOST_REPLICAS_ARE_KEPT, NewReplica, Registration, ReplicaRecord,
    ReplicaState, ReplicaStatus,
};
pub use id_hash::IdHash;
pub use index::{BlockKey, IndexStep, SEGMENT, SegmentPage};
pub use mysql::{Binlog, Cluster, MySql};

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or refuses; nothing was changed.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Error),
    /// This replica cannot follow the binary log of its server; what is in the way does not pass by itself.
    #[error("{0}")]
    CannotFollow(String),
    /// The log no longer reaches back to where the reader wants to start.
    #[error("the log no longer reaches back that far")]
    Trimmed,
    /// The store has other data than it had, so this replica cannot go on. The log begins a new epoch, which tells clients.
    #[error("the log in the store is another one than at the start, or has lost its end: was a backup restored?")]
    Replaced,
    /// The store cannot be opened.
    #[error("{0}")]
    CannotOpen(String),
}

/// What a library said, to be passed on in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

/// What became of a batch that was to be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// It is in the log.
    Done,
    /// Another batch stands at its offset, so this one is not in the log and never will be with that offset.
    Occupied,
    /// The log does not hold the batch that this one follows. MySQL may tell a replica of a commit a moment before a query
    /// shows it; else it is another log, or one that has lost its end.
    Unlinked,
}

/// Why an append has no outcome.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The batch is not in the log.
    #[error("the store did not take a batch: {0}")]
    NotBegun(#[source] Error),
    /// The store has another file than it had.
    #[error("the file of the store was deleted or replaced")]
    Replaced,
    /// The batch may be in the log, or may get there yet: append the same batch again to find out.
    #[error("the store did not say whether it took a batch: {0}")]
    InDoubt(#[source] Error),
}

/// Where the log stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogState {
    /// Its identity.
    pub epoch: Epoch,
    /// The last offset, 0 when the log is empty.
    pub head: Offset,
    /// The last offset that retention has removed, 0 when none.
    pub trimmed: Offset,
}

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Where the log stood when this was read.
    pub state: LogState,
    /// In order, without gaps.
    pub batches: Vec<Batch>,
}

/// One of the databases, open. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Store {
    /// A file of this process alone.
    Sqlite(sqlite::Sqlite),
    /// A database that any number of replicas share.
    MySql(mysql::MySql),
}

/// How many processes may use one store.
#[derive(Clone, Debug)]
pub enum Membership {
    /// This one alone.
    Alone {
        /// How often the store was opened, so no process gets the same number.
        number: i64,
    },
    /// Any number of replicas, each with a lease.
    Shared(Cluster),
}

/// Calls the same method of whichever database it is.
macro_rules! either {
    ($store:expr, $database:ident => $call:expr) => {
        match $store {
            Store::Sqlite($database) => $call,
            Store::MySql($database) => $call,
        }
    };
}

impl Store {
    /// Opens the store, makes or upgrades its tables and loads its users.
    ///
    /// A file that cannot be opened is an error at once. A server that is not there yet is waited for, however long
    /// that takes, and the log says so; one that refuses is an error.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] says in one line what is in the way.
    pub async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Sqlite(path) => sqlite::Sqlite::open(path).await.map(Self::Sqlite),
            StoreUrl::MySql(url) => mysql::MySql::open(url).await.map(Self::MySql),
        }
    }

    /// The simulated users, in the order of their making. They never change, so this asks no database.
    #[must_use]
    pub fn users(&self) -> &[User] {
        either!(self, database => database.directory().users())
    }

    /// The user of that name, if there is one. Asks no database.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&UserName> {
        either!(self, database => database.directory().find(name))
    }

    /// The hash of a sender and an id, by the key of this log.
    #[must_use]
    pub fn id_hash(&self, sender: &UserName, id: &SmileId) -> IdHash {
        either!(self, database => IdHash::new(database.hash_key(), sender, id))
    }

    /// How many processes may use this store.
    #[must_use]
    pub fn membership(&self) -> Membership {
        match self {
            Self::Sqlite(store) => Membership::Alone { number: store.starts() },
            Self::MySql(store) => Membership::Shared(store.cluster()),
        }
    }

    /// Whether other replicas append to the same log, so that it must be followed.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        matches!(self, Self::MySql(_))
    }

    /// Encodes smiles as the batch that follows `previous`, which ends at `after`; `None` before the first batch of a log.
    /// Their users must have come from [`Store::user`].
    #[must_use]
    pub fn new_batch(&self, previous: Option<BatchKey>, after: Offset, smiles: &[NewSmile], at: Timestamp) -> NewBatch {
        either!(self, database => NewBatch::new(previous, after.next(), smiles, at, database.directory()))
    }

    /// Puts a batch into the log if the log ends with the batch that it follows. Returns when it is durable.
    ///
    /// Not cancel safe: when this is dropped, the batch is in doubt.
    ///
    /// # Errors
    /// [`AppendError`] says whether the batch may be in the log.
    pub async fn append(&self, batch: &NewBatch) -> Result<Append, AppendError> {
        either!(self, database => database.append(batch).await)
    }

    /// Where the log stands now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn log_state(&self) -> Result<LogState, StoreError> {
        either!(self, database => database.log_state().await)
    }

    /// The next batches after `after`, which is the last offset of a batch, and at most so many of them.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_log(&self, after: Offset, batches: u32) -> Result<LogPage, StoreError> {
        either!(self, database => database.read_log(after, batches).await)
    }

    /// The batch that holds `offset`, or the last one before it, if the log has one.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn batch_at(&self, offset: Offset) -> Result<Option<Batch>, StoreError> {
        Ok(self.batches_at(&[offset]).await?.pop())
    }

    /// The batches that hold these offsets, or for each the last one before it, in order and each once. At most 500 offsets.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn batches_at(&self, offsets: &[Offset]) -> Result<Vec<Batch>, StoreError> {
        if offsets.is_empty() {
            return Ok(Vec::new());
        }
        either!(self, database => database.batches_at(offsets).await)
    }

    /// Gives the log a new identity in place of `epoch`; `false` when it has another one already.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn begin_epoch(&self, epoch: &Epoch) -> Result<bool, StoreError> {
        either!(self, database => database.begin_epoch(epoch).await)
    }

    /// Removes up to `batches` of the oldest batches that are older than `kept` by the database's clock. Returns the last offset and the number of the smiles that it removed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn trim(&self, kept: Duration, batches: u32) -> Result<Option<(Offset, u64)>, StoreError> {
        either!(self, database => database.trim(kept, batches).await)
    }

    /// How many segments are indexed.
    ///
    /// # Errors
    /// [`StoreError::Replaced`] when a file was deleted or replaced, else [`StoreError::Unavailable`].
    pub async fn indexed(&self) -> Result<u64, StoreError> {
        either!(self, database => database.indexed().await)
    }

    /// Whether this replica, which calls itself `claimant`, is the one that writes the index for the next seconds. A file has
    /// one process, which always is.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn claim_index(&self, claimant: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(_) => Ok(true),
            Self::MySql(store) => store.claim_index(claimant).await,
        }
    }

    /// Adds a segment to the index, whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        either!(self, database => database.write_index(step).await)
    }

    /// How many segments are indexed, and in the same view those of the blocks that there are.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_blocks(&self, keys: &[BlockKey]) -> Result<(u64, HashMap<BlockKey, Vec<u8>>), StoreError> {
        either!(self, database => database.read_blocks(keys).await)
    }

    /// Where the index finds one user's smiles in one segment.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_segment(&self, user: &UserName, segment: u64) -> Result<SegmentPage, StoreError> {
        either!(self, database => database.read_segment(user, segment).await)
    }

    /// The offsets of the smiles between two users in the last `limit` segments up to `through` that have any, the newest
    /// segment first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_conversation(
        &self,
        users: (&UserName, &UserName),
        through: u64,
        limit: u32,
    ) -> Result<Vec<Vec<Offset>>, StoreError> {
        either!(self, database => database.read_conversation(users, through, limit).await)
    }

    /// Removes the conversations of the segments below `segments`, and these blocks of ids.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn forget_index(&self, segments: u64, blocks: &[Range<BlockKey>]) -> Result<(), StoreError> {
        either!(self, database => database.forget_index(segments, blocks).await)
    }

    /// Lets go of the database, its files in order.
    pub async fn close(&self) {
        either!(self, database => database.close().await);
    }
}

/// The key of the hashes as a database keeps it.
fn hash_key(bytes: Vec<u8>) -> sqlx::Result<[u8; 16]> {
    bytes.try_into().map_err(|_| sqlx::Error::Decode("the key of the hashes has not 16 bytes".into()))
}

/// An integer of a database as an offset; none is negative.
fn offset(integer: i64) -> Offset {
    Offset(integer.unsigned_abs())
}

/// An offset as the integer that a database keeps; offsets stay below 2^53.
fn integer(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
