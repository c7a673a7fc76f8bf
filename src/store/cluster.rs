//! What is kept of a replica, and how its lease is judged.
//!
//! Owns these nouns; the rows and the clock are MySQL's. A process that has its store to itself is described by the same
//! nouns, without a row.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// How long a replica that does not renew its lease still counts as alive. Renewals come every second, so this allows
/// for four that are late or fail.
pub const LEASE: Duration = Duration::from_secs(5);

/// A replica that has renewed within this time most likely still lives: two renewals, and what delays them.
pub const HEARD_OF_LATELY: Duration = Duration::from_millis(2500);

/// How long a replica that is gone is still shown.
pub const LOST_REPLICAS_ARE_KEPT: Duration = Duration::from_mins(10);

/// Whether a replica is to be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// It holds its lease and takes sessions.
    Ready,
    /// It holds its lease and takes no more sessions.
    Draining,
    /// It did not renew its lease in time.
    Lost,
}

/// How a replica hears of what the others append.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Following {
    /// It reads the log every few milliseconds.
    Polling,
    /// The database tells it of every commit.
    Binlog,
}

/// How a replica is made to fail.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum CrashMode {
    /// The process dies at once, without clean-up.
    #[default]
    Exit,
    /// It lives and answers nothing more.
    Hang,
    /// It says that it is not ready, and takes no new session, until it is restarted.
    Unready,
}

/// One replica, as `GET /api/replicas` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplicaRecord {
    /// Never used twice: the name, a dot and a number.
    pub id: String,
    /// What it was called when it was started.
    pub name: String,
    /// The host name of its system; in a container, the container's.
    pub host: String,
    /// The machine it runs on, where it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether it is to be counted on.
    pub state: ReplicaState,
    /// When it registered, by the store's clock.
    pub started_at: Timestamp,
    /// Milliseconds since then, by the same clock.
    pub uptime_ms: u64,
    /// Milliseconds since it last renewed its lease, by the same clock.
    pub heartbeat_age_ms: u64,
    /// Sessions it holds; 0 when it is lost.
    pub sessions: u32,
    /// Smiles per second it admitted lately; 0 when it is lost.
    pub smiles_per_second: f64,
    /// Smiles per second it admits at most; 0 is unlimited.
    pub capacity: u32,
    /// Version of its program.
    pub version: String,
    /// How it hears of what the others append; `None` where there are no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub following: Option<Following>,
    /// Whether it fails on request.
    #[serde(skip)]
    pub obeys: bool,
    /// How it has been asked to fail.
    #[serde(skip)]
    pub crash: Option<CrashMode>,
}

impl ReplicaRecord {
    /// The same replica some time later, if it has not renewed its lease since.
    #[must_use]
    pub fn after(mut self, time: Duration) -> Self {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.uptime_ms = self.uptime_ms.saturating_add(milliseconds);
        self.heartbeat_age_ms = self.heartbeat_age_ms.saturating_add(milliseconds);
        if u128::from(self.heartbeat_age_ms) > LEASE.as_millis() {
            self.state = ReplicaState::Lost;
            self.sessions = 0;
            self.smiles_per_second = 0.0;
        }
        self
    }
}

/// What a replica is when it registers.
#[derive(Clone, Debug)]
pub struct NewReplica {
    /// What it is called.
    pub name: String,
    /// The host name of its system; in a container, the container's.
    pub host: String,
    /// The machine it runs on, where it was told.
    pub node: Option<String>,
    /// Smiles per second it admits at most; 0 is unlimited.
    pub capacity: u32,
    /// Whether it fails on request.
    pub obeys: bool,
}

impl NewReplica {
    /// The id of this replica under that number.
    #[must_use]
    pub fn id(&self, number: i64) -> String {
        replica_id(&self.name, number)
    }
}

/// The name, a dot and the number.
pub(super) fn replica_id(name: &str, number: i64) -> String {
    format!("{name}.{number}")
}

/// A replica's place in the store, for as long as it renews it.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What makes the id unique.
    pub(super) number: i64,
    pub(super) replica: NewReplica,
    /// When it was asked for.
    pub(super) at: Instant,
}

impl Registration {
    /// The id of this replica.
    #[must_use]
    pub fn id(&self) -> String {
        self.replica.id(self.number)
    }
}

/// What a replica tells with each renewal.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplicaStatus {
    /// Sessions it holds.
    pub sessions: u32,
    /// Smiles per second it admitted lately.
    pub smiles_per_second: f64,
    /// Whether it takes no more sessions.
    pub draining: bool,
    /// How it hears of what the others append; `None` where there are no others.
    pub following: Option<Following>,
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn a_replica_that_does_not_renew_is_lost_and_holds_nothing() {
        let replica = ReplicaRecord {
            id: "be1.1".to_owned(),
            name: "be1".to_owned(),
            host: "here".to_owned(),
            node: None,
            state: ReplicaState::Draining,
            started_at: Timestamp::from_milliseconds(0),
            uptime_ms: 60_000,
            heartbeat_age_ms: 1000,
            sessions: 7,
            smiles_per_second: 4.5,
            capacity: 100,
            version: "0".to_owned(),
            following: None,
            obeys: true,
            crash: None,
        };
        let late = replica.clone().after(Duration::from_secs(4));
        assert_eq!((late.state, late.sessions), (ReplicaState::Draining, 7));
        assert_eq!((late.uptime_ms, late.heartbeat_age_ms), (64_000, 5000));
        let lost = replica.after(Duration::from_millis(4001));
        assert_eq!((lost.state, lost.sessions, lost.smiles_per_second), (ReplicaState::Lost, 0, 0.0));
    }

    #[test]
    fn crash_modes_have_one_name_everywhere() {
        for mode in CrashMode::VARIANTS {
            assert_eq!(<&str>::from(mode).parse(), Ok(*mode));
            assert_eq!(crate::protocol::to_json(mode), format!("\"{}\"", <&str>::from(mode)));
        }
        assert!("sleep".parse::<CrashMode>().is_err());
    }

    #[test]
    fn ways_of_following_have_one_name_everywhere() {
        for following in Following::VARIANTS {
            assert_eq!(<&str>::from(following).parse(), Ok(*following));
            assert_eq!(crate::protocol::to_json(following), format!("\"{}\"", <&str>::from(following)));
        }
    }
}
