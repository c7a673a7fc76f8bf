//! The wire: what a client may say, what the server answers, and why a session ends.
//!
//! Owns the JSON of every frame and of every HTTP error, the error codes and the close codes; it is the only home of
//! `serde_json`. Must not know sockets, sessions, limits or the store. Both ends use it: the server decodes
//! [`ClientFrame`] and encodes [`ServerFrame`], the simulator the other way round.

mod client;
mod server;

pub use client::{BadFrame, ClientFrame, DEFAULT_HISTORY_LIMIT, MAX_HISTORY_LIMIT};
pub use server::{ErrorBody, Rates, ServerFrame};

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The version of the contract, as `welcome` tells it.
pub const PROTOCOL_VERSION: u32 = 1;

/// The largest frame a client may send, in bytes.
pub const MAX_FRAME_BYTES: usize = 4096;

/// Any value as JSON text, for the few answers that are not frames.
///
/// # Panics
/// Never for the types of this crate: none has a map with keys that are not text.
pub fn to_json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a type of this crate is JSON")
}

/// Reads JSON of a known shape.
///
/// # Errors
/// Says in one line where the text departs from that shape.
pub fn from_json<'a, T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

/// Why a frame or a request was refused. The name on the wire is the variant in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, strum::IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ErrorCode {
    /// This replica is at its capacity, or its store is too slow.
    Overloaded,
    /// This session, or this client address, sends too fast.
    RateLimited,
    /// The store does not answer.
    StoreUnavailable,
    /// Not understood, or out of range.
    BadRequest,
    /// Something else than one to eight faces.
    NotASmile,
    /// No such user.
    UnknownUser,
    /// HTTP only: the `Origin` is foreign.
    ForbiddenOrigin,
    /// HTTP only: this replica is leaving.
    Draining,
    /// HTTP only: the crash button is switched off.
    CrashOff,
    /// HTTP only: the crash token is missing or wrong.
    Unauthorized,
    /// HTTP only: the body is not `application/json`.
    UnsupportedMediaType,
    /// HTTP only: no such replica, or it is lost.
    UnknownReplica,
    /// HTTP only: no such page.
    NotFound,
    /// HTTP only: the path is known, the method is not.
    MethodNotAllowed,
    /// HTTP only: `/ws` was asked for without a WebSocket handshake.
    UpgradeRequired,
}

impl ErrorCode {
    /// Every code a frame may carry, for the metrics to start at zero.
    pub const OF_FRAMES: [Self; 6] = [
        Self::Overloaded,
        Self::RateLimited,
        Self::StoreUnavailable,
        Self::BadRequest,
        Self::NotASmile,
        Self::UnknownUser,
    ];

    /// Whether sending the same again later may succeed.
    #[must_use]
    pub fn temporary(self) -> bool {
        matches!(self, Self::Overloaded | Self::RateLimited | Self::StoreUnavailable | Self::Draining)
    }
}

/// A code, a sentence for people, and when to try again: one refusal, of a frame or of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// What happened, to what, and what to do.
    pub message: String,
    /// For temporary refusals: a client that waits this long succeeds unless others took the place.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// A refusal that stays one however often the same is sent.
    pub fn permanent(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    /// A refusal that passes.
    pub fn temporary(code: ErrorCode, message: impl Into<String>, retry_after: Duration) -> Self {
        Self { code, message: message.into(), retry_after: Some(retry_after) }
    }

    /// The store did not take it, or did not answer. It is asked anew with every frame and request, so soon again.
    #[must_use]
    pub fn store_unavailable() -> Self {
        let message = "the store does not answer; send the same again";
        Self::temporary(ErrorCode::StoreUnavailable, message, Duration::from_secs(1))
    }

    /// Nobody has that name.
    #[must_use]
    pub fn unknown_user() -> Self {
        Self::permanent(ErrorCode::UnknownUser, "no such user: GET /api/users lists them all")
    }

    /// The hint in whole milliseconds, rounded up so that it is never too short, and at least 1.
    #[must_use]
    pub fn retry_after_ms(&self) -> Option<u64> {
        self.retry_after.map(|wait| u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).max(1))
    }
}

/// Why the server closes a session. The number is what the client decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::VariantArray, strum::IntoStaticStr)]
#[repr(u16)]
pub enum CloseReason {
    /// RFC 6455 violated: reserved bits or opcodes, unmasked frames, broken fragments.
    #[strum(to_string = "the WebSocket protocol was violated")]
    ProtocolError = 1002,
    /// A binary frame.
    #[strum(to_string = "only text frames are understood")]
    NotText = 1003,
    /// A text frame that is not UTF-8.
    #[strum(to_string = "text frames are UTF-8")]
    NotUtf8 = 1007,
    /// Too many bad or rate-limited frames.
    #[strum(to_string = "too many refused frames; back off before you return")]
    Policy = 1008,
    /// A frame past [`MAX_FRAME_BYTES`].
    #[strum(to_string = "a frame has at most 4096 bytes")]
    TooLarge = 1009,
    /// The server failed.
    #[strum(to_string = "internal error; reconnect with back-off")]
    Internal = 1011,
    /// This replica is leaving.
    #[strum(to_string = "this replica is leaving; reconnect and resume")]
    Restart = 1012,
    /// The log cannot be read for this session now.
    #[strum(to_string = "the log cannot be read now; reconnect with back-off")]
    TryAgainLater = 1013,
    /// The client does not read, and stayed that way.
    #[strum(to_string = "this client does not read; reconnect and resume")]
    Slow = 4000,
    /// No pong in time.
    #[strum(to_string = "no pong in time; reconnect and resume")]
    NoPong = 4001,
    /// Another replica has more room.
    #[strum(to_string = "another replica has more room; reconnect and resume")]
    Rebalance = 4002,
}

impl CloseReason {
    /// The close code (RFC 6455, section 7.4, and 4000 upwards our own).
    #[must_use]
    pub fn code(self) -> u16 {
        self as u16
    }

    /// The reason text beside the code; at most 123 bytes (RFC 6455, section 5.5).
    #[must_use]
    pub fn text(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    #[test]
    fn names_on_the_wire_agree_with_serde() {
        for code in ErrorCode::OF_FRAMES {
            assert_eq!(to_json(&code), format!("\"{}\"", <&str>::from(code)));
        }
    }

    #[test]
    fn close_reasons_fit_a_control_frame() {
        for reason in CloseReason::VARIANTS {
            assert!(reason.text().len() <= 123, "{reason:?}");
        }
    }

    #[test]
    fn hints_are_rounded_up() {
        let hint = |wait| Refusal::temporary(ErrorCode::Overloaded, "", wait).retry_after_ms();
        assert_eq!(hint(Duration::ZERO), Some(1));
        assert_eq!(hint(Duration::from_micros(1001)), Some(2));
        assert_eq!(hint(Duration::from_millis(40)), Some(40));
    }
}
