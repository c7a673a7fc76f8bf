//! The wire protocol: frames, error codes and close codes.
//!
//! Both ends use it: the server decodes [`ClientFrame`] and encodes [`ServerFrame`]; `client` does the reverse.

mod client_frame;
mod crash;
mod server_frame;

pub use client_frame::{BadFrame, ClientFrame, DEFAULT_HISTORY_LIMIT, MAX_HISTORY_LIMIT};
pub use crash::{CrashAnswer, CrashMode, CrashRequest};
pub use server_frame::{Rates, ServerFrame};

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The protocol version in `welcome`.
pub const PROTOCOL_VERSION: u32 = 1;

/// The size of the largest text message that a client may send, in bytes.
pub const MAX_FRAME_BYTES: usize = 4096;

/// Serializes a value as JSON.
///
/// # Panics
/// Never for the types of this crate: their map keys are strings.
pub fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("types of this crate should serialize to JSON")
}

/// Explains in one line why a text is not JSON of the expected type.
pub type BadJson = serde_json::Error;

/// Parses JSON.
///
/// # Errors
/// [`BadJson`] when the text is not JSON of this type.
pub fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, BadJson> {
    serde_json::from_slice(text)
}

/// Why a frame or a request was refused. The code on the wire is the variant in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, strum::IntoStaticStr, strum::VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    /// This replica is at its capacity, full or behind, or its store is too slow.
    Overloaded,
    /// This session or client address exceeds its rate.
    RateLimited,
    /// The store does not answer, its index is too far behind the log, this replica's lease has expired, or this
    /// replica is still starting.
    StoreUnavailable,
    /// The frame or the request is malformed, a value is out of range, or the frame names its own sender as the peer.
    BadRequest,
    /// The text is not one to eight faces.
    NotASmile,
    /// No such user.
    UnknownUser,
    /// HTTP only: the `Origin` is neither the server's own nor on the allow-list.
    ForbiddenOrigin,
    /// HTTP only: this replica is draining or unready.
    Draining,
    /// HTTP only: crash requests are disabled on the replica that answers, or on the named one.
    CrashOff,
    /// HTTP only: the crash token is missing or wrong.
    Unauthorized,
    /// HTTP only: the content type is not `application/json`.
    UnsupportedMediaType,
    /// HTTP only: no replica matches the crash request, or none that matches can crash now.
    UnknownReplica,
    /// HTTP only: no such path.
    NotFound,
    /// HTTP only: the path does not support the method.
    MethodNotAllowed,
    /// HTTP only: a GET request to `/ws` is not a WebSocket handshake.
    UpgradeRequired,
}

impl ErrorCode {
    /// Whether the same frame or request may succeed later.
    pub fn temporary(self) -> bool {
        matches!(self, Self::Overloaded | Self::RateLimited | Self::StoreUnavailable | Self::Draining)
    }
}

/// The refusal of a frame or of a request. For a request, it is also the JSON body of the response; with the code
/// `upgrade_required`, the body also has the field `host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The kind of refusal.
    pub code: ErrorCode,
    /// For people: what happened and what to do.
    pub message: String,
    /// How long to wait before a retry, in milliseconds; `None` if the refusal is permanent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal that a retry cannot avoid.
    pub fn permanent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None }
    }

    /// A refusal that a retry after `retry_after` may avoid. The hint is rounded up to whole milliseconds, and is at
    /// least 1 ms.
    pub fn temporary(code: ErrorCode, message: impl Into<String>, retry_after: Duration) -> Self {
        let milliseconds = u64::try_from(retry_after.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1);
        Self { code, message: message.into(), retry_after_ms: Some(milliseconds) }
    }

    /// The store or its index cannot be used now. The hint is only 1 s, since the store may answer again at any moment.
    pub fn store_unavailable() -> Self {
        let message = "the store does not answer; send the same frame or request again";
        Self::temporary(ErrorCode::StoreUnavailable, message, Duration::from_secs(1))
    }

    /// The request or the frame names a user that does not exist.
    pub fn unknown_user() -> Self {
        Self::permanent(ErrorCode::UnknownUser, "no such user: GET /api/users lists all users")
    }
}

/// Why the server closes a session. Clients act on the close code. The text of a reason has at most 123 bytes (RFC
/// 6455, section 5.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::VariantArray, strum::IntoStaticStr)]
#[repr(u16)]
pub enum CloseReason {
    /// A violation of RFC 6455, such as reserved bits or opcodes, unmasked frames, or broken fragments.
    #[strum(to_string = "the WebSocket protocol was violated")]
    ProtocolError = 1002,
    /// A binary frame.
    #[strum(to_string = "only text frames are supported")]
    NotText = 1003,
    /// A text frame that is not UTF-8.
    #[strum(to_string = "text frames must be UTF-8")]
    NotUtf8 = 1007,
    /// More than 100 `bad_request` answers in a session, or more than 1,000 `rate_limited` answers within 10 s.
    #[strum(to_string = "too many refused frames; back off before you reconnect")]
    Policy = 1008,
    /// A message, in one frame or several, larger than [`MAX_FRAME_BYTES`].
    #[strum(to_string = "a frame has at most 4096 bytes")]
    TooLarge = 1009,
    /// The server failed. This version closes no session with this code.
    #[strum(to_string = "internal error; reconnect with back-off")]
    Internal = 1011,
    /// This replica is draining.
    #[strum(to_string = "this replica is draining; reconnect and resume")]
    Restart = 1012,
    /// This replica cannot read the smiles that the session missed.
    #[strum(to_string = "the log cannot be read now; reconnect with back-off")]
    TryAgainLater = 1013,
    /// The client reads too slowly, or is so far behind that retention has removed smiles that it has not received yet.
    #[strum(to_string = "this client reads too slowly; reconnect and resume")]
    Slow = 4000,
    /// No pong arrived in time.
    #[strum(to_string = "no pong in time; reconnect and resume")]
    NoPong = 4001,
    /// Another replica has more room.
    #[strum(to_string = "another replica has more room; reconnect and resume")]
    Rebalance = 4002,
}

impl CloseReason {
    /// The close code. Codes below 4000 are registered with IANA; codes from 4000 on are private (RFC 6455, section
    /// 7.4.2).
    pub fn code(self) -> u16 {
        self as u16
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn error_codes_have_the_same_name_in_metrics_and_in_json() {
        for code in ErrorCode::VARIANTS {
            assert_eq!(to_json(code), format!("\"{}\"", <&str>::from(code)));
        }
    }

    #[test]
    fn close_reasons_fit_a_control_frame() {
        for reason in CloseReason::VARIANTS {
            assert!(<&str>::from(reason).len() <= 123, "the text of {reason:?} was too long");
        }
    }

    #[test]
    fn hints_are_rounded_up() {
        let hint = |wait| Refusal::temporary(ErrorCode::Overloaded, "", wait).retry_after_ms;
        assert_eq!(hint(Duration::ZERO), Some(1));
        assert_eq!(hint(Duration::from_micros(1001)), Some(2));
        assert_eq!(hint(Duration::from_millis(40)), Some(40));
    }
}
