//! The replicas that share a MySQL store. Each renews a lease.
//!
//! MySQL's clock decides when a lease has expired. Only an expired lease makes a replica lost: a replica that cannot
//! reach another one may itself be the one that is cut off.

use std::time::{Duration, Instant};

use sqlx::mysql::MySqlQueryResult;
use sqlx::{FromRow, MySqlConnection};

use super::MySql;
use crate::model::Timestamp;
use crate::protocol::CrashMode;
use crate::store::cluster::replica_id;
use crate::store::{
    LEASE, LOST_REPLICA_RETENTION, NewReplica, RECENT_RENEWAL, Registration, ReplicaRecord, ReplicaState,
    ReplicaStatus, StoreError,
};

/// Renews the lease, or registers if there is no row with this number. Without a number MySQL chooses one.
const RENEW: &str = "
    INSERT INTO leases (number, name, host, node, version, capacity, obeys, started_at, renewed_at,
        sessions, smiles_per_second, draining, following)
    VALUES (?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3) - INTERVAL ? * 1000 MICROSECOND, UTC_TIMESTAMP(3), ?, ?, ?, ?)
    AS renewal
    ON DUPLICATE KEY UPDATE renewed_at = renewal.renewed_at, sessions = renewal.sessions,
        smiles_per_second = renewal.smiles_per_second, draining = renewal.draining, following = renewal.following";

/// Numbers follow the order of registration.
const LIST: &str = "
    SELECT number, name, host, node, version, capacity, obeys, draining, sessions, smiles_per_second, following, crash,
        TIMESTAMPDIFF(MICROSECOND, '1970-01-01', started_at) DIV 1000 AS started_at,
        TIMESTAMPDIFF(MICROSECOND, started_at, UTC_TIMESTAMP(3)) DIV 1000 AS uptime,
        TIMESTAMPDIFF(MICROSECOND, renewed_at, UTC_TIMESTAMP(3)) DIV 1000 AS age
    FROM leases ORDER BY number";

/// Requests a crash of the replica with this id. `LAST_INSERT_ID` returns its row.
const ASK_NAMED: &str = "
    UPDATE leases SET crash = ?, number = LAST_INSERT_ID(number)
    WHERE obeys AND renewed_at >= UTC_TIMESTAMP(3) - INTERVAL ? * 1000 MICROSECOND AND CONCAT(name, '.', number) = ?";

/// Requests a crash of the replica with the longest uptime. Two concurrent requests choose two replicas: the rows that
/// the first one read stay locked until it has written, and the second one reads them again.
const ASK_LONGEST_UP: &str = "
    UPDATE leases SET crash = ?, number = LAST_INSERT_ID(number)
    WHERE obeys AND renewed_at >= UTC_TIMESTAMP(3) - INTERVAL ? * 1000 MICROSECOND AND NOT draining AND crash IS NULL
    ORDER BY number LIMIT 1";

const FORGET: &str = "DELETE FROM leases WHERE renewed_at < UTC_TIMESTAMP(3) - INTERVAL ? * 1000 MICROSECOND";

#[derive(FromRow)]
struct Row {
    number: i64,
    name: String,
    host: String,
    node: Option<String>,
    version: String,
    capacity: u32,
    obeys: bool,
    draining: bool,
    sessions: u32,
    smiles_per_second: f64,
    following: Option<String>,
    crash: Option<String>,
    started_at: i64,
    uptime: i64,
    age: i64,
}

/// A statement of this file with its values bound.
type Statement<'values> = sqlx::query::Query<'values, sqlx::MySql, sqlx::mysql::MySqlArguments>;

/// The replicas of one MySQL store. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(super) store: MySql,
}

