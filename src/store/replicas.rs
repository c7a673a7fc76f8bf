//! What the databases keep of a replica, and how its lease is judged.
//!
//! Owns these nouns; the rows and the clock are the databases'.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// How long a replica that does not renew its lease still counts as alive. Renewals come every second, so this allows
/// for four that are late or fail.
pub const LEASE: Duration = Duration::from_secs(5);

/// How long a replica that is gone is still shown.
pub const LOST_REPLICAS_ARE_KEPT: Duration = Duration::from_mins(10);

/// Whether a replica is to be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// It holds its lease and takes sessions.
    Ready,
    /// It holds its lease and takes no more sessions.
    Draining,
    /// It did not renew its lease in time.
    Lost,
}

impl ReplicaState {
    /// What the age of a lease says, and whatever else the store knows.
    pub(super) fn judge(heartbeat_age_ms: u64, known_to_be_gone: bool, draining: bool) -> Self {
        if known_to_be_gone || u128::from(heartbeat_age_ms) > LEASE.as_millis() {
            Self::Lost
        } else if draining {
            Self::Draining
        } else {
            Self::Ready
        }
    }
}

/// How a replica hears of what the others append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Following {
    /// It reads the log every few milliseconds.
    Polling,
    /// The database tells it of every commit.
    Binlog,
}

impl Following {
    const ALL: [Self; 2] = [Self::Polling, Self::Binlog];

    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Binlog => "binlog",
        }
    }

    /// What is called so.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|following| following.as_str() == name)
    }
}

/// How a replica is made to fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrashMode {
    /// The process dies at once, without clean-up.
    #[default]
    Exit,
    /// It lives and answers nothing more.
    Hang,
    /// It says that it is not ready, and takes no new session, until it is restarted.
    Unready,
}

impl CrashMode {
    const ALL: [Self; 3] = [Self::Exit, Self::Hang, Self::Unready];

    /// The name on the wire and in the store.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Hang => "hang",
            Self::Unready => "unready",
        }
    }

    /// The mode of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name)
    }
}

/// One replica as the others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplicaRecord {
    /// Unique for ever: the name, a dot and a number.
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
    /// Milliseconds since it last renewed its lease, by the store's clock.
    pub heartbeat_age_ms: u64,
    /// Sessions it holds.
    pub sessions: u32,
    /// Smiles per second it admitted lately.
    pub smiles_per_second: f64,
    /// Smiles per second it admits at most; 0 is unlimited.
    pub capacity: u32,
    /// Version of its program.
    pub version: String,
    /// How it hears of what the others append; `None` where there are no others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub following: Option<Following>,
    /// Milliseconds since it last handed sessions over, by the store's clock; `None` when it never has. Nobody else's
    /// business.
    #[serde(skip)]
    pub handed_over_age_ms: Option<u64>,
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
}

/// A replica's place in the store, for as long as it renews it.
#[derive(Clone, Debug)]
pub struct Registration {
    /// What makes the id unique.
    pub(super) number: i64,
    pub(super) replica: NewReplica,
}

impl Registration {
    /// The id of this replica: its name, a dot and its number.
    #[must_use]
    pub fn id(&self) -> String {
        replica_id(&self.replica.name, self.number)
    }
}

pub(super) fn replica_id(name: &str, number: i64) -> String {
    format!("{name}.{number}")
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
    use super::*;

    #[test]
    fn a_lease_that_was_not_renewed_in_time_is_lost() {
        let lease = u64::try_from(LEASE.as_millis()).unwrap();
        assert_eq!(ReplicaState::judge(lease, false, false), ReplicaState::Ready);
        assert_eq!(ReplicaState::judge(lease + 1, false, false), ReplicaState::Lost);
        assert_eq!(ReplicaState::judge(0, true, false), ReplicaState::Lost);
        assert_eq!(ReplicaState::judge(0, false, true), ReplicaState::Draining);
    }

    #[test]
    fn crash_modes_have_one_name_everywhere() {
        for mode in CrashMode::ALL {
            assert_eq!(CrashMode::parse(mode.as_str()), Some(mode));
            assert_eq!(crate::protocol::to_json(&mode), format!("\"{}\"", mode.as_str()));
        }
        assert_eq!(CrashMode::parse("sleep"), None);
    }

    #[test]
    fn ways_of_following_have_one_name_everywhere() {
        for following in Following::ALL {
            assert_eq!(Following::parse(following.as_str()), Some(following));
            assert_eq!(crate::protocol::to_json(&following), format!("\"{}\"", following.as_str()));
        }
    }
}
