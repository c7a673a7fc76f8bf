//! The request and response bodies of `POST /api/crash`.

use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray};

/// How a replica crashes on request.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, EnumString, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case", try_from = "String")]
#[strum(serialize_all = "snake_case", parse_err_ty = String, parse_err_fn = no_mode)]
pub enum CrashMode {
    /// The process aborts without clean-up.
    #[default]
    Exit,
    /// The process stays alive and answers nothing.
    Hang,
    /// The replica is not ready and accepts no new session until it is restarted.
    Unready,
}

/// Serde would also read a mode from an object, such as `{"exit":null}`.
impl TryFrom<String> for CrashMode {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

fn no_mode(_: &str) -> String {
    "give exit, hang or unready".to_owned()
}

/// A request for a crash.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashRequest {
    /// Id of the replica. Without an id, the server picks the replica with the longest uptime among those that are
    /// ready and not behind, have renewed their lease within the last 2.5 s, accept crash requests, and have not
    /// received one yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica: Option<String>,
    /// How the replica crashes; by default, [`CrashMode::Exit`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<CrashMode>,
}

/// The answer to a request for a crash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashAnswer {
    /// Id of the replica that crashes.
    pub replica: String,
    /// How the replica crashes.
    pub mode: CrashMode,
}
