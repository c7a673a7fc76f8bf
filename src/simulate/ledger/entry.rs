//! The events that the ledger records.

use std::time::Duration;

use super::StreamNumber;
use crate::model::{Epoch, Offset, Smile, SmileId};
use crate::protocol::ErrorCode;
use crate::simulate::plan::Beat;

/// One event, in the stream it happened to.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which stream.
    pub stream: StreamNumber,
    /// When, from an arbitrary moment before the run.
    pub at: Duration,
    /// What.
    pub event: Event,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session began.
    Welcomed(Welcomed),
    /// A session answered something after its welcome.
    Answering,
    /// The connection of a session ended.
    ConnectionLost,
    /// No session began, for this cause.
    NotConnected {
        /// The error code of the refusal, or a word for what went wrong.
        cause: String,
    },
    /// A user smiled: from here on the time to its ack and to its delivery runs.
    Offered(Beat),
    /// A user had too many unanswered smiles to send another.
    Skipped,
    /// A smile is about to be written into the session, for the first time or again.
    Written(Beat),
    /// An ack came.
    Acked {
        /// As the server repeats it.
        id: SmileId,
        /// Where the smile stands.
        offset: Offset,
        /// Whether it had been stored before.
        duplicate: bool,
    },
    /// A smile came.
    Received(Smile),
    /// An error came.
    Refused {
        /// As the server repeats it.
        id: Option<String>,
        /// Why.
        code: ErrorCode,
    },
    /// The server violated the protocol.
    BreachOfContract(String),
    /// A replica confirmed a crash request.
    Crashed {
        /// Its id.
        replica: String,
    },
    /// A crash request failed, for this cause.
    NotCrashed {
        /// In words.
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
    /// Where the session starts.
    pub offset: Offset,
    /// Whether the server says that nothing is missing.
    pub recovered: bool,
    /// Where the client asked to resume.
    pub resumed_from: Option<Offset>,
}
