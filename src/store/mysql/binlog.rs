//! Reads MySQL's binary log as a replication client, which `sqlx` cannot do.
//!
//! When the events of a transaction arrive, the transaction is durable on MySQL's disk (with `sync_binlog=1`, the
//! default), but a query may not show it yet (MySQL bug 120471). So the rows are taken from the events themselves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use mysql_async::binlog::EventType;
use mysql_async::binlog::events::{Event, WriteRowsEvent};
use mysql_async::binlog::row::BinlogRow;
use mysql_async::binlog::value::BinlogValue;
use mysql_async::prelude::Queryable;
use mysql_async::{BinlogStream, BinlogStreamRequest, Conn, DriverError, Error, Opts, OptsBuilder, SslOpts, Value};
use tokio::sync::watch;

use super::MySql;
use super::connections::{ANSWER_TIMEOUT, within};
use crate::config::{MySqlUrl, TlsMode};
use crate::store::StoreError;
use crate::store::batch::Batch;

/// The interval of the heartbeats that the server sends while its binary log does not grow.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Silence after which the connection counts as dead: two missed heartbeats plus a margin.
const SILENCE: Duration = Duration::from_secs(3);

/// The fifth column says whether commits wait for a MySQL replica after they are in the binary log. The last column is
/// the name of the database as the server spells it, which may differ from the configured name in case.
const SETTINGS: &str = "
    SELECT @@GLOBAL.log_bin, @@GLOBAL.binlog_format, VERSION(), @@GLOBAL.read_only, EXISTS (
        SELECT * FROM performance_schema.global_variables WHERE variable_value = 'ON'
            AND variable_name IN ('rpl_semi_sync_source_enabled', 'rpl_semi_sync_master_enabled')
    ), @@server_uuid, (
        SELECT table_schema FROM information_schema.tables
        WHERE table_schema = DATABASE() AND table_name = 'log_batches'
    )";

type Settings = (u8, String, String, u8, bool, String, Option<String>);

/// All statements spell the name of this table like this.
const TABLE: &[u8] = b"log_batches";

/// The positions of the columns `token` and `payload` in the table.
const TOKEN: usize = 2;
const PAYLOAD: usize = 4;

/// Server ids below this one are left to MySQL's own replicas. MySQL disconnects a reader when another reader takes the
/// same id, so each connection picks its id at random.
const FIRST_READER: u32 = 1 << 31;

/// Permanent errors: the server refuses the account, the account lacks `REPLICATION SLAVE` or `REPLICATION CLIENT`, or
/// the server has no binary log.
const NOT_ALLOWED: [u16; 4] = [1044, 1045, 1227, 1381];

/// The stream of commits to one database.
pub(crate) struct Binlog {
    stream: BinlogStream,
    database: String,
    store: Arc<MySql>,
    /// Batches of the transaction whose commit event has not arrived yet.
    transaction: Vec<Batch>,
    /// When the last event arrived.
    heard_at: Instant,
    /// Changes when all connections are discarded, for example because the address now points to another server.
    changes: watch::Receiver<u64>,
}

impl MySql {
    /// Opens the binary log at its end.
    ///
    /// # Errors
    /// [`StoreError::CannotFollow`] if the server's version or settings or the account's privileges rule out following
    /// the binary log, else [`StoreError::Unavailable`].
    pub(crate) async fn open_binlog(self: &Arc<Self>) -> Result<Binlog, StoreError> {
        self.server.until_answered().await?;
        let mut binlog = within(ANSWER_TIMEOUT, self.request()).await?;
        // The server either refuses the request or sends the first event immediately.
        within(ANSWER_TIMEOUT, event(&mut binlog.stream)).await?;
        Ok(binlog)
    }

    async fn request(self: &Arc<Self>) -> Result<Binlog, StoreError> {
        let server = &self.server;
        let password = server.password()?;
        let options = |encrypted| options(&server.url, password.clone(), encrypted);
        let mut connection = match Conn::new(options(true)).await {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if server.url.tls == TlsMode::Preferred => {
                Conn::new(options(false)).await?
            }
            connected => connected?,
        };
        let cannot = |why: &str| Err(StoreError::CannotFollow(why.to_owned()));
        let settings: Option<Settings> = connection.query_first(SETTINGS).await?;
        let (uuid, database) = match settings {
            Some((.., 1, _, _, _)) => return Err(StoreError::Unavailable("the server is read-only".into())),
            Some((0, ..)) | None => return cannot("binary logging is disabled on the server"),
            Some((_, format, ..)) if format != "ROW" => {
                return cannot(&format!("binlog_format is {format} and must be ROW"));
            }
            Some((_, _, version, ..)) if version.starts_with("8.0.") => {
                return cannot(&format!(
                    "the server has version {version}; following its binary log requires 8.4 or 9"
                ));
            }
            Some((.., true, _, _)) => {
                return cannot("the binary log shows a commit before a semi-synchronous replica has received it");
            }
            Some((.., None)) => return cannot("the table log_batches is not visible in this database"),
            Some((.., uuid, Some(database))) => (uuid, database),
        };
        server.record_server(uuid);
        let changes = server.generation.subscribe();
        let heartbeat = HEARTBEAT.as_nanos();
        connection.query_drop(format!("SET @source_heartbeat_period = {heartbeat}")).await?;
        let end: Option<mysql_async::Row> = connection.query_first("SHOW BINARY LOG STATUS").await?;
        let end = end.and_then(|row| Some((row.get::<Vec<u8>, _>(0)?, row.get::<u64, _>(1)?)));
        let (file, position) =
            end.ok_or_else(|| StoreError::CannotFollow("the server does not show the end of its binary log".into()))?;
        let reader = rand::random_range(FIRST_READER..=u32::MAX);
        let request =
            BinlogStreamRequest::new(reader).with_hostname(b"smilingchat").with_filename(&file).with_pos(position);
        Ok(Binlog {
            stream: connection.get_binlog_stream(request).await?,
            database,
            store: Arc::clone(self),
            transaction: Vec::new(),
            heard_at: Instant::now(),
            changes,
        })
    }
}

