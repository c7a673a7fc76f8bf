//! The types of the cluster: replicas, their state and their leases. MySQL stores a row for each replica and provides
//! the clock; a standalone replica uses the same types without a row.

use std::time::{Duration, Instant};

use serde::Serialize;
use sqlx::FromRow;
use strum::{EnumString, IntoStaticStr, VariantArray};

use crate::model::Timestamp;
use crate::protocol::CrashMode;

/// How long a lease lasts without renewal. A replica renews it one second after the previous attempt has ended, so the
/// lease survives three attempts in a row that fail immediately, or one that fails after 2 s without an answer.
pub(crate) const LEASE: Duration = Duration::from_secs(5);

/// A replica that renewed its lease within this time is most likely alive: two renewal intervals plus a margin.
const RECENT_RENEWAL: Duration = Duration::from_millis(2500);

/// The minimum time for which a replica stays in the list after its last renewal, unless it unregisters. Within about a
/// minute after this time has passed, a running replica removes the row.
pub(crate) const LOST_REPLICA_RETENTION: Duration = Duration::from_mins(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReplicaState {
    /// The replica holds its lease and is not draining. It may be behind, and then refuses sessions.
    Ready,
    /// The replica holds its lease and accepts no more sessions: it is shutting down, or a crash request made it
    /// unready.
    Draining,
    /// The lease of the replica has expired.
    Lost,
}

/// How a replica follows the batches of other replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, EnumString, IntoStaticStr, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Following {
    /// It polls the log every few milliseconds.
    Polling,
    /// It follows the binary log.
    Binlog,
}

/// One replica in `GET /api/replicas`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ReplicaRecord {
    /// The name, a dot and a number. An id is never reused.
    pub id: String,
    #[serde(flatten)]
    pub info: ReplicaInfo,
    pub state: ReplicaState,
    /// When it registered, by the store's clock.
    pub started_at: Timestamp,
    /// Milliseconds since it registered, by the store's clock.
    pub uptime_ms: u64,
    /// Milliseconds since it last renewed its lease, by the store's clock; 0 on SQLite.
    pub heartbeat_age_ms: u64,
    /// The status that it wrote with its last renewal; in the replica's own answer, the current status. In the record
    /// of a lost replica, the number of sessions and the rate of smiles are 0.
    #[serde(flatten)]
    pub status: ReplicaStatus,
    pub version: String,
    /// The last crash request. The request stays pending after the replica has obeyed it.
    #[serde(skip)]
    pub crash: Option<CrashMode>,
}

impl ReplicaRecord {
    /// Returns the record as it is after another `time` without a renewal.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.uptime_ms = self.uptime_ms.saturating_add(milliseconds);
        self.heartbeat_age_ms = self.heartbeat_age_ms.saturating_add(milliseconds);
        if u128::from(self.heartbeat_age_ms) > LEASE.as_millis() {
            self.state = ReplicaState::Lost;
            self.status.sessions = 0;
            self.status.smiles_per_second = 0.0;
        }
        self
    }

    /// Whether a crash request may hit this replica. `named` is the id in the request, if the request names a replica.
    pub(crate) fn can_crash(&self, named: Option<&str>) -> bool {
        let recent = u128::from(self.heartbeat_age_ms) <= RECENT_RENEWAL.as_millis();
        let is_fit = self.state == ReplicaState::Ready && !self.status.behind && recent && self.crash.is_none();
        let chosen = named.map_or(is_fit, |id| self.id == id && self.state != ReplicaState::Lost);
        chosen && self.info.obeys
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, FromRow)]
pub(crate) struct ReplicaInfo {
    /// The configured name, or the host name if none is configured.
    pub name: String,
    /// The host name; in a container, the container's host name.
    pub host: String,
    /// The node it runs on, if configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The maximum number of smiles per second that it admits; 0 means no limit.
    pub capacity: u32,
    /// Whether it obeys crash requests.
    #[serde(skip)]
    pub obeys: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Registration {
    /// The number that makes the id unique.
    pub number: i64,
    pub info: ReplicaInfo,
    /// When the registration was requested.
    pub at: Instant,
}

impl Registration {
    pub(crate) fn id(&self) -> String {
        format!("{}.{}", self.info.name, self.number)
    }
}

/// The status that a replica writes with each renewal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, FromRow)]
pub(crate) struct ReplicaStatus {
    pub sessions: u32,
    /// Admitted smiles per second, as last measured, usually over about a second.
    pub smiles_per_second: f64,
    #[serde(skip)]
    pub draining: bool,
    /// Whether it is far behind the log, or has not read the log for several seconds. It then refuses sessions.
    #[serde(skip)]
    pub behind: bool,
    /// How it receives the batches of other replicas; `None` on SQLite, and from the registration to the first renewal.
    /// Also `None` if this version does not know the method.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[sqlx(skip)]
    pub following: Option<Following>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_without_renewals_is_lost_and_has_no_sessions() {
        let replica = ReplicaRecord {
            id: "be1.1".to_owned(),
            info: ReplicaInfo {
                name: "be1".to_owned(),
                host: "here".to_owned(),
                node: None,
                capacity: 100,
                obeys: true,
            },
            state: ReplicaState::Draining,
            started_at: Timestamp(0),
            uptime_ms: 60_000,
            heartbeat_age_ms: 1000,
            status: ReplicaStatus {
                sessions: 7,
                smiles_per_second: 4.5,
                draining: true,
                behind: false,
                following: None,
            },
            version: "0".to_owned(),
            crash: None,
        };
        let late = replica.clone().after(Duration::from_secs(4));
        assert_eq!((late.state, late.status.sessions), (ReplicaState::Draining, 7));
        assert_eq!((late.uptime_ms, late.heartbeat_age_ms), (64_000, 5000));
        let lost = replica.after(Duration::from_millis(4001));
        assert_eq!((lost.state, lost.status.sessions, lost.status.smiles_per_second), (ReplicaState::Lost, 0, 0.0));
    }

    #[test]
    fn crash_modes_have_the_same_name_in_json_and_sql() {
        for mode in CrashMode::VARIANTS {
            assert_eq!(<&str>::from(mode).parse(), Ok(*mode));
            assert_eq!(crate::protocol::to_json(mode), format!("\"{}\"", <&str>::from(mode)));
        }
        assert!("sleep".parse::<CrashMode>().is_err());
    }

    #[test]
    fn following_modes_have_the_same_name_in_json_and_sql() {
        for following in Following::VARIANTS {
            assert_eq!(<&str>::from(following).parse(), Ok(*following));
            assert_eq!(crate::protocol::to_json(following), format!("\"{}\"", <&str>::from(following)));
        }
    }
}
