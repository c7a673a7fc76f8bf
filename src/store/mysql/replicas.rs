//! The replicas of a MySQL store: this one and the others.
//!
//! Owns their rows and the clock they are judged by, which is MySQL's. A replica is lost when its lease is too old and
//! for no other reason: whoever asks may be the one that is cut off.

use sqlx::FromRow;

use super::MySql;
use super::connections::{ANSWER, within};
use crate::model::Timestamp;
use crate::store::replicas::replica_id;
use crate::store::{
    CrashMode, Following, LOST_REPLICAS_ARE_KEPT, NewReplica, Registration, ReplicaRecord, ReplicaState, ReplicaStatus,
    StoreError,
};

const REGISTER: &str = "
    INSERT INTO replicas (name, host, node, version, capacity, started_at, renewed_at)
    VALUES (?, ?, ?, ?, ?, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED),
        CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED))";

/// Renews, or takes the place again where it was forgotten.
const RENEW: &str = "
    INSERT INTO replicas (number, name, host, node, version, capacity, started_at, renewed_at,
        sessions, smiles_per_second, draining, following)
    VALUES (?, ?, ?, ?, ?, ?, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED),
        CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), ?, ?, ?, ?) AS renewal
    ON DUPLICATE KEY UPDATE renewed_at = renewal.renewed_at, sessions = renewal.sessions,
        smiles_per_second = renewal.smiles_per_second, draining = renewal.draining, following = renewal.following";

const REQUEST_CRASH: &str = "UPDATE replicas SET crash = ? WHERE number = ?";

const REQUESTED_CRASH: &str = "SELECT crash FROM replicas WHERE number = ?";

const FORGET_CRASH: &str = "UPDATE replicas SET crash = NULL WHERE number = ?";

const HANDS_OVER: &str = "
    UPDATE replicas SET handed_over_at = CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) WHERE number = ?";

const LIST: &str = "
    SELECT number, name, host, node, version, capacity, started_at,
        CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - renewed_at AS age, draining, sessions, smiles_per_second, following,
        CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - handed_over_at AS handed_over_age
    FROM replicas ORDER BY started_at, number";

const FORGET: &str = "DELETE FROM replicas WHERE renewed_at < CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED) - ?";

#[derive(FromRow)]
struct Row {
    number: i64,
    name: String,
    host: String,
    node: Option<String>,
    version: String,
    capacity: u32,
    started_at: i64,
    age: i64,
    draining: bool,
    sessions: u32,
    smiles_per_second: f64,
    following: Option<String>,
    handed_over_age: Option<i64>,
}

/// A statement of this file, its values bound.
type Statement<'values> = sqlx::query::Query<'values, sqlx::MySql, sqlx::mysql::MySqlArguments>;

impl MySql {
    pub(in crate::store) async fn register(&self, replica: NewReplica) -> Result<Registration, StoreError> {
        let register = || {
            sqlx::query(REGISTER)
                .bind(&replica.name)
                .bind(&replica.host)
                .bind(&replica.node)
                .bind(env!("CARGO_PKG_VERSION"))
                .bind(replica.capacity)
        };
        // When the first answer is lost, the place it took is shown as lost for a while.
        let number = i64::try_from(self.execute(register).await?).unwrap_or(i64::MAX);
        Ok(Registration { number, replica })
    }

    pub(in crate::store) async fn renew(
        &self,
        registration: &Registration,
        status: ReplicaStatus,
    ) -> Result<(), StoreError> {
        let renew = || {
            sqlx::query(RENEW)
                .bind(registration.number)
                .bind(&registration.replica.name)
                .bind(&registration.replica.host)
                .bind(&registration.replica.node)
                .bind(env!("CARGO_PKG_VERSION"))
                .bind(registration.replica.capacity)
                .bind(status.sessions)
                .bind(status.smiles_per_second)
                .bind(status.draining)
                .bind(status.following.map(Following::as_str))
        };
        self.execute(renew).await?;
        Ok(())
    }

