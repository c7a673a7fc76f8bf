//! Pools connections to MySQL, with a time limit on every wait.
//!
//! A connection is kept only after success. After an error, a timeout or a dropped future, the connection is closed,
//! and MySQL rolls back any open transaction. Only a connection that is still being opened outlives a dropped future.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use parking_lot::Mutex;
use sqlx::mysql::{MySqlDatabaseError, MySqlRow};
use sqlx::{Connection, Executor, FromRow, MySqlConnection, Row};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::server::{MySqlServer, MySqlSession};
use super::statements;

/// Time limit for opening a connection and for an answer. A statement stops waiting for a lock after half of this time,
/// so a longer wait usually means that MySQL or the network is down.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest idle time after which a connection is reused. Some networks drop idle connections silently.
const KEPT: Duration = Duration::from_mins(1);

/// How long after its last use an idle connection is reused without a ping. If a statement is sent over a dead
/// connection, it is unknown whether the statement arrived.
const TRUSTED: Duration = Duration::from_secs(1);

/// After this time without an answer, a probe finds out whether another server now answers at the address.
const LATE: Duration = Duration::from_millis(300);

/// Errors of a server that accepts no writes: the server or the transaction is read-only, or the server is not the
/// primary of its group.
pub(super) const NOT_PRIMARY: [u16; 4] = [1290, 1792, 1836, 3100];

/// Lists at least the sessions of this account. Column 0 is the id, column 4 the command. If
/// `performance_schema_show_processlist` is on, the id is unsigned, and the command may be NULL.
const SESSIONS: &str = "SHOW PROCESSLIST";

/// Commands of a session that is executing a statement, or that was killed but is still executing one.
const AT_WORK: [&str; 3] = ["Query", "Execute", "Killed"];

/// A bounded pool of connections for one kind of work.
pub(in crate::store) struct Connections {
    server: Arc<MySqlServer>,
    most: usize,
    places: Arc<Semaphore>,
    /// The idle connections, each with the time at which it became idle.
    idle: Arc<Mutex<Vec<(MySqlSession, Instant)>>>,
    /// The ids of the sessions that were taken and, as far as this pool knows, have not completed their statement. A
    /// statement whose connection was dropped may still be running in MySQL.
    under_way: Mutex<Vec<i64>>,
}

pub(super) struct PooledConnection<'connections> {
    session: MySqlSession,
    connections: &'connections Connections,
    _place: OwnedSemaphorePermit,
}

impl Connections {
    pub(super) fn new(server: &Arc<MySqlServer>, most: usize) -> Arc<Self> {
        let idle: Arc<Mutex<Vec<(MySqlSession, Instant)>>> = Arc::default();
        let (stale, mut generations) = (Arc::clone(&idle), server.generation.subscribe());
        // Without this task, an unused pool would stay connected to the previous server.
        tokio::spawn(async move {
            while generations.changed().await.is_ok() {
                stale.lock().clear();
            }
        });
        let (places, server) = (Arc::new(Semaphore::new(most)), Arc::clone(server));
        Arc::new(Self { server, most, places, idle, under_way: Mutex::default() })
    }

