//! The events that the ledger records.

use std::time::Duration;

use super::StreamNumber;
use crate::model::{Epoch, Offset, Smile, SmileId};
use crate::protocol::ErrorCode;
use crate::simulate::plan::Beat;

/// One event in a stream.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stream.
    pub stream: StreamNumber,
    /// The time of the event, counted from a fixed moment before the run.
    pub at: Duration,
    /// The event.
    pub event: Event,
}

/// An event of the run.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session began.
    Welcomed(Welcomed),
    /// The first frame after the welcome of a session arrived.
    Answering,
    /// The connection of a session ended.
    ConnectionLost,
    /// No session began.
    NotConnected {
        /// The error code of the refusal, or a short name of the failure.
        cause: String,
    },
    /// A user sent a smile. The times to its ack and to its delivery count from this event.
    Offered(Beat),
    /// A user had too many unanswered smiles to send another.
    Skipped,
    /// A smile is about to be written to the connection, for the first time or again.
    Written(Beat),
    /// An ack arrived.
    Acked {
        /// The id, as the server repeats it.
        id: SmileId,
        /// The offset of the smile.
        offset: Offset,
        /// Whether the server had stored the id before.
        duplicate: bool,
    },
    /// A smile arrived.
    Received(Smile),
    /// An error arrived.
    Refused {
        /// The id, as the server repeats it.
        id: Option<String>,
        /// The reason.
        code: ErrorCode,
    },
    /// The server violated the protocol.
    BreachOfContract(String),
    /// A replica confirmed a crash request.
    Crashed {
        /// The id of the replica.
        replica: String,
    },
    /// A crash request failed.
    NotCrashed {
        /// The cause in words.
        cause: String,
    },
    /// The user of this seat stopped sending new smiles.
    NoMoreBeats,
}

/// How a session began.
#[derive(Clone, Debug)]
pub struct Welcomed {
    /// The id of the replica.
    pub replica: String,
    /// The identity of the log.
    pub epoch: Epoch,
    /// The offset at which the session starts.
    pub offset: Offset,
    /// Whether the server says that nothing is missing.
    pub recovered: bool,
    /// The offset after which the client asked to resume, if it did.
    pub resumed_from: Option<Offset>,
}
