//! What the server says, in a session and as the body of an HTTP refusal.
//!
//! Owns the shape of every answer. Must not know when one is sent.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ErrorCode, PROTOCOL_VERSION, Refusal};
use crate::model::{Epoch, Offset, Smile, SmileId, UserName};

/// A frame as the server means it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame {
    /// The first frame of a session.
    Welcome {
        /// Version of the contract.
        v: u32,
        /// Whose session this is.
        user: UserName,
        /// Names the session in logs.
        session: String,
        /// Id of the replica that holds it.
        replica: String,
        /// Identity of the log.
        epoch: Epoch,
        /// Where this session starts.
        offset: Offset,
        /// Whether everything after the offset the client resumed from follows.
        recovered: bool,
        /// How often the server pings, in milliseconds.
        ping_interval_ms: u64,
        /// What this session may send.
        limits: Rates,
    },
    /// The smile is durable.
    Ack {
        /// The sender's name for it.
        id: SmileId,
        /// Where it stands in the log.
        offset: Offset,
        /// Whether this id had been stored before.
        duplicate: bool,
    },
    /// A smile to, or from, this user.
    Smile(Smile),
    /// Older smiles of one conversation.
    History {
        /// The other user of the conversation.
        with: UserName,
        /// Oldest first.
        smiles: Vec<Smile>,
        /// Whether there are older ones.
        more: bool,
    },
    /// Answers one frame; the session goes on.
    Error {
        /// What kind of refusal.
        code: ErrorCode,
        /// For people.
        message: String,
        /// The id of the smile it answers, where there was one.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// When the same may be sent again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
        /// Whether the same may be sent again at all.
        temporary: bool,
    },
    /// This replica is leaving; a close with 1012 follows.
    Drain {
        /// When to come back, in milliseconds.
        reconnect_after_ms: u64,
    },
    /// Answers `ping`.
    Pong,
    /// Answers `help`.
    Help {
        /// For people.
        message: String,
        /// What may be sent, one example each.
        examples: Vec<String>,
    },
}

/// [`ServerFrame::Smile`] of a smile that is kept elsewhere.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum SmileFrame<'smile> {
    Smile(&'smile Smile),
}

/// What one session may send; 0 is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// Smiles per second, in the long run.
    pub session_per_second: u32,
    /// Smiles at once, after a rest.
    pub session_burst: u32,
}

impl ServerFrame {
    /// The frame as JSON.
    #[must_use]
    pub fn encode(&self) -> String {
        super::to_json(self)
    }

    /// The frame of a smile as JSON, without a copy of the smile.
    #[must_use]
    pub fn encode_smile(smile: &Smile) -> String {
        super::to_json(&SmileFrame::Smile(smile))
    }

    /// Reads a frame, for clients.
    ///
    /// # Errors
    /// Says in one line where the text departs from the contract.
    pub fn decode(text: &str) -> Result<Self, String> {
        super::from_json(text.as_bytes())
    }

    /// The first frame of a session, in this version of the contract.
    #[must_use]
    pub fn welcome(
        user: UserName,
        session: String,
        replica: String,
        (epoch, offset, recovered): (Epoch, Offset, bool),
        ping_interval: Duration,
        limits: Rates,
    ) -> Self {
        Self::Welcome {
            v: PROTOCOL_VERSION,
            user,
            session,
            replica,
            epoch,
            offset,
            recovered,
            ping_interval_ms: u64::try_from(ping_interval.as_millis()).unwrap_or(u64::MAX),
            limits,
        }
    }

    /// The answer to a frame that was refused.
    #[must_use]
    pub fn refusal(refusal: &Refusal, id: Option<String>) -> Self {
        Self::Error {
            code: refusal.code,
            message: refusal.message.clone(),
            id,
            retry_after_ms: refusal.retry_after_ms(),
            temporary: refusal.code.temporary(),
        }
    }

    /// The answer to `help`, for `user`.
    #[must_use]
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

/// The body of an HTTP refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What kind of refusal.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
    /// When to try again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl From<&Refusal> for ErrorBody {
    fn from(refusal: &Refusal) -> Self {
        Self { code: refusal.code, message: refusal.message.clone(), retry_after_ms: refusal.retry_after_ms() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Faces, Timestamp};

    fn a_smile() -> Smile {
        Smile {
            offset: Offset(119),
            id: SmileId::parse("c1").unwrap(),
            from: UserName::new("bruno"),
            to: UserName::new("anna"),
            faces: Faces::parse("😁").unwrap(),
            at: Timestamp::from_milliseconds(1_795_410_000_123),
        }
    }

    #[test]
    fn frames_look_as_in_the_contract() {
        let ack = ServerFrame::Ack { id: SmileId::parse("c1").unwrap(), offset: Offset(118), duplicate: false };
        assert_eq!(ack.encode(), r#"{"type":"ack","id":"c1","offset":118,"duplicate":false}"#);
        assert_eq!(
            ServerFrame::encode_smile(&a_smile()),
            r#"{"type":"smile","offset":119,"id":"c1","from":"bruno","to":"anna","smile":"😁","at":"2026-11-23T05:00:00.123Z"}"#
        );
        let refusal = Refusal::temporary(ErrorCode::Overloaded, "full", Duration::from_millis(40));
        assert_eq!(
            ServerFrame::refusal(&refusal, Some("c1".to_owned())).encode(),
            r#"{"type":"error","code":"overloaded","message":"full","id":"c1","retry_after_ms":40,"temporary":true}"#
        );
        assert_eq!(ServerFrame::Pong.encode(), r#"{"type":"pong"}"#);
        assert_eq!(
            ServerFrame::Drain { reconnect_after_ms: 730 }.encode(),
            r#"{"type":"drain","reconnect_after_ms":730}"#
        );
    }

    #[test]
    fn what_the_server_encodes_a_client_decodes() {
        let limits = Rates { session_per_second: 20, session_burst: 40 };
        let position = (Epoch::new("e"), Offset(117), false);
        let welcome = ServerFrame::welcome(
            UserName::new("anna"),
            "1".to_owned(),
            "be1.17".to_owned(),
            position,
            Duration::from_secs(25),
            limits,
        );
        let history = ServerFrame::History { with: UserName::new("anna"), smiles: vec![a_smile()], more: true };
        for frame in [welcome, history, ServerFrame::Smile(a_smile()), ServerFrame::help(&UserName::new("anna"))] {
            assert_eq!(ServerFrame::decode(&frame.encode()), Ok(frame));
        }
    }
}
