//! The durable store on SQLite or MySQL: the log, its index, the users and, on MySQL, the leases. All of the program's
//! SQL is in this module and in `sql/`.
//!
//! There is no trait and no mock: the two databases are variants of an enum, and tests use real databases.
//!
//! Both databases guarantee:
//!
//! - **Durability.** [`Store::append`] returns [`Append::Done`] only after a commit that survives `kill -9` and a power
//!   cut. MySQL guarantees this with the default values of `innodb_flush_log_at_trx_commit` and `sync_binlog`.
//! - **Compare and append.** A batch is one row whose key is the batch's first offset. An append names the batch before
//!   the new one. Of all batches that follow one offset, at most one is accepted. Offsets have no gaps. A reader that
//!   has seen offset n never sees a lower offset appear later. A log that holds batches accepts a new batch only from a
//!   writer that names the last batch.
//! - **Retries settle doubt.** A caller that gets no answer repeats the append with the same offset and token. The
//!   token of the row at that offset shows whose batch was accepted.
//! - **Derived index.** The whole index is derived from the log, one segment at a time. Writing the last segment again
//!   changes nothing.

macro_rules! either {
    ($store:expr, $database:ident => $call:expr) => {
        match $store {
            Store::Sqlite($database) => $call,
            Store::MySql($database) => $call,
        }
    };
}

mod batch;
mod carry_over;
mod cluster;
mod error;
mod id_hash;
mod index;
mod log;
mod mysql;
mod sqlite;
#[cfg(test)]
pub(crate) mod tests;
mod user_directory;

use std::sync::Arc;

use self::user_directory::UserDirectory;
use crate::config::StoreUrl;
use crate::model::{Offset, SmileId, User, UserName};

pub(crate) use batch::{Batch, BatchKey, BatchLimit, NewBatch};
pub(crate) use cluster::{
    Following, LEASE, LOST_REPLICA_RETENTION, Registration, ReplicaInfo, ReplicaRecord, ReplicaState, ReplicaStatus,
};
pub(crate) use error::{AppendError, Error, StoreError};
pub(crate) use id_hash::IdHash;
pub(crate) use index::{BlockKey, IndexStep, SEGMENT, ensure_indexed};
pub(crate) use log::{Append, LogPage};
pub(crate) use mysql::MySql;

#[derive(Clone)]
pub(crate) enum Store {
    /// A file that one process uses.
    Sqlite(Arc<sqlite::Sqlite>),
    /// A database that any number of replicas share.
    MySql(Arc<mysql::MySql>),
}

impl Store {
    /// Opens the store, creates or upgrades its tables and loads its users.
    ///
    /// Waits without a time limit while the MySQL server cannot be reached, is read-only or reports a temporary error,
    /// or while another replica is starting or upgrading the tables. Logs what it waits for.
    ///
    /// # Errors
    /// [`StoreError::CannotOpen`] if the file cannot be opened or upgraded, if the database belongs to another program,
    /// if the certificate authority's file cannot be read, if this store does not support the MySQL server, or if an
    /// error of MySQL is permanent. A refusal of the account counts as permanent after 15 s.
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

    /// The users, in the order of their row ids, as read when the store was opened.
    pub(crate) fn users(&self) -> &[User] {
        &self.directory().users
    }

    /// Finds the user with this name, without a query.
    pub(crate) fn user(&self, name: &str) -> Option<&UserName> {
        self.directory().find(name)
    }

    pub(crate) fn id_hash(&self, sender: &UserName, id: &SmileId) -> IdHash {
        either!(self, database => IdHash::new(&database.hash_key, sender, id))
    }

    /// Whether other replicas may append to the same log.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::MySql(_))
    }

    /// The store does not enforce this limit.
    pub(crate) fn batch_limit(&self) -> BatchLimit {
        match self {
            Self::Sqlite(_) => BatchLimit::SQLITE,
            Self::MySql(_) => BatchLimit::MYSQL,
        }
    }

    /// Discards all connections to MySQL, so that later queries reach the server that the address now points to. On
    /// SQLite, does nothing and returns `false`.
    pub(crate) fn connect_again(&self) -> bool {
        if let Self::MySql(mysql) = self {
            mysql.connect_again();
        }
        self.is_shared()
    }

    /// Closes the connections to the file, or the idle connections to MySQL. Later statements fail.
    pub(crate) async fn close(&self) {
        either!(self, database => database.close().await);
    }
}

/// Refuses a database of another program. `own` is the result of the query for the migrations' table in the schema:
/// `None` if the schema is empty, 0 if the schema lacks this table.
fn refuse_foreign(own: Option<i64>) -> sqlx::Result<()> {
    let foreign = || sqlx::Error::Protocol("it belongs to another program: choose a different --store".to_owned());
    if own == Some(0) { Err(foreign()) } else { Ok(()) }
}

fn hash_key(bytes: Vec<u8>) -> sqlx::Result<[u8; 16]> {
    bytes.try_into().map_err(|_| sqlx::Error::Decode("the hash key does not have 16 bytes".into()))
}

/// The offsets in the database are never negative.
fn offset(integer: i64) -> Offset {
    Offset(integer.unsigned_abs())
}

/// Offsets, block keys, counts and times stay below 2^63.
fn integer(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
