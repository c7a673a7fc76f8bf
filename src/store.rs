//! The store: the log and the users, durable, in the contract that both databases keep; and the cluster, which is
//! MySQL's alone.
//!
//! Owns every SQL statement; it is the only home of `sqlx`. Must not know sessions, sockets or limits. There is no
//! trait and no mock: the databases are two and known, and tests use real ones.
//!
//! What a store promises, and its callers build on:
//!
//! - **Durable.** [`Store::append`] returns after a commit that survives `kill -9` and a power cut.
//! - **Gapless and in order.** Offsets are given out in the committing transaction, from one head; a reader that has
//!   seen offset n never sees one below n appear later.
//! - **Once.** A `(sender, id)` that is stored already is answered with its first offset.
//! - **Known outcome.** After [`StoreError::Unavailable`] nothing of that append is in the log. MySQL is asked until it
//!   tells, however long it is away. SQLite, which cannot be away, says [`StoreError::OutcomeUnknown`] where it cannot
//!   find out, and nobody may be told anything.

mod batch;
mod cluster;
mod directory;
mod mysql;
mod sqlite;
#[cfg(test)]
mod tests;

use crate::config::StoreUrl;
use crate::model::{Epoch, NewSmile, Offset, Smile, Timestamp, User, UserName};

pub use cluster::{
    CrashMode, Following, HEARD_OF_LATELY, LEASE, LOST_REPLICAS_ARE_KEPT, NewReplica, Registration, ReplicaRecord,
    ReplicaState, ReplicaStatus,
};
pub use mysql::{Binlog, Cluster};

/// What went wrong in the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or refuses; nothing was changed.
    #[error("the store is not available: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A commit was under way when the store went away, and what became of it cannot be found out.
    #[error("a commit ended without an answer: {0}")]
    OutcomeUnknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// This replica cannot follow the binary log of its server; what is in the way does not pass by itself.
    #[error("{0}")]
    CannotFollow(String),
    /// The log no longer reaches back to where the reader wants to start.
    #[error("the log no longer reaches back that far")]
    Trimmed,
    /// The store has other data than it had, so this replica cannot go on: clients are to be told with the next start.
    #[error("the log in the store is another one than at the start, or has lost its end: was a backup restored?")]
    Replaced,
    /// The store cannot be opened.
    #[error("{0}")]
    CannotOpen(String),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Unavailable(Box::new(error))
    }
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

/// What became of one smile of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is in the log, here.
    Stored(Offset),
    /// Its `(sender, id)` was in the log already, here.
    Duplicate(Offset),
}

impl Appended {
    /// Where it is.
    #[must_use]
    pub fn offset(self) -> Offset {
        match self {
            Self::Stored(offset) | Self::Duplicate(offset) => offset,
        }
    }
}

/// A part of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// In order, without gaps.
    pub smiles: Vec<Smile>,
    /// The last offset of the log when this was read.
    pub head: Offset,
}

/// A part of one user's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamPage {
    /// In the order of the log.
    pub smiles: Vec<Smile>,
    /// The stream has nothing else up to here; always above where the page begins.
    pub through: Offset,
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

impl Store {
    /// Opens the store, makes or upgrades its tables and loads its users. `password` goes before the one in the URL.
    ///
    /// A file that cannot be opened is an error at once. A server that is not there yet is waited for, however long
    /// that takes, and the log says so; one that refuses is an error.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] says in one line what is in the way.
    pub async fn open(url: &StoreUrl, password: Option<&str>) -> Result<Self, StoreError> {
        match url {
            StoreUrl::Sqlite(path) => sqlite::Sqlite::open(path).await.map(Self::Sqlite),
            StoreUrl::MySql(url) => mysql::MySql::open(url, password).await.map(Self::MySql),
        }
    }

    /// The simulated users, in the order of their making. They never change, so this asks no database.
    #[must_use]
    pub fn users(&self) -> &[User] {
        match self {
            Self::Sqlite(store) => store.directory().users(),
            Self::MySql(store) => store.directory().users(),
        }
    }