impl Cluster {
    /// Registers a replica.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn register(&self, replica: NewReplica) -> Result<Registration, StoreError> {
        let at = Instant::now();
        // If the answer is lost, the row of the first attempt shows as a lost replica for a while.
        let registered = self.write(None, &replica, at, ReplicaStatus::default()).await?;
        let number = i64::try_from(registered.last_insert_id()).unwrap_or(i64::MAX);
        Ok(Registration { number, replica, at })
    }

    /// Renews the lease by MySQL's clock, and registers again if the row was removed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn renew(&self, registration: &Registration, status: ReplicaStatus) -> Result<(), StoreError> {
        self.write(Some(registration.number), &registration.replica, registration.at, status).await?;
        Ok(())
    }

    async fn write(
        &self,
        number: Option<i64>,
        replica: &NewReplica,
        at: Instant,
        status: ReplicaStatus,
    ) -> Result<MySqlQueryResult, sqlx::Error> {
        let renew = || {
            sqlx::query(RENEW)
                .bind(number)
                .bind(&replica.name)
                .bind(&replica.host)
                .bind(&replica.node)
                .bind(env!("CARGO_PKG_VERSION"))
                .bind(replica.capacity)
                .bind(replica.obeys)
                .bind(milliseconds(at.elapsed()))
                .bind(status.sessions)
                .bind(status.smiles_per_second)
                .bind(status.draining)
                .bind(status.following.map(<&str>::from))
        };
        self.repeatable(renew).await
    }

    /// Removes the registration.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn unregister(&self, registration: &Registration) -> Result<(), StoreError> {
        self.repeatable(|| sqlx::query("DELETE FROM leases WHERE number = ?").bind(registration.number)).await?;
        Ok(())
    }

    /// Every running or recently lost replica, longest uptime first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let list = async |mut connection: MySqlConnection| {
            Ok((sqlx::query_as(LIST).fetch_all(&mut connection).await?, connection))
        };
        Ok(self.store.inner.upkeep.ask(list).await?.into_iter().map(record).collect())
    }

    /// Requests a crash of the replica with that id, or else of the one with the longest uptime among those that are
    /// ready, renewed within [`RECENT_RENEWAL`] and have no request yet. Returns its id. The replica finds the request
    /// in its own row.
    ///
    /// `None` if there is no such replica, it is lost, or it ignores requests.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; a request may have been stored all the same.
    pub(crate) async fn request_crash(
        &self,
        named: Option<&str>,
        mode: CrashMode,
    ) -> Result<Option<String>, StoreError> {
        let request = match named {
            Some(id) => sqlx::query(ASK_NAMED).bind(<&str>::from(mode)).bind(milliseconds(LEASE)).bind(id),
            None => sqlx::query(ASK_LONGEST_UP).bind(<&str>::from(mode)).bind(milliseconds(RECENT_RENEWAL)),
        };
        let ask = async |mut connection: MySqlConnection| {
            let asked = request.execute(&mut connection).await?;
            if asked.rows_affected() == 0 {
                return Ok((None, connection));
            }
            let id = sqlx::query_as("SELECT name, number FROM leases WHERE number = ?").bind(asked.last_insert_id());
            Ok((id.fetch_optional(&mut connection).await?, connection))
        };
        // Not repeated after a lost connection: that could crash a second replica.
        let id: Option<(String, i64)> = self.store.inner.upkeep.ask_once(ask).await?;
        Ok(id.map(|(name, number)| replica_id(&name, number)))
    }

    /// Removes replicas that have been lost for longer than [`LOST_REPLICA_RETENTION`].
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn forget_lost(&self) -> Result<(), StoreError> {
        self.repeatable(|| sqlx::query(FORGET).bind(milliseconds(LOST_REPLICA_RETENTION))).await?;
        Ok(())
    }

    /// Executes an idempotent statement.
    async fn repeatable<'values>(
        &self,
        statement: impl Fn() -> Statement<'values>,
    ) -> Result<MySqlQueryResult, sqlx::Error> {
        self.store
            .inner
            .upkeep
            .ask(async |mut connection| Ok((statement().execute(&mut connection).await?, connection)))
            .await
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

fn record(row: Row) -> ReplicaRecord {
    let record = ReplicaRecord {
        id: replica_id(&row.name, row.number),
        name: row.name,
        host: row.host,
        node: row.node,
        state: if row.draining { ReplicaState::Draining } else { ReplicaState::Ready },
        started_at: Timestamp::from_milliseconds(row.started_at),
        // A clock that is set back makes an age negative; count it as zero.
        uptime_ms: row.uptime.max(0).unsigned_abs(),
        heartbeat_age_ms: row.age.max(0).unsigned_abs(),
        sessions: row.sessions,
        smiles_per_second: row.smiles_per_second,
        capacity: row.capacity,
        version: row.version,
        following: row.following.and_then(|following| following.parse().ok()),
        obeys: row.obeys,
        crash: row.crash.and_then(|mode| mode.parse().ok()),
    };
    record.after(Duration::ZERO)
}
