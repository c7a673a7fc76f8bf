//! Opens connections to the server that the address of the store points to, sets them up, and records the server's
//! identity.
//!
//! An address may point to another server from one moment to the next. When a new connection reaches another server,
//! all older connections are discarded, so that none stays with a server that is no longer the primary.

use std::io;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, FromRow, MySqlConnection};
use tokio::sync::watch;

use super::connections::{ANSWER_TIMEOUT, timed_out, within};
use crate::config::{MySqlUrl, secret};
use crate::store::StoreError;

/// Time limit of a ping.
const ALIVE: Duration = Duration::from_millis(300);

/// Unlike [`SET_UP`], this query also works on servers that this store then refuses, such as `MariaDB`.
const ABOUT: &str = "
    SELECT VERSION(), CAST(@@read_only AS SIGNED), CAST(@@log_bin AND @@binlog_format = 'STATEMENT' AS SIGNED)";

/// Session settings that the statements rely on, whatever the server's defaults and `init_connect` are.
///
/// `READ COMMITTED`: each statement sees what is committed when it starts, and searches and scans lock no gaps between
/// rows. The lock timeouts (in seconds) and `max_execution_time` (in milliseconds, for `SELECT` only) end most
/// abandoned statements, since closing a connection does not end them. `wait_timeout` (in seconds) is longer than the
/// pool keeps an idle connection, and far below MySQL's default of eight hours, so that sessions of a dead machine do
/// not pile up.
const SET_UP: &str = "
    SET autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', sql_safe_updates = 0,
        innodb_lock_wait_timeout = 1, lock_wait_timeout = 1, max_execution_time = 2000, wait_timeout = 120,
        completion_type = 0, sql_select_limit = 18446744073709551615;
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED;
    SELECT @@server_uuid, CAST(CONNECTION_ID() AS SIGNED), CAST(@@transaction_read_only OR @@innodb_read_only AS SIGNED)";

/// The server behind the address of the store, shared by all connections.
pub(super) struct MySqlServer {
    pub(super) url: MySqlUrl,
    options: MySqlConnectOptions,
    uuid: Mutex<String>,
    /// The generation of new connections. Connections of an earlier generation are discarded.
    pub(super) generation: watch::Sender<u64>,
    /// Whether an answer is overdue. If so, a probe starts, and until the server answers a probe, nothing else opens a
    /// connection.
    pub(super) overdue: watch::Sender<bool>,
}

pub(super) struct MySqlSession {
    pub(super) connection: MySqlConnection,
    pub(super) id: i64,
    pub(super) generation: u64,
}

impl MySqlServer {
    /// Fails if the file of the certificate authority cannot be read.
    pub(super) fn new(url: MySqlUrl) -> Result<Self, StoreError> {
        let mut options = MySqlConnectOptions::new()
            .host(&url.host)
            .port(url.port)
            .username(&url.user)
            .database(&url.database)
            .ssl_mode(<&str>::from(url.tls).parse().expect("the modes should have MySQL's names"))
            .pipes_as_concat(false)
            .no_engine_substitution(false)
            // Statements contain smiles.
            .disable_statement_logging();
        if let Some(path) = &url.tls_authority {
            let authority = std::fs::read(path).map_err(|error| {
                StoreError::CannotOpen(format!("cannot read the certificate authority in {}: {error}", path.display()))
            })?;
            options = options.ssl_ca_from_pem(authority);
        }
        let generation = watch::Sender::default();
        Ok(Self { url, options, uuid: Mutex::default(), generation, overdue: watch::Sender::default() })
    }

    /// Waits while an answer is overdue, then opens a connection. Each of these steps takes at most [`ANSWER_TIMEOUT`].
    pub(super) async fn connect(&self) -> sqlx::Result<MySqlSession> {
        self.until_answered().await?;
        within(ANSWER_TIMEOUT, self.open()).await.inspect_err(|error| self.failed(error))
    }

    pub(super) async fn answers_ping(&self, connection: &mut MySqlConnection) -> bool {
        within(ALIVE, connection.ping()).await.inspect_err(|error| self.failed(error)).is_ok()
    }

    fn failed(&self, error: &sqlx::Error) {
        if timed_out(error) {
            self.overdue.send_replace(true);
        }
    }

