//! The events that a client reports to its caller.

use tokio::time::Instant;

use crate::model::{Epoch, Offset, Smile, SmileId};
use crate::protocol::ErrorCode;

/// An event of a client.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session began.
    Welcomed {
        /// The id of the replica that holds the session.
        replica: String,
        /// The identity of the log.
        epoch: Epoch,
        /// The offset after which the session starts.
        offset: Offset,
        /// Whether the server sends everything after `resumed_from`. If the client asked to resume and this is `false`,
        /// smiles may be missing.
        recovered: bool,
        /// The offset after which the client asked to resume; `None` if it did not ask.
        resumed_from: Option<Offset>,
    },
    /// The server sent its first frame after the welcome, so the session works.
    Answering,
    /// The client is about to write this smile, for the first time or again.
    Sending(SmileId),
    /// The server acknowledged a smile of this client, so the smile is durable.
    Acked {
        /// The id of the smile.
        id: SmileId,
        /// The offset of the smile.
        offset: Offset,
        /// Whether the server says that it had stored the smile before.
        duplicate: bool,
    },
    /// A smile to or from this user. After a reconnection, this event may report a smile that this client sent: the
    /// smile is durable, but its ack may never come.
    Received(Smile),
    /// The server refused a frame. The client automatically sends a temporarily refused smile again, unless the caller
    /// gives the smile up.
    Refused {
        /// The id that the server echoed; `None` if it echoed no id.
        id: Option<String>,
        /// The error code.
        code: ErrorCode,
    },
    /// The session is over; the client reconnects automatically, unless [`Event::Ended`] follows.
    Lost {
        /// The close code of the server; `None` if its close frame has no code, the connection broke, or the client
        /// dropped it.
        code: Option<u16>,
        /// When the connection stopped working.
        since: Instant,
    },
    /// An attempt to open a session failed; the client tries again automatically, unless [`Event::Ended`] follows.
    NotConnected {
        /// The error code of the refusal, or a short name of the failure.
        cause: String,
        /// A human-readable description.
        message: String,
    },
    /// The server violated the protocol. A close with 1002, 1003, 1007 or 1009 counts as a violation, and so does a
    /// refusal of the upgrade with the status 400, 403 or 404; [`Event::Ended`] follows in both cases.
    Breach(String),
    /// The client does not reconnect: the server refused it permanently, or closed its session with a code that blames
    /// the client. No event follows.
    Ended,
}