    /// The user of that name, if there is one. Asks no database.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&UserName> {
        match self {
            Self::Sqlite(store) => store.directory().find(name),
            Self::MySql(store) => store.directory().find(name),
        }
    }

    /// Where the log stands now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn log_state(&self) -> Result<LogState, StoreError> {
        match self {
            Self::Sqlite(store) => store.log_state().await,
            Self::MySql(store) => store.log_state().await,
        }
    }

    /// Waits until it makes sense to append: where several replicas append at the same time, each should close its batch
    /// only when its turn has come. Politeness and nothing else: it ends soon, whatever happens, and appending without it
    /// is as safe.
    pub async fn wait_for_turn(&self) {
        match self {
            Self::Sqlite(_) => {}
            Self::MySql(store) => store.wait_for_turn().await,
        }
    }

    /// Puts smiles into the log, in this order, in one durable transaction; answers for each in the same order.
    ///
    /// Both users of each smile must have come from [`Store::user`]. Not cancel safe: let it finish. When MySQL goes away
    /// in the middle, that is when it is back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing was stored, [`StoreError::OutcomeUnknown`] when that is not known.
    pub async fn append(&self, smiles: &[NewSmile], at: Timestamp) -> Result<Vec<Appended>, StoreError> {
        match self {
            Self::Sqlite(store) => store.append(smiles, at).await,
            Self::MySql(store) => store.append(smiles, at).await,
        }
    }

    /// The log after `after`, in order, at most `limit` smiles.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when some of them are removed already, else [`StoreError::Unavailable`].
    pub async fn read_log(&self, after: Offset, limit: u32) -> Result<LogPage, StoreError> {
        match self {
            Self::Sqlite(store) => store.read_log(after, limit).await,
            Self::MySql(store) => store.read_log(after, limit).await,
        }
    }

    /// The next smiles to or from `user` above `after` and up to `until`, in order, at most `limit`, and how far they
    /// go. `until` must be an offset the caller knows to be committed.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when some of them are removed already, else [`StoreError::Unavailable`].
    pub async fn read_stream(
        &self,
        user: &UserName,
        after: Offset,
        until: Offset,
        limit: u32,
    ) -> Result<StreamPage, StoreError> {
        match self {
            Self::Sqlite(store) => store.read_stream(user, after, until, limit).await,
            Self::MySql(store) => store.read_stream(user, after, until, limit).await,
        }
    }

    /// The newest `limit` smiles between two users below `before`, oldest first, and whether there are older ones.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn read_conversation(
        &self,
        users: (&UserName, &UserName),
        before: Option<Offset>,
        limit: u32,
    ) -> Result<(Vec<Smile>, bool), StoreError> {
        match self {
            Self::Sqlite(store) => store.read_conversation(users, before, limit).await,
            Self::MySql(store) => store.read_conversation(users, before, limit).await,
        }
    }

    /// Removes up to `limit` of the oldest smiles, as far as they are older than `older_than`; says how many it removed.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn trim(&self, older_than: Timestamp, limit: u32) -> Result<u64, StoreError> {
        match self {
            Self::Sqlite(store) => store.trim(older_than, limit).await,
            Self::MySql(store) => store.trim(older_than, limit).await,
        }
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

    /// Opens the database's own account of what is committed, from now on.
    ///
    /// # Errors
    /// [`StoreError::CannotFollow`] where there is none for this replica, else [`StoreError::Unavailable`].
    pub async fn open_binlog(&self) -> Result<Binlog, StoreError> {
        match self {
            Self::Sqlite(_) => Err(StoreError::CannotFollow("an SQLite file has no binary log".to_owned())),
            Self::MySql(store) => store.open_binlog().await,
        }
    }

    /// Lets go of the database, its files in order.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(store) => store.close().await,
            Self::MySql(store) => store.close().await,
        }
    }
}
