//! Connections to MySQL that are kept between uses, and never waited for without end.
//!
//! Owns how a session of the database is set up, and how long anything may take. A connection is kept only when its user
//! says that all went well: after an error, a time-out or a dropped future it is closed, and MySQL rolls back.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlConnectOptions;
use sqlx::{ConnectOptions, Connection, MySqlConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How long MySQL may take to take a connection, or to answer. It gives up waiting for a row after half of this, so
/// past it MySQL is away, or the way to it is.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// How long an unused connection is kept. Some networks forget a silent connection without telling its ends.
const KEPT: Duration = Duration::from_mins(1);

/// How long an unused connection is trusted. After that it is asked first whether it still stands: what is sent on one that
/// has ended leaves it open whether it arrived.
const TRUSTED: Duration = Duration::from_secs(1);

/// How long that answer may take.
const ALIVE: Duration = Duration::from_millis(300);

/// Seconds after which MySQL closes a session that does nothing: longer than it is kept here, and not hours, so that
/// the sessions of a replica whose machine has died do not pile up.
pub(super) const SILENCE: u32 = 120;

/// What the statements of this store rely on, whatever the server's defaults are.
///
/// `READ COMMITTED`: each statement sees what is committed when it begins, and nothing locks the gaps between rows.
const SET_UP: &str = "SET autocommit = 1, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
    innodb_lock_wait_timeout = 1; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// Up to so many connections of one kind of work.
#[derive(Debug)]
pub(super) struct Connections {
    options: MySqlConnectOptions,
    places: Semaphore,
    kept: Mutex<Vec<(MySqlConnection, Instant)>>,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lane<'connections> {
    pub(super) connection: MySqlConnection,
    connections: &'connections Connections,
    _place: SemaphorePermit<'connections>,
}

impl Connections {
    pub(super) fn new(options: MySqlConnectOptions, most: usize) -> Self {
        Self { options, places: Semaphore::new(most), kept: Mutex::default() }
    }

    /// A connection, first come first served.
    pub(super) async fn take(&self) -> Result<Lane<'_>, sqlx::Error> {
        let place = tokio::time::timeout(ANSWER, self.places.acquire()).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let connection = if let Some(connection) = self.take_kept().await {
            connection
        } else {
            self.forget();
            Box::pin(connect(&self.options)).await?
        };
        Ok(Lane { connection, connections: self, _place: place })
    }

    /// The kept connection that was used last, if it still stands. When it has been silent for too long, or has ended, so
    /// have all the others.
    async fn take_kept(&self) -> Option<MySqlConnection> {
        let (mut connection, since) = self.kept().pop()?;
        let stands = match since.elapsed() {
            silent if silent < TRUSTED => true,
            silent => silent < KEPT && within(ALIVE, connection.ping()).await.is_ok(),
        };
        stands.then_some(connection)
    }

    /// Asks through `question`, and once more when a connection turned out to have ended while nobody used it. Only for
    /// what may be done twice.
    pub(super) async fn ask<T, Answer>(&self, question: impl Fn() -> Answer) -> Result<T, sqlx::Error>
    where
        Answer: Future<Output = Result<T, sqlx::Error>>,
    {
        match question().await {
            Err(error) if has_ended(&error) => {
                self.forget();
                question().await
            }
            answer => answer,
        }
    }

    /// Closes what is kept, and gives no more out.
    pub(super) async fn close(&self) {
        self.places.close();
        let kept = std::mem::take(&mut *self.kept());
        for (connection, _) in kept {
            // MySQL notices without it as well, and then writes a note about it.
            let _ = tokio::time::timeout(ANSWER, connection.close()).await;
        }
    }

    fn forget(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(MySqlConnection, Instant)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lane<'_> {
    /// Gives the connection back, in order.
    pub(super) fn keep(self) {
        self.connections.kept().push((self.connection, Instant::now()));
    }
}

/// A connection, set up.
pub(super) async fn connect(options: &MySqlConnectOptions) -> Result<MySqlConnection, sqlx::Error> {
    within(ANSWER, async {
        let mut connection = options.connect().await?;
        sqlx::raw_sql(SET_UP).execute(&mut connection).await?;
        super::statements(format!("SET wait_timeout = {SILENCE}")).execute(&mut connection).await?;
        Ok(connection)
    })
    .await
}

/// The answer, if it comes in time. Else the connection it was to come on must not be used any more.
pub(super) async fn within<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "MySQL did not answer in time").into()),
    }
}

fn has_ended(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() != io::ErrorKind::TimedOut)
}
