//! Frames from the server.

use std::cell::RefCell;
use std::thread::LocalKey;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use super::{BadJson, Refusal};
use crate::model::{Epoch, Offset, Smile, SmileId, UserName};

/// Size of a buffer that the frames of one thread share: a separate allocation for each frame would cost more than
/// encoding the frame.
const BUFFER_BYTES: usize = 16 * 1024;

thread_local! {
    /// Only for smiles in memory. These frames stay there for a while, and each keeps the whole buffer allocated.
    static SMILES: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BUFFER_BYTES));
    /// For all other frames. They are dropped once they are written, and the buffer is used again.
    static OTHERS: RefCell<BytesMut> = RefCell::new(BytesMut::with_capacity(BUFFER_BYTES));
}

/// A frame of the server. For encoding, `S` may be a borrowed smile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<S = Smile> {
    /// The first frame of a session.
    Welcome {
        /// The protocol version.
        v: u32,
        /// The user of this session.
        user: UserName,
        /// The id of the session, for logs.
        session: String,
        /// The id of the replica.
        replica: String,
        /// The identity of the log.
        epoch: Epoch,
        /// The offset after which this session starts.
        offset: Offset,
        /// Whether the session resumes: if so, the user's whole stream after the client's offset follows.
        recovered: bool,
        /// The interval between two pings of the server, in milliseconds.
        ping_interval_ms: u64,
        /// The rate limit for the smiles of this session. Its requests for histories have a separate limit with the
        /// same values.
        limits: Rates,
    },
    /// The smile is durable.
    Ack {
        /// The id of the smile.
        id: SmileId,
        /// The place in the log.
        offset: Offset,
        /// Whether this id was stored before.
        duplicate: bool,
    },
    /// A smile to, or from, this user.
    Smile(S),
    /// Smiles of one conversation.
    History {
        /// The other user of the conversation.
        with: UserName,
        /// Oldest first.
        smiles: Vec<Smile>,
        /// Whether older smiles exist.
        more: bool,
    },
    /// Refuses one frame. The session continues, unless the server has refused too many frames (close code 1008).
    Error {
        /// Why, and when to send the same frame again.
        #[serde(flatten)]
        refusal: Refusal,
        /// The `id` of the refused smile frame, if it was a string of at most 64 characters.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Whether the same frame may succeed later.
        temporary: bool,
    },
    /// The server is about to close this session with 1012 or 4002.
    Drain {
        /// How long to wait before reconnecting, in milliseconds.
        reconnect_after_ms: u64,
    },
    /// Answers `ping`.
    Pong,
    /// Answers `help`.
    Help {
        /// An introduction for people.
        message: String,
        /// Examples of frames.
        examples: Vec<String>,
    },
}

/// The rate limit for the smiles of a session. If either field is 0, there is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Sustained smiles per second.
    pub session_per_second: u32,
    /// The number of smiles that the session may send in one burst after a pause.
    pub session_burst: u32,
}

impl ServerFrame {
    /// Encodes the frame as JSON.
    pub fn encode(&self) -> Bytes {
        encode(&OTHERS, self)
    }

    /// Encodes a smile in memory as JSON without cloning it.
    pub fn encode_smile(smile: &Smile) -> Bytes {
        encode(&SMILES, &ServerFrame::Smile(smile))
    }

    /// Decodes a frame, for clients.
    ///
    /// # Errors
    /// [`BadJson`] when the text is not a frame of this protocol.
    pub fn decode(text: impl AsRef<[u8]>) -> Result<Self, BadJson> {
        super::from_json(text.as_ref())
    }

    /// Creates the answer to a refused frame.
    pub fn refusal(refusal: Refusal, id: Option<String>) -> Self {
        let temporary = refusal.code.temporary();
        Self::Error { refusal, id, temporary }
    }

    /// Creates the answer to `help`.
    pub fn help(user: &UserName) -> Self {
        let peer = if user.as_str() == "bruno" { "anna" } else { "bruno" };
        Self::Help {
            message: format!("you are {user}; type @{peer} and one to eight faces, or one of these"),
            examples: vec![
                format!("@{peer} 😀"),
                format!("@{peer} :-) <3"),
                format!(r#"{{"type":"smile","id":"c1","to":"{peer}","smile":"😀"}}"#),
                format!(r#"{{"type":"history","with":"{peer}","limit":10}}"#),
                r#"{"type":"ping"}"#.to_owned(),
                "help".to_owned(),
            ],
        }
    }
}

fn encode(buffer: &'static LocalKey<RefCell<BytesMut>>, frame: &impl Serialize) -> Bytes {
    buffer.with_borrow_mut(|buffer| {
        serde_json::to_writer(buffer.writer(), frame).expect("types of this crate should serialize to JSON");
        buffer.split().freeze()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::{Faces, Timestamp};
    use crate::protocol::{ErrorCode, PROTOCOL_VERSION};

    fn a_smile() -> Smile {
        Smile {
            offset: Offset(119),
            id: SmileId::parse("c1").unwrap(),
            from: UserName::new("bruno"),
            to: UserName::new("anna"),
            faces: Faces::parse("😁").unwrap(),
            at: Timestamp(1_795_410_000_123),
        }
    }

    #[test]
    fn frames_match_the_protocol() {
        let ack = ServerFrame::Ack { id: SmileId::parse("c1").unwrap(), offset: Offset(118), duplicate: false };
        assert_eq!(ack.encode(), r#"{"type":"ack","id":"c1","offset":118,"duplicate":false}"#);
        assert_eq!(
            ServerFrame::encode_smile(&a_smile()),
            r#"{"type":"smile","offset":119,"id":"c1","from":"bruno","to":"anna","smile":"😁","at":"2026-11-23T05:00:00.123Z"}"#
        );
        let refusal = Refusal::temporary(ErrorCode::Overloaded, "full", Duration::from_millis(40));
        assert_eq!(
            ServerFrame::refusal(refusal, Some("c1".to_owned())).encode(),
            r#"{"type":"error","code":"overloaded","message":"full","retry_after_ms":40,"id":"c1","temporary":true}"#
        );
        assert_eq!(ServerFrame::Pong.encode(), r#"{"type":"pong"}"#);
        assert_eq!(
            ServerFrame::Drain { reconnect_after_ms: 730 }.encode(),
            r#"{"type":"drain","reconnect_after_ms":730}"#
        );
    }

    #[test]
    fn server_frames_survive_a_round_trip() {
        let limits = Rates { session_per_second: 20, session_burst: 40 };
        let welcome = ServerFrame::Welcome {
            v: PROTOCOL_VERSION,
            user: UserName::new("anna"),
            session: "1".to_owned(),
            replica: "be1.17".to_owned(),
            epoch: Epoch::new("e"),
            offset: Offset(117),
            recovered: false,
            ping_interval_ms: 25_000,
            limits,
        };
        let history = ServerFrame::History { with: UserName::new("anna"), smiles: vec![a_smile()], more: true };
        for frame in [welcome, history, ServerFrame::Smile(a_smile()), ServerFrame::help(&UserName::new("anna"))] {
            assert_eq!(ServerFrame::decode(frame.encode()).unwrap(), frame);
        }
    }
}
