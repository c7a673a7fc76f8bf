//! The store that any number of replicas share: a MySQL database.
//!
//! Besides probes, a running replica has up to nine connections: one appends; one reads the log; one reads the binary
//! log; one writes the index; one renews the lease, reads the list of replicas, requests crashes, removes old rows and
//! begins epochs; and four serve most other reads.

mod binlog;
mod cluster;
mod connections;
mod index;
mod log;
mod migrate;
mod probe;
mod server;
#[cfg(test)]
mod test_controls;
mod turn;

use std::sync::Arc;

use parking_lot::Mutex;
use sqlx::mysql::MySqlRow;
use sqlx::{AssertSqlSafe, FromRow};

pub(super) use self::log::read_error;

use self::connections::Connections;
use self::server::MySqlServer;
use self::turn::PeerAppends;
use super::StoreError;
use super::user_directory::UserDirectory;
use crate::config::MySqlUrl;

/// With four readers, a replica has up to nine connections: eight in the pools, and one that reads the binary log. So
/// sixteen replicas need up to 144 of the 151 connections that MySQL allows by default. The other seven are for probes.
const READERS: usize = 4;

/// The database's clock, in milliseconds since 1970.
pub(super) const NOW: &str = "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)";

pub(crate) struct MySql {
    server: Arc<MySqlServer>,
    pub(super) directory: UserDirectory,
    pub(super) hash_key: [u8; 16],
    /// For the appender, which has one transaction in flight at a time.
    appending: Arc<Connections>,
    peer_appends: Mutex<PeerAppends>,
    /// For reads of the log, so that no session's read delays the follower.
    pub(super) following: Arc<Connections>,
    /// For the claims and the long transactions of the indexer.
    indexing: Arc<Connections>,
    /// For leases, crash requests, removals by retention and new epochs: short statements that never wait for a
    /// session's read.
    upkeep: Arc<Connections>,
    /// For resumes, histories, look-ups of ids and most other reads.
    reading: Arc<Connections>,
}

impl MySql {
    pub(super) async fn open(url: &MySqlUrl) -> Result<Self, StoreError> {
        let server = Arc::new(MySqlServer::new(url.clone())?);
        tokio::spawn(probe::run(Arc::downgrade(&server), server.overdue.subscribe()));
        let (directory, hash_key) = migrate::open(&server).await?;
        let connections = |most| Connections::new(&server, most);
        Ok(Self {
            directory,
            hash_key,
            appending: connections(1),
            peer_appends: Mutex::default(),
            following: connections(1),
            indexing: connections(1),
            upkeep: connections(1),
            reading: connections(READERS),
            server,
        })
    }

    pub(super) fn connect_again(&self) {
        self.server.discard_connections(self.server.generation());
    }

    /// How many times the connections have been discarded.
    pub(crate) fn generation(&self) -> u64 {
        self.server.generation()
    }

    /// See [`Connections::rows`].
    pub(super) async fn rows<Row>(&self, text: &str) -> sqlx::Result<Vec<Row>>
    where
        Row: for<'row> FromRow<'row, MySqlRow>,
    {
        self.reading.rows(text).await
    }

    /// See [`Connections::execute`].
    pub(super) async fn execute(&self, text: &str) -> sqlx::Result<u64> {
        self.upkeep.execute(text).await
    }

    pub(super) async fn close(&self) {
        let Self { appending, following, indexing, upkeep, reading, .. } = self;
        for connections in [appending, following, indexing, upkeep, reading] {
            connections.close().await;
        }
    }
}

/// Builds a query that sends several statements in one round trip, or one statement that is not worth preparing. The
/// caller guarantees that the literals in it are safe.
fn statements(text: &str) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(text))
}
