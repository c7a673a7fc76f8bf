//! The protocols of the measured servers.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::field;

#[derive(Clone, Copy, Deserialize, PartialEq, Serialize)]
pub(crate) enum Dialect {
    /// TheSmilingChat.
    Smiles,
    /// An echo of TheSmilingChat's frames.
    Echo,
    /// Socket.IO 4 over a WebSocket. A frame begins with `42` and a number if it is an event that requests an ack, with
    /// `42` alone if it is any other event, and with `43` if it is an ack.
    SocketIo,
    /// One HTTP request per smile, and polls.
    Polling,
}

#[derive(Clone, Copy)]
pub(super) enum Meaning {
    /// A smile is durable, or was echoed.
    Ack,
    /// A smile from another session arrived.
    Delivery,
    /// A smile was refused. The session sends no smile until this time has passed.
    Refusal(Duration),
    /// The frame must be answered with this text.
    Probe(&'static [u8]),
    Other,
}

impl Dialect {
    pub(super) fn path(self, user: &str) -> String {
        match self {
            Self::SocketIo => format!("/socket.io/?EIO=4&transport=websocket&user={user}"),
            _ => format!("/ws?user={user}"),
        }
    }

    pub(super) fn write_smile(self, text: &mut String, id: (u32, u64), to: &str) {
        let (run, number) = id;
        let written = match self {
            Self::SocketIo => {
                write!(text, r#"42{number}["smile",{{"id":"{run:08x}-{number}","to":"{to}","smile":"😀"}}]"#)
            }
            _ => write!(text, r#"{{"type":"smile","id":"{run:08x}-{number}","to":"{to}","smile":"😀"}}"#),
        };
        written.expect("writing to a string should succeed");
    }

    pub(super) fn meaning(self, text: &[u8]) -> Meaning {
        match self {
            Self::Echo => Meaning::Ack,
            Self::Smiles if text.starts_with(br#"{"type":"ack""#) => Meaning::Ack,
            Self::Smiles if text.starts_with(br#"{"type":"smile""#) => Meaning::Delivery,
            Self::Smiles if text.starts_with(br#"{"type":"error""#) => Meaning::Refusal(retry_after(text)),
            Self::SocketIo if text.starts_with(b"43") => Meaning::Ack,
            Self::SocketIo if text.starts_with(b"42") => Meaning::Delivery,
            Self::SocketIo if text == b"2" => Meaning::Probe(b"3"),
            _ => Meaning::Other,
        }
    }
}

/// The retry hint of a temporary error; 10 ms if it has none. Panics if the error is permanent.
fn retry_after(text: &[u8]) -> Duration {
    let text = String::from_utf8_lossy(text);
    assert!(text.contains(r#""temporary":true"#), "the server refused a smile permanently: {text}");
    Duration::from_millis(field(&text, "retry_after_ms").and_then(|millis| millis.parse().ok()).unwrap_or(10))
}