    /// Waits while an answer is overdue. Fails after [`ANSWER_TIMEOUT`].
    pub(super) async fn until_answered(&self) -> io::Result<()> {
        let mut overdue = self.overdue.subscribe();
        let answered = async { overdue.wait_for(|overdue| !overdue).await.map(drop).map_err(io::Error::other) };
        within(ANSWER_TIMEOUT, answered).await
    }

    /// Opens a connection, checks the server and applies the session settings, without a time limit. Fails if the
    /// server is read-only or this store does not support it.
    pub(super) async fn open(&self) -> sqlx::Result<MySqlSession> {
        let options = match self.password()? {
            Some(password) => self.options.clone().password(&password),
            None => self.options.clone(),
        };
        let mut connection = options.connect().await?;
        let about = sqlx::raw_sql(ABOUT).fetch_one(&mut connection).await?;
        let (version, read_only, by_statement): (String, i64, i64) = FromRow::from_row(&about)?;
        if !is_supported(&version) {
            let needed =
                format!("the server's version is {version}; MySQL 8.0 (8.0.29 or later), 8.4 or 9 is required");
            return Err(sqlx::Error::Protocol(needed));
        }
        if by_statement != 0 {
            return Err(sqlx::Error::Protocol("binlog_format is STATEMENT; set it to ROW".to_owned()));
        }
        if read_only != 0 {
            return Err(not_primary());
        }
        let identity = sqlx::raw_sql(SET_UP).fetch_one(&mut connection).await?;
        let (uuid, id, read_only): (String, i64, i64) = FromRow::from_row(&identity)?;
        if read_only != 0 {
            return Err(not_primary());
        }
        Ok(MySqlSession { connection, id, generation: self.record_server(uuid) })
    }

    /// The current password, if one is configured. Reads the password file on each call, since its content may have
    /// changed.
    pub(super) fn password(&self) -> io::Result<Option<String>> {
        let in_file = secret(self.url.password_file.as_deref(), "password").map_err(io::Error::other)?;
        Ok(in_file.or_else(|| self.url.password.clone()))
    }

    /// Records the server of a new connection. If that server differs from the known one, discards all older
    /// connections. Returns the generation of the new connection.
    pub(super) fn record_server(&self, uuid: String) -> u64 {
        let mut known = self.uuid.lock();
        if *known != uuid && !known.is_empty() && self.discard_connections(self.generation()) {
            tracing::warn!(server = self.address(), "the address now points to another MySQL server; reconnecting");
        }
        *known = uuid;
        self.generation()
    }

    /// Discards connections up to this generation. Returns `false` if they have already been discarded.
    pub(super) fn discard_connections(&self, generation: u64) -> bool {
        self.generation.send_if_modified(|current| {
            let discards = *current == generation;
            *current += u64::from(discards);
            discards
        })
    }

    pub(super) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    pub(super) fn address(&self) -> String {
        format!("{}:{}", self.url.host, self.url.port)
    }
}

fn not_primary() -> sqlx::Error {
    io::Error::other("the server is read-only, so it is not the primary").into()
}

/// With 8.0, replicas cannot follow the binary log, so they poll the log. Before 8.0.29, MySQL does not know
/// `CREATE PROCEDURE IF NOT EXISTS`.
fn is_supported(version: &str) -> bool {
    let mut numbers = version.split(|end: char| !end.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let numbers = (numbers.next(), numbers.next(), numbers.next());
    matches!(numbers, (Some(8), Some(0), Some(29..)) | (Some(8), Some(4), _) | (Some(9), Some(_), _))
}

#[cfg(test)]
mod tests {
    use super::is_supported;

    #[test]
    fn only_known_versions_of_mysql_are_supported() {
        for version in ["8.0.29", "8.0.36-0ubuntu0.22.04.1", "8.4.3", "8.4.5-5", "9.0.1", "9.7.4-2"] {
            assert!(is_supported(version), "{version} was refused");
        }
        for version in
            ["5.7.44-log", "8.0.28", "8.0.28-0ubuntu0", "8.1.0", "10.11.6-MariaDB-0+deb12u1", "11.8.2-MariaDB", "", "9"]
        {
            assert!(!is_supported(version), "{version} was accepted");
        }
    }
}
