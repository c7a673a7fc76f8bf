//! The events that the ledger records.

use std::time::Duration;

use super::StreamNumber;
use crate::model::{Epoch, Offset, Smile, SmileId};
use crate::protocol::ErrorCode;
use crate::simulate::plan::Beat;

/// One event of the run, with its stream and its time.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The stream of the event; 0 for crash requests, which belong to no stream.
    pub stream: StreamNumber,
    /// The time of the event, counted from the start of the run. [`Event::Offered`] and [`Event::Skipped`] have the
    /// planned time of the beat, [`Event::ConnectionLost`] the time at which the connection stopped working, and crash
    /// requests the time at which they were sent.
    pub at: Duration,
    /// What happened.
    pub event: Event,
}

/// What happened in a stream or to a crash request.
#[derive(Clone, Debug)]
pub enum Event {
    /// A session began.
    Welcomed(Welcomed),
    /// The first frame after the welcome of a session arrived.
    Answering,
    /// The connection of a session ended.
    ConnectionLost,
    /// An attempt to open a session failed.
    NotConnected {
        /// The error code of the refusal, or a short name of the failure.
        cause: String,
    },
    /// A user passed a smile to its client. The times to the ack and to the delivery count from the time of this event.
    Offered(Beat),
    /// A user had too many unanswered smiles to send another.
    Skipped,
    /// A smile is about to be written to the connection, for the first time or again.
    Written(Beat),
    /// An ack arrived.
    Acked {
        /// The id that the server echoed.
        id: SmileId,
        /// The offset of the smile.
        offset: Offset,
        /// Whether the server says that it had stored the smile before.
        duplicate: bool,
    },
    /// A smile arrived.
    Received(Smile),
    /// An error frame arrived: the server refused a frame.
    Refused {
        /// The id in the error frame; `None` if it has none.
        id: Option<String>,
        /// The error code.
        code: ErrorCode,
    },
    /// The server violated the protocol, or permanently refused a session.
    BreachOfContract(String),
    /// A crash request was accepted.
    Crashed {
        /// The id of the replica that crashes.
        replica: String,
    },
    /// A crash request failed.
    NotCrashed {
        /// The error message.
        cause: String,
    },
    /// The user of this stream has no more smiles to send.
    NoMoreBeats,
    /// From now on, the user of this stream does not send a refused smile again.
    GivingUp,
    /// The user of this stream has closed its session and stopped. This is the last event of a seat.
    Stopped,
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
    /// Whether the server says that the resumed session misses no smile.
    pub recovered: bool,
    /// The offset after which the client asked to resume, if it did.
    pub resumed_from: Option<Offset>,
}