impl Binlog {
    /// Waits for the next transaction with batches, and returns its batches in the order of the log. Cancel safe.
    ///
    /// # Errors
    /// [`StoreError::CannotFollow`] if the server refuses access, or if the table or a column of a row cannot be read,
    /// else [`StoreError::Unavailable`], for example if the server is silent or a batch cannot be decoded. The stream
    /// is unusable after an error.
    pub(crate) async fn next(&mut self) -> Result<Vec<Batch>, StoreError> {
        loop {
            // The limit counts from the last event, so that a cancelled call does not extend it.
            let rest = SILENCE.saturating_sub(self.heard_at.elapsed());
            let event = tokio::select! {
                event = within(rest, event(&mut self.stream)) => event?,
                _ = self.changes.changed() => {
                    return Err(StoreError::Unavailable("the MySQL server may no longer be the primary".into()));
                }
            };
            self.heard_at = Instant::now();
            match event.header().event_type() {
                Ok(EventType::WRITE_ROWS_EVENT) => self.rows(&event)?,
                Ok(EventType::XID_EVENT) if !self.transaction.is_empty() => {
                    return Ok(std::mem::take(&mut self.transaction));
                }
                // Any other event that begins or ends a transaction discards the batches before it.
                Ok(EventType::QUERY_EVENT | EventType::GTID_EVENT | EventType::ANONYMOUS_GTID_EVENT) => {
                    self.transaction.clear();
                }
                _ => {}
            }
        }
    }

    fn rows(&mut self, event: &Event) -> Result<(), StoreError> {
        let rows: WriteRowsEvent<'_> = event.read_event()?;
        let table = self.stream.get_tme(rows.table_id()).ok_or_else(|| unreadable("the table of a row"))?;
        if table.database_name_raw() != self.database.as_bytes() || table.table_name_raw() != TABLE {
            return Ok(());
        }
        for row in rows.rows(table) {
            let (_, inserted) = row?;
            let (token, payload) = inserted.as_ref().and_then(read).ok_or_else(|| unreadable("a row of the log"))?;
            self.transaction.push(Batch::decode(token, payload, &self.store.directory)?);
        }
        Ok(())
    }
}

async fn event(stream: &mut BinlogStream) -> Result<Event, StoreError> {
    match stream.next().await {
        Some(event) => Ok(event?),
        None => Err(StoreError::Unavailable("MySQL ended the replication stream".into())),
    }
}

fn read(row: &BinlogRow) -> Option<(i64, &[u8])> {
    let BinlogValue::Value(Value::Int(token)) = row.as_ref(TOKEN)? else { return None };
    let BinlogValue::Value(Value::Bytes(payload)) = row.as_ref(PAYLOAD)? else { return None };
    Some((*token, payload))
}

fn unreadable(what: &str) -> StoreError {
    StoreError::CannotFollow(format!("{what} cannot be read from the replication stream"))
}

fn options(url: &MySqlUrl, password: Option<String>, encrypted: bool) -> Opts {
    let authority = url.tls_authority.iter().map(|path| path.clone().into()).collect();
    let tls = SslOpts::default()
        .with_root_certs(authority)
        .with_danger_accept_invalid_certs(matches!(url.tls, TlsMode::Preferred | TlsMode::Required))
        .with_danger_skip_domain_validation(url.tls != TlsMode::VerifyIdentity);
    OptsBuilder::default()
        .ip_or_hostname(url.host.clone())
        .tcp_port(url.port)
        .user(Some(url.user.clone()))
        .pass(password)
        .db_name(Some(url.database.clone()))
        .ssl_opts(encrypted.then_some(tls))
        // Do not switch to the server's Unix socket.
        .prefer_socket(false)
        .into()
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        match error {
            Error::Server(error) if NOT_ALLOWED.contains(&error.code) => Self::CannotFollow(error.message),
            error => Self::Unavailable(Box::new(error)),
        }
    }
}
