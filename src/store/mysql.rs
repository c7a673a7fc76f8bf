//! The store that any number of replicas share: a MySQL database, 8.4 or 9.
//!
//! A replica has a few connections, each with its own work: one appends, one follows, one writes the index, one keeps
//! the lease, some answer questions.

mod binlog;
mod cluster;
mod connections;
mod index;
mod log;
mod migrate;
mod server;
#[cfg(test)]
mod tests;
mod turn;

use std::sync::{Arc, Mutex};

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions};

pub use self::binlog::Binlog;
pub use self::cluster::Cluster;
use self::connections::Connections;
use self::server::Server;
use self::turn::Company;
use super::StoreError;
use super::user_directory::UserDirectory;
use crate::config::{MySqlUrl, TlsMode};

/// Connections that answer questions. With the other five, sixteen replicas stay below MySQL's default of 151.
const READERS: usize = 4;

/// An open MySQL store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MySql {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: Arc<Server>,
    directory: UserDirectory,
    hash_key: [u8; 16],
    /// For the appender alone, so that one transaction is in flight per replica.
    appending: Connections,
    /// Whether other replicas append at the same time.
    company: Mutex<Company>,
    /// For the one that follows the log, so that no question of a session delays it.
    following: Connections,
    /// For the one that writes the index: its transactions are long.
    indexing: Connections,
    /// For the cluster and for what is removed: short, and never behind the readers.
    upkeep: Connections,
    /// For resumes and histories.
    reading: Connections,
}

impl MySql {
    /// Opens the database, and makes its tables where they are missing. Waits for a server that is not there yet.
    pub(super) async fn open(url: &MySqlUrl) -> Result<Self, StoreError> {
        let mut options = options(url);
        if let Some(path) = &url.tls_authority {
            let authority = std::fs::read(path).map_err(|error| {
                StoreError::CannotOpen(format!("cannot read the authority in {}: {error}", path.display()))
            })?;
            options = options.ssl_ca_from_pem(authority);
        }
        let server = Arc::new(Server::new(url.clone(), options));
        let (users, hash_key) = migrate::when_there(&server).await?;
        tokio::spawn(Server::look_again(Arc::downgrade(&server)));
        let connections = |work, most| Connections::new(work, &server, most);
        Ok(Self {
            inner: Arc::new(Inner {
                directory: UserDirectory::new(users),
                hash_key,
                appending: connections("appending", 1),
                company: Mutex::default(),
                following: connections("following", 1),
                indexing: connections("indexing", 1),
                upkeep: connections("upkeep", 1),
                reading: connections("reading", READERS),
                server,
            }),
        })
    }

    pub(super) fn directory(&self) -> &UserDirectory {
        &self.inner.directory
    }

    pub(super) fn cluster(&self) -> Cluster {
        Cluster { store: self.clone() }
    }

    pub(super) fn hash_key(&self) -> &[u8; 16] {
        &self.inner.hash_key
    }

    /// Closes all connections after their use, and makes new ones. What they say next is said by the server that the
    /// address leads to now.
    pub fn connect_again(&self) {
        self.inner.server.leave(self.inner.server.generation());
    }

    /// How often connections were made again.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.server.generation()
    }

    pub(super) async fn close(&self) {
        let Inner { appending, following, indexing, upkeep, reading, .. } = &*self.inner;
        for connections in [appending, following, indexing, upkeep, reading] {
            connections.close().await;
        }
    }
}

/// How every connection is made. Statements are not logged: they hold what people say to each other.
fn options(url: &MySqlUrl) -> MySqlConnectOptions {
    let mode = match url.tls {
        TlsMode::Preferred => MySqlSslMode::Preferred,
        TlsMode::Required => MySqlSslMode::Required,
        TlsMode::VerifyAuthority => MySqlSslMode::VerifyCa,
        TlsMode::VerifyIdentity => MySqlSslMode::VerifyIdentity,
    };
    MySqlConnectOptions::new()
        .host(&url.host)
        .port(url.port)
        .username(&url.user)
        .database(&url.database)
        .ssl_mode(mode)
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .disable_statement_logging()
}

/// Several statements in one round trip, or one that is not worth preparing. The caller vouches for its literals.
fn statements(text: String) -> sqlx::RawSql {
    sqlx::raw_sql(AssertSqlSafe(text))
}
