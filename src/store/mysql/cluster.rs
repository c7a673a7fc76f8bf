//! The replicas that share a MySQL store. Each renews a lease.
//!
//! MySQL's clock measures the age of each lease; between two reads of the list, a replica adds the elapsed time. Only
//! an expired lease makes a replica lost: a replica that cannot reach another may itself be cut off.

use std::time::{Duration, Instant};

use sqlx::mysql::MySqlRow;
use sqlx::{FromRow, MySqlConnection, Row};

use super::MySql;
use crate::model::Timestamp;
use crate::protocol::CrashMode;
use crate::store::{
    LOST_REPLICA_RETENTION, Registration, ReplicaInfo, ReplicaRecord, ReplicaState, ReplicaStatus, StoreError, integer,
};

/// Renews the lease, or registers the replica if there is no row with its number. MySQL replaces the number 0 with a
/// new number.
const RENEW: &str = "
    INSERT INTO leases (number, name, host, node, version, capacity, obeys, started_at, renewed_at,
        sessions, smiles_per_second, draining, behind, following)
    VALUES (?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(3) - INTERVAL ? * 1000 MICROSECOND, UTC_TIMESTAMP(3), ?, ?, ?, ?, ?)
    AS renewal
    ON DUPLICATE KEY UPDATE renewed_at = renewal.renewed_at, sessions = renewal.sessions,
        smiles_per_second = renewal.smiles_per_second, draining = renewal.draining, behind = renewal.behind,
        following = renewal.following";

/// Longest uptime first, since numbers follow the order of registration.
const LIST: &str = "
    SELECT CONCAT(name, '.', number) AS id, name, host, node, version, capacity, obeys, draining, behind, sessions,
        smiles_per_second, following, crash,
        TIMESTAMPDIFF(MICROSECOND, '1970-01-01', started_at) DIV 1000 AS started_at,
        TIMESTAMPDIFF(MICROSECOND, started_at, UTC_TIMESTAMP(3)) DIV 1000 AS uptime,
        TIMESTAMPDIFF(MICROSECOND, renewed_at, UTC_TIMESTAMP(3)) DIV 1000 AS age
    FROM leases ORDER BY number";

/// The last parameter says whether this request replaces a pending one. If it does not, the second of two concurrent
/// requests for one replica changes nothing.
const REQUEST_CRASH: &str = "UPDATE leases SET crash = ? WHERE CONCAT(name, '.', number) = ? AND (crash IS NULL OR ?)";

impl MySql {
    /// Registers a replica.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn register(&self, info: ReplicaInfo) -> Result<Registration, StoreError> {
        let mut registration = Registration { number: 0, info, at: Instant::now() };
        // If the answer to the first attempt is lost, the row of that attempt stays in the list for about ten minutes,
        // as a lost replica once its lease has expired.
        registration.number = self.write_lease(&registration, ReplicaStatus::default()).await?;
        Ok(registration)
    }

    /// Renews the lease by MySQL's clock, and registers again if the row was removed meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn renew(&self, registration: &Registration, status: ReplicaStatus) -> Result<(), StoreError> {
        self.write_lease(registration, status).await.map(|_| ())
    }

    /// If the number of the registration is 0, inserts a row, and returns the number that MySQL chose. Otherwise the
    /// returned number has no meaning.
    async fn write_lease(&self, registration: &Registration, status: ReplicaStatus) -> Result<i64, StoreError> {
        let Registration { number, info, at } = registration;
        let write = async |mut connection: MySqlConnection| {
            let write = sqlx::query(RENEW)
                .bind(number)
                .bind(&info.name)
                .bind(&info.host)
                .bind(&info.node)
                .bind(env!("CARGO_PKG_VERSION"))
                .bind(info.capacity)
                .bind(info.obeys)
                .bind(integer(at.elapsed().as_millis()))
                .bind(status.sessions)
                .bind(status.smiles_per_second)
                .bind(status.draining)
                .bind(status.behind)
                .bind(status.following.map(<&str>::from));
            Ok((write.execute(&mut connection).await?, connection))
        };
        Ok(integer(self.upkeep.run_idempotent(write).await?.last_insert_id()))
    }

    /// Removes the registration.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn unregister(&self, registration: &Registration) -> Result<(), StoreError> {
        self.execute(&format!("DELETE FROM leases WHERE number = {}", registration.number)).await?;
        Ok(())
    }

    /// Lists every running or recently lost replica, longest uptime first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        Ok(self.upkeep.rows(LIST).await?)
    }

    /// Among the replicas for which [`ReplicaRecord::can_crash`] holds, requests a crash of the one with the longest
    /// uptime, and returns its id. If another request reaches that replica first, tries the next one. The replica finds
    /// the request in its own row.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]; a request may have been stored nevertheless.
    pub(crate) async fn request_crash(
        &self,
        named: Option<&str>,
        mode: CrashMode,
    ) -> Result<Option<String>, StoreError> {
        for replica in self.replicas().await?.into_iter().filter(|replica| replica.can_crash(named)) {
            let request = sqlx::query(REQUEST_CRASH).bind(<&str>::from(mode)).bind(&replica.id).bind(named.is_some());
            let request = async |mut connection| Ok((request.execute(&mut connection).await?, connection));
            // Not repeated after a lost connection: that could crash a second replica.
            if self.upkeep.run_once(request).await?.rows_affected() > 0 {
                return Ok(Some(replica.id.clone()));
            }
        }
        Ok(None)
    }

    /// Removes replicas whose last renewal was more than [`LOST_REPLICA_RETENTION`] ago or, because the clock was set
    /// back, lies equally far in the future.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub(crate) async fn forget_lost(&self) -> Result<(), StoreError> {
        let seconds = LOST_REPLICA_RETENTION.as_secs();
        let forget = format!(
            "DELETE FROM leases WHERE renewed_at NOT BETWEEN UTC_TIMESTAMP(3) - INTERVAL {seconds} SECOND \
             AND UTC_TIMESTAMP(3) + INTERVAL {seconds} SECOND"
        );
        self.execute(&forget).await?;
        Ok(())
    }
}

impl FromRow<'_, MySqlRow> for ReplicaRecord {
    fn from_row(row: &MySqlRow) -> sqlx::Result<Self> {
        // If the clock was set back, both times may be negative. A last renewal in the future says nothing about
        // whether the replica is alive, so it counts as one that is as far in the past.
        let (uptime, age): (i64, i64) = (row.try_get("uptime")?, row.try_get("age")?);
        let (following, crash): (Option<&str>, Option<&str>) = (row.try_get("following")?, row.try_get("crash")?);
        let following = following.and_then(|following| following.parse().ok());
        let status = ReplicaStatus { following, ..ReplicaStatus::from_row(row)? };
        let record = Self {
            id: row.try_get("id")?,
            info: ReplicaInfo::from_row(row)?,
            state: if status.draining { ReplicaState::Draining } else { ReplicaState::Ready },
            started_at: Timestamp(row.try_get("started_at")?),
            uptime_ms: uptime.max(0).unsigned_abs(),
            heartbeat_age_ms: age.unsigned_abs(),
            status,
            version: row.try_get("version")?,
            crash: crash.and_then(|mode| mode.parse().ok()),
        };
        Ok(record.after(Duration::ZERO))
    }
}