    /// Waiters for a place are served in order, and fail after [`ANSWER_TIMEOUT`].
    pub(super) async fn take(self: &Arc<Self>) -> sqlx::Result<PooledConnection<'_>> {
        let place = tokio::time::timeout(ANSWER_TIMEOUT, Arc::clone(&self.places).acquire_owned()).await;
        let mut place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let session = loop {
            match self.take_idle().await {
                Some(idle) => break idle,
                None => place = self.open(place).await?,
            }
        };
        self.under_way.lock().push(session.id);
        Ok(PooledConnection { session, connections: self, _place: place })
    }

    /// Opens an idle connection, even if the future is dropped: otherwise a caller whose time limit is shorter than a
    /// handshake would never get a connection. Fails as soon as all connections are discarded, since this attempt may
    /// wait for a server that no longer answers.
    async fn open(self: &Arc<Self>, place: OwnedSemaphorePermit) -> sqlx::Result<OwnedSemaphorePermit> {
        let (connections, mut generations) = (Arc::clone(self), self.server.generation.subscribe());
        let opened = tokio::spawn(async move {
            let new = async {
                let mut new = connections.server.connect().await?;
                within(ANSWER_TIMEOUT, connections.bound_abandoned(&mut new.connection)).await?;
                Ok::<_, sqlx::Error>(new)
            };
            let new = tokio::select! {
                // The attempt itself may discard all connections, namely when it finds another server.
                biased;
                new = new => new?,
                _ = generations.changed() => return Err(discarded()),
            };
            connections.idle.lock().push((new, Instant::now()));
            Ok(place)
        });
        opened.await.unwrap_or(Err(sqlx::Error::PoolClosed))
    }

    /// Tries only the connection that became idle last. If that connection is dead, has been idle for too long or
    /// belongs to an earlier generation, the connections that became idle before it are no better, and are closed.
    async fn take_idle(&self) -> Option<MySqlSession> {
        let (mut idle, since) = self.idle.lock().pop()?;
        let silent = since.elapsed();
        let alive = idle.generation == self.server.generation()
            && (silent < TRUSTED || silent < KEPT && self.server.answers_ping(&mut idle.connection).await);
        if !alive {
            self.idle.lock().clear();
        }
        alive.then_some(idle)
    }

    /// Bounds the number of abandoned statements that are still running in MySQL, so that they do not use up MySQL's
    /// connections. Fails if at least twice as many of this pool's sessions are executing statements as the pool has
    /// places.
    ///
    /// The session's timeouts do not end every statement: a commit that waits for a semi-synchronous replica or a group
    /// member outlasts them.
    async fn bound_abandoned(&self, connection: &mut MySqlConnection) -> sqlx::Result<()> {
        let piled_up = || self.under_way.lock().len() >= 2 * self.most;
        if !piled_up() {
            return Ok(());
        }
        let mut at_work: Vec<i64> = Vec::new();
        for session in sqlx::raw_sql(SESSIONS).fetch_all(connection).await? {
            if session.try_get::<Option<_>, _>(4)?.is_some_and(|command| AT_WORK.contains(&command)) {
                at_work.push(session.try_get_unchecked(0)?);
            }
        }
        self.under_way.lock().retain(|id| at_work.contains(id));
        if piled_up() {
            let kind = io::ErrorKind::TimedOut;
            return Err(io::Error::new(kind, "MySQL is still executing abandoned statements").into());
        }
        Ok(())
    }

    /// Runs `statement`. After an I/O error other than a timeout, for example because an idle connection was dead, runs
    /// `statement` once more over a new connection. Only for idempotent statements.
    pub(super) async fn run_idempotent<T, Answer>(
        self: &Arc<Self>,
        statement: impl Fn(MySqlConnection) -> Answer,
    ) -> sqlx::Result<T>
    where
        Answer: Future<Output = sqlx::Result<(T, MySqlConnection)>>,
    {
        match self.run_once(&statement).await {
            Err(error @ sqlx::Error::Io(_)) if !timed_out(&error) => {
                self.idle.lock().clear();
                self.run_once(&statement).await
            }
            answer => answer,
        }
    }

    pub(super) async fn run_once<T, Answer>(
        self: &Arc<Self>,
        statement: impl FnOnce(MySqlConnection) -> Answer,
    ) -> sqlx::Result<T>
    where
        Answer: Future<Output = sqlx::Result<(T, MySqlConnection)>>,
    {
        self.take().await?.run(statement).await
    }

    /// Only for idempotent statements. The caller guarantees that the literals in `text` are safe.
    pub(in crate::store) async fn rows<Row>(self: &Arc<Self>, text: &str) -> sqlx::Result<Vec<Row>>
    where
        Row: for<'row> FromRow<'row, MySqlRow>,
    {
        let read =
            async |mut connection: MySqlConnection| Ok((connection.fetch_all(statements(text)).await?, connection));
        self.run_idempotent(read).await?.iter().map(Row::from_row).collect()
    }

    /// Only for idempotent statements. Returns the number of matching rows, changed or not, summed over the statements.
    /// The caller guarantees that the literals in `text` are safe.
    pub(super) async fn execute(self: &Arc<Self>, text: &str) -> sqlx::Result<u64> {
        let write =
            async |mut connection: MySqlConnection| Ok((connection.execute(statements(text)).await?, connection));
        Ok(self.run_idempotent(write).await?.rows_affected())
    }

    pub(super) async fn close(&self) {
        self.places.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        let closing = idle.into_iter().map(|(idle, _)| idle.connection.close());
        // Best effort: without the close, MySQL logs a note about an aborted connection.
        let _ = tokio::time::timeout(ANSWER_TIMEOUT, join_all(closing)).await;
    }
}

impl PooledConnection<'_> {
    /// Discards all connections after an error that shows that the server is not the primary. Runs nothing if all
    /// connections have been discarded since this one was checked or opened; the wait for the answer ends early when
    /// that happens.
    pub(super) async fn run<T, Answer>(self, statement: impl FnOnce(MySqlConnection) -> Answer) -> sqlx::Result<T>
    where
        Answer: Future<Output = sqlx::Result<(T, MySqlConnection)>>,
    {
        let Self { session: MySqlSession { connection, id, generation }, connections, _place } = self;
        let server = &connections.server;
        let mut current = server.generation.subscribe();
        let late = async {
            tokio::time::sleep(LATE).await;
            server.overdue.send_replace(true);
            pending::<Infallible>().await
        };
        let answer = tokio::select! {
            biased;
            answer = within(ANSWER_TIMEOUT, statement(connection)), if *current.borrow() == generation => answer,
            _ = current.wait_for(|current| *current != generation) => Err(discarded()),
            never = late => match never {},
        };
        if matches!(answer, Ok(_) | Err(sqlx::Error::Database(_))) {
            connections.under_way.lock().retain(|other| *other != id);
        }
        match answer {
            Ok((answer, connection)) => {
                connections.idle.lock().push((MySqlSession { connection, id, generation }, Instant::now()));
                Ok(answer)
            }
            Err(error) => {
                let not_primary = number(&error).is_some_and(|number| NOT_PRIMARY.contains(&number));
                if not_primary && server.discard_connections(generation) {
                    tracing::warn!(server = server.address(), %error, "MySQL accepts no writes; reconnecting");
                }
                Err(error)
            }
        }
    }
}

/// After a timeout, the connection must not be used again.
pub(super) async fn within<T, E: From<io::Error>>(
    time: Duration,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "MySQL did not answer in time").into()),
    }
}

/// A connection, or the attempt to open one, was given up because all connections have been discarded.
fn discarded() -> sqlx::Error {
    io::Error::other("the MySQL server may no longer be the primary").into()
}

pub(super) fn timed_out(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// MySQL's error number, if the error comes from MySQL.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}