    pub(in crate::store) async fn take_crash_request(
        &self,
        registration: &Registration,
    ) -> Result<Option<CrashMode>, StoreError> {
        let upkeep = &self.inner.upkeep;
        let ask = async || {
            let mut lane = upkeep.take().await?;
            let asked = sqlx::query_scalar(REQUESTED_CRASH).bind(registration.number);
            let mode: Option<Option<String>> = within(ANSWER, asked.fetch_optional(&mut lane.connection)).await?;
            lane.keep();
            Ok(mode)
        };
        let Some(requested) = upkeep.ask(ask).await?.flatten() else { return Ok(None) };
        self.execute(|| sqlx::query(FORGET_CRASH).bind(registration.number)).await?;
        Ok(CrashMode::parse(&requested))
    }

    pub(in crate::store) async fn request_crash(&self, replica: &str, mode: CrashMode) -> Result<bool, StoreError> {
        let is_alive = |other: &ReplicaRecord| other.id == replica && other.state != ReplicaState::Lost;
        let number = replica.rsplit('.').next().and_then(|number| number.parse::<i64>().ok());
        let Some(number) = number else { return Ok(false) };
        if !self.replicas().await?.iter().any(is_alive) {
            return Ok(false);
        }
        self.execute(|| sqlx::query(REQUEST_CRASH).bind(mode.as_str()).bind(number)).await?;
        Ok(true)
    }

    pub(in crate::store) async fn hands_over(&self, registration: &Registration) -> Result<(), StoreError> {
        self.execute(|| sqlx::query(HANDS_OVER).bind(registration.number)).await?;
        Ok(())
    }

    pub(in crate::store) async fn unregister(&self, registration: &Registration) -> Result<(), StoreError> {
        self.execute(|| sqlx::query("DELETE FROM replicas WHERE number = ?").bind(registration.number)).await?;
        Ok(())
    }

    pub(in crate::store) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let reading = &self.inner.reading;
        let ask = async || {
            let mut lane = reading.take().await?;
            let rows: Vec<Row> = within(ANSWER, sqlx::query_as(LIST).fetch_all(&mut lane.connection)).await?;
            lane.keep();
            Ok(rows)
        };
        Ok(reading.ask(ask).await?.into_iter().map(record).collect())
    }

    pub(in crate::store) async fn forget_lost_replicas(&self) -> Result<(), StoreError> {
        let kept = i64::try_from(LOST_REPLICAS_ARE_KEPT.as_millis()).unwrap_or(i64::MAX);
        self.execute(|| sqlx::query(FORGET).bind(kept)).await?;
        Ok(())
    }

    /// Carries a statement out that may be carried out twice, and returns the number it gave, if any.
    async fn execute<'values>(&self, statement: impl Fn() -> Statement<'values>) -> Result<u64, sqlx::Error> {
        let upkeep = &self.inner.upkeep;
        let ask = async || {
            let mut lane = upkeep.take().await?;
            let done = within(ANSWER, statement().execute(&mut lane.connection)).await?;
            lane.keep();
            Ok(done.last_insert_id())
        };
        upkeep.ask(ask).await
    }
}

fn record(row: Row) -> ReplicaRecord {
    // A clock set back makes an age negative; it counts as fresh.
    let heartbeat_age_ms = row.age.max(0).unsigned_abs();
    ReplicaRecord {
        id: replica_id(&row.name, row.number),
        name: row.name,
        host: row.host,
        node: row.node,
        state: ReplicaState::judge(heartbeat_age_ms, false, row.draining),
        started_at: Timestamp::from_milliseconds(row.started_at),
        heartbeat_age_ms,
        sessions: row.sessions,
        smiles_per_second: row.smiles_per_second,
        capacity: row.capacity,
        version: row.version,
        following: row.following.as_deref().and_then(Following::parse),
        handed_over_age_ms: row.handed_over_age.map(|age| age.max(0).unsigned_abs()),
    }
}
