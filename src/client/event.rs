//! The events of a client, which its caller evaluates.

use tokio::time::Instant;

use crate::model::{Epoch, Offset, Smile, SmileId};
use crate::protocol::ErrorCode;

/// An event of a client.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session began.
    Welcomed {
        /// Id of the replica that holds it.
        replica: String,
        /// Identity of the log.
        epoch: Epoch,
        /// Where the session starts.
        offset: Offset,
        /// Whether the server sends everything after `resumed_from`; if not, smiles between it and `offset` are
        /// missing.
        recovered: bool,
        /// Where the client asked to resume; `None` for its first session.
        resumed_from: Option<Offset>,
    },
    /// The server sent a frame after its welcome, so the session works.
    Answering,
    /// The client is about to write this smile, for the first time or again.
    Sending(SmileId),
    /// A smile of this client is durable.
    Acked {
        /// Its id.
        id: SmileId,
        /// Its offset.
        offset: Offset,
        /// Whether the server had stored this id before.
        duplicate: bool,
    },
    /// A smile to or from this user.
    Received(Smile),
    /// The server refused a frame. The client sends a temporarily refused smile again by itself.
    Refused {
        /// The id of the smile, as the server repeats it.
        id: Option<String>,
        /// The reason.
        code: ErrorCode,
    },
    /// The session is over; the client reconnects by itself.
    Lost {
        /// The code the server closed with; `None` when the connection broke or the client gave it up.
        code: Option<u16>,
        /// When the connection stopped working.
        since: Instant,
    },
    /// No session began; the client tries again by itself.
    NotConnected {
        /// The error code of the refusal, or a word for what went wrong.
        cause: String,
        /// Human-readable.
        message: String,
    },
    /// The server violated the protocol.
    Breach(String),
    /// The server refused this client permanently, so the client does not reconnect. No event follows.
    Ended,
}
