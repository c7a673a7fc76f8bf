//! Connections to MySQL that are kept between uses, and never waited for without end.
//!
//! Owns who may use how many, and how long anything may take. A connection is kept only when all went well: after an
//! error, a time-out or a dropped future it is closed, and MySQL rolls back.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Connection, MySqlConnection};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::server::{Kept, Server, Session};

/// How long MySQL may take to take a connection, or to answer. It gives up waiting for a lock after half of this, so
/// past it MySQL is away, or the way to it is.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

/// How long an unused connection is kept. Some networks forget a silent connection without telling its ends.
const KEPT: Duration = Duration::from_mins(1);

/// How long an unused connection is trusted. After that it is asked first whether it still stands: what is sent on one that
/// has ended leaves it open whether it arrived.
const TRUSTED: Duration = Duration::from_secs(1);

/// How long that answer may take.
const ALIVE: Duration = Duration::from_millis(300);

/// Errors of a server that takes no writes: it is read-only, in a read-only transaction or not the primary of its group.
pub(super) const NOT_PRIMARY: [u16; 4] = [1290, 1792, 1836, 3100];

/// Up to so many connections of one kind of work.
#[derive(Debug)]
pub(super) struct Connections {
    work: &'static str,
    server: Arc<Server>,
    most: usize,
    places: Semaphore,
}

/// A connection in use.
#[derive(Debug)]
pub(super) struct Lane<'connections> {
    pub(super) connection: MySqlConnection,
    session: Session,
    connections: &'connections Connections,
    _place: SemaphorePermit<'connections>,
}

impl Connections {
    pub(super) fn new(work: &'static str, server: &Arc<Server>, most: usize) -> Self {
        Self { work, server: Arc::clone(server), most, places: Semaphore::new(most) }
    }

    /// A connection, first come first served.
    pub(super) async fn take(&self) -> sqlx::Result<Lane<'_>> {
        let place = tokio::time::timeout(ANSWER, self.places.acquire()).await;
        let place = place.map_err(|_| sqlx::Error::PoolTimedOut)?.map_err(|_| sqlx::Error::PoolClosed)?;
        let (connection, session) = if let Some(kept) = self.take_kept().await {
            self.server.under_way().push((self.work, kept.session.id));
            (kept.connection, kept.session)
        } else {
            self.forget();
            let (mut connection, session) = Box::pin(self.server.connect()).await?;
            self.server.under_way().push((self.work, session.id));
            within(ANSWER, self.server.must_not_pile_up(self.work, 2 * self.most, &mut connection)).await?;
            (connection, session)
        };
        Ok(Lane { connection, session, connections: self, _place: place })
    }

    /// The kept connection that was used last, if it still stands. When it has been silent for too long, or has ended, so
    /// have all the others.
    async fn take_kept(&self) -> Option<Kept> {
        let mut kept = {
            let mut all = self.server.kept();
            let last = all.iter().rposition(|kept| kept.work == self.work)?;
            all.remove(last)
        };
        let stands = match kept.since.elapsed() {
            silent if silent < TRUSTED => true,
            silent => silent < KEPT && within(ALIVE, kept.connection.ping()).await.is_ok(),
        };
        stands.then_some(kept)
    }

    /// Asks through `question`, and once more when a connection turned out to have ended while nobody used it. Only for
    /// what may be done twice.
    pub(super) async fn ask<T, Answer>(&self, question: impl Fn(MySqlConnection) -> Answer) -> sqlx::Result<T>
    where
        Answer: Future<Output = sqlx::Result<(T, MySqlConnection)>>,
    {
        match self.ask_once(&question).await {
            Err(error) if has_ended(&error) => {
                self.forget();
                self.ask_once(&question).await
            }
            answer => answer,
        }
    }

    /// Asks through `question`.
    pub(super) async fn ask_once<T, Answer>(&self, question: impl FnOnce(MySqlConnection) -> Answer) -> sqlx::Result<T>
    where
        Answer: Future<Output = sqlx::Result<(T, MySqlConnection)>>,
    {
        self.take().await?.ask(question).await
    }

    /// Closes what is kept, and gives no more out.
    pub(super) async fn close(&self) {
        self.places.close();
        while let Some(kept) = self.take_kept().await {
            // MySQL notices without it as well, and then writes a note about it.
            let _ = tokio::time::timeout(ANSWER, kept.connection.close()).await;
        }
    }

    fn forget(&self) {
        self.server.kept().retain(|kept| kept.work != self.work);
    }
}

impl Lane<'_> {
    /// Asks through `question`, and keeps the connection when there is an answer. An answer that shows that this is not the
    /// primary ends all connections; one that is still to come is given up when another connection has met the primary.
    pub(super) async fn ask<T, Answer>(self, question: impl FnOnce(MySqlConnection) -> Answer) -> sqlx::Result<T>
    where
        Answer: Future<Output = sqlx::Result<(T, MySqlConnection)>>,
    {
        let Self { connection, session, connections, _place: place } = self;
        let server = &connections.server;
        let mut changes = server.changes();
        let answer = tokio::select! {
            biased;
            answer = within(ANSWER, question(connection)) => answer,
            _ = changes.changed() => Err(io::Error::other("the address leads to another MySQL server").into()),
        };
        match answer {
            Ok((answer, connection)) => {
                Self { connection, session, connections, _place: place }.keep();
                Ok(answer)
            }
            Err(error) => {
                if matches!(error, sqlx::Error::Database(_)) {
                    server.has_answered(session);
                }
                let not_primary = number(&error).is_some_and(|number| NOT_PRIMARY.contains(&number));
                if not_primary && server.leave(session.generation) {
                    tracing::warn!(server = server.address(), %error, "MySQL takes no writes; connecting again");
                }
                Err(error)
            }
        }
    }

    /// Gives the connection back, in order.
    pub(super) fn keep(self) {
        let Self { connection, session, connections, .. } = self;
        connections.server.has_answered(session);
        connections.server.keep(Kept { work: connections.work, connection, session, since: Instant::now() });
    }
}

/// The answer, if it comes in time. Else the connection it was to come on must not be used any more.
pub(super) async fn within<T>(time: Duration, answer: impl Future<Output = sqlx::Result<T>>) -> sqlx::Result<T> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "MySQL did not answer in time").into()),
    }
}

/// MySQL's number of an error, if it is one of MySQL's.
pub(super) fn number(error: &sqlx::Error) -> Option<u16> {
    error.as_database_error()?.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

fn has_ended(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() != io::ErrorKind::TimedOut)
}
