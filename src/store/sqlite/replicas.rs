//! The replicas in an SQLite store: this one, and those that came before it.
//!
//! Owns their rows and the clock they are judged by, which is SQLite's.

use super::Sqlite;
use crate::model::Timestamp;
use crate::store::replicas::replica_id;
use crate::store::{
    LOST_REPLICAS_ARE_KEPT, NewReplica, Registration, ReplicaRecord, ReplicaState, ReplicaStatus, StoreError,
};

/// Only one process uses this file at a time, so whoever registers knows that all the others are gone.
const DECLARE_OTHERS_LOST: &str = "UPDATE replicas SET lost = 1";

const REGISTER: &str = "
    INSERT INTO replicas (name, host, node, version, capacity, started_at, renewed_at)
    VALUES (?1, ?2, ?3, ?4, ?5, CAST(unixepoch('subsec') * 1000 AS INTEGER),
        CAST(unixepoch('subsec') * 1000 AS INTEGER))
    RETURNING number";

/// Renews, or takes the place again where it was forgotten.
const RENEW: &str = "
    INSERT INTO replicas (number, name, host, node, version, capacity, started_at, renewed_at,
        sessions, smiles_per_second, draining)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, CAST(unixepoch('subsec') * 1000 AS INTEGER),
        CAST(unixepoch('subsec') * 1000 AS INTEGER), ?7, ?8, ?9)
    ON CONFLICT (number) DO UPDATE SET renewed_at = excluded.renewed_at, sessions = excluded.sessions,
        smiles_per_second = excluded.smiles_per_second, draining = excluded.draining, lost = 0";

const LIST: &str = "
    SELECT number, name, host, node, version, capacity, started_at,
        CAST(unixepoch('subsec') * 1000 AS INTEGER) - renewed_at, lost, draining, sessions, smiles_per_second
    FROM replicas ORDER BY started_at, number";

const FORGET: &str = "DELETE FROM replicas WHERE renewed_at < CAST(unixepoch('subsec') * 1000 AS INTEGER) - ?1";

/// number, name, host, node, version, capacity, started at, age, lost, draining, sessions, smiles per second
type Row = (i64, String, String, Option<String>, String, u32, i64, i64, bool, bool, u32, f64);

impl Sqlite {
    pub(in crate::store) async fn register(&self, replica: NewReplica) -> Result<Registration, StoreError> {
        let mut writers = self.inner.writers.lock().await;
        let mut writer = Temp(writers.log.connection.take().unwrap());
        sqlx::query(DECLARE_OTHERS_LOST).execute(&mut writer.0).await?;
        let number = sqlx::query_scalar(REGISTER)
            .bind(&replica.name)
            .bind(&replica.host)
            .bind(&replica.node)
            .bind(env!("CARGO_PKG_VERSION"))
            .bind(replica.capacity)
            .fetch_one(&mut writer.0)
            .await?;
        writers.log.connection = Some(writer.0);
        Ok(Registration { number, replica })
    }

    pub(in crate::store) async fn renew(
        &self,
        registration: &Registration,
        status: ReplicaStatus,
    ) -> Result<(), StoreError> {
        let mut writers = self.inner.writers.lock().await;
        let mut writer = Temp(writers.log.connection.take().unwrap());
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
            .execute(&mut writer.0)
            .await?;
        writers.log.connection = Some(writer.0);
        Ok(())
    }

    pub(in crate::store) async fn unregister(&self, registration: &Registration) -> Result<(), StoreError> {
        let mut writers = self.inner.writers.lock().await;
        let mut writer = Temp(writers.log.connection.take().unwrap());
        sqlx::query("DELETE FROM replicas WHERE number = ?1")
            .bind(registration.number)
            .execute(&mut writer.0)
            .await?;
        writers.log.connection = Some(writer.0);
        Ok(())
    }

    pub(in crate::store) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let rows: Vec<Row> = sqlx::query_as(LIST).fetch_all(&self.inner.readers).await?;
        Ok(rows.into_iter().map(record).collect())
    }

    pub(in crate::store) async fn forget_lost_replicas(&self) -> Result<(), StoreError> {
        let mut writers = self.inner.writers.lock().await;
        let mut writer = Temp(writers.log.connection.take().unwrap());
        let kept = i64::try_from(LOST_REPLICAS_ARE_KEPT.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(FORGET).bind(kept).execute(&mut writer.0).await?;
        writers.log.connection = Some(writer.0);
        Ok(())
    }
}

fn record(
    (number, name, host, node, version, capacity, started_at, age, lost, draining, sessions, smiles_per_second): Row,
) -> ReplicaRecord {
    // A clock set back makes an age negative; it counts as fresh.
    let heartbeat_age_ms = age.max(0).unsigned_abs();
    ReplicaRecord {
        id: replica_id(&name, number),
        name,
        host,
        node,
        state: ReplicaState::judge(heartbeat_age_ms, lost, draining),
        started_at: Timestamp::from_milliseconds(started_at),
        heartbeat_age_ms,
        sessions,
        smiles_per_second,
        capacity,
        version,
        following: None,
        handed_over_age_ms: None,
    }
}

struct Temp(sqlx::SqliteConnection);
