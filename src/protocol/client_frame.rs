//! Frames from the client: JSON, and short forms to type by hand.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::model::{MAX_SMILE_ID, OFFSET_LIMIT, Offset, SmileId, UserName};

/// The default `limit` of a history.
pub const DEFAULT_HISTORY_LIMIT: u32 = 50;

/// The largest `limit` of a history.
pub const MAX_HISTORY_LIMIT: u32 = 200;

/// A decoded frame of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientFrame {
    /// Send a smile.
    Smile {
        /// The sender's id. The server generates one if it is missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<SmileId>,
        /// The receiver.
        to: UserName,
        /// The faces, not parsed yet.
        smile: SmolStr,
    },
    /// Older smiles of one conversation.
    History {
        /// The other user of the conversation.
        with: UserName,
        /// Only smiles below this offset.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Offset>,
        /// The maximum number of smiles, 1 to [`MAX_HISTORY_LIMIT`].
        limit: u32,
    },
    /// For clients that cannot send WebSocket pings.
    Ping,
    /// Asks for a list of frames to try.
    Help,
}

/// A malformed frame. The message goes back as `bad_request`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// What is wrong and what to send instead.
    pub message: String,
    /// The `id` of the frame, if it had one to repeat.
    pub id: Option<String>,
}

impl BadFrame {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), id: None }
    }
}

/// The type of a frame, parsed first.
#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    r#type: Option<Cow<'a, str>>,
}

/// The fast path: a smile without escapes, parsed once and without copies.
#[derive(Deserialize)]
struct PlainSmile<'a> {
    r#type: &'a str,
    id: Option<&'a str>,
    to: &'a str,
    smile: &'a str,
}

#[derive(Deserialize)]
struct SmileFields {
    id: Option<String>,
    to: Option<String>,
    smile: Option<String>,
}

#[derive(Deserialize)]
struct HistoryFields {
    with: Option<String>,
    before: Option<u64>,
    limit: Option<u32>,
}

/// The id of a frame whose other fields are malformed.
#[derive(Deserialize)]
struct OnlyId {
    id: Option<serde_json::Value>,
}

impl ClientFrame {
    /// Decodes a text frame: JSON if it starts with `{`, otherwise a short form.
    ///
    /// # Errors
    /// [`BadFrame`] for anything that the protocol does not define.
    pub fn decode(text: &str) -> Result<Self, BadFrame> {
        let text = text.trim();
        if text.starts_with('{') { Self::decode_json(text) } else { Self::decode_typed(text) }
    }

    /// Encodes the frame as JSON.
    pub fn encode(&self) -> String {
        super::to_json(self)
    }

    fn decode_json(text: &str) -> Result<Self, BadFrame> {
        if let Ok(PlainSmile { r#type: "smile", id, to, smile }) = serde_json::from_str(text) {
            return Self::smile(id, Some(to), Some(smile));
        }
        let kind: Kind<'_> = read(text)?;
        match kind.r#type.as_deref() {
            Some("smile") => {
                let SmileFields { id, to, smile } = read(text)?;
                Self::smile(id.as_deref(), to.as_deref(), smile.as_deref())
            }
            Some("history") => Self::history(&read(text)?),
            Some("ping") => Ok(Self::Ping),
            Some("help") => Ok(Self::Help),
            Some(_) | None => Err(BadFrame {
                message: "a frame needs \"type\": smile, history, ping or help".to_owned(),
                id: id_to_repeat(text),
            }),
        }
    }

    fn smile(id: Option<&str>, to: Option<&str>, smile: Option<&str>) -> Result<Self, BadFrame> {
        let bad = |message: &str| BadFrame { message: message.to_owned(), id: id.and_then(repeatable) };
        let to = to.ok_or_else(|| bad("a smile needs \"to\", the name of a user"))?;
        let smile = smile.ok_or_else(|| bad("a smile needs \"smile\", one to eight faces"))?;
        let parsed = id.map(|id| SmileId::parse(id).ok_or_else(|| bad("id is 1 to 64 of A-Z a-z 0-9 . _ -")));
        Ok(Self::Smile { id: parsed.transpose()?, to: UserName::new(to), smile: smile.into() })
    }

    fn history(fields: &HistoryFields) -> Result<Self, BadFrame> {
        let with = fields.with.as_deref();
        let with = with.ok_or_else(|| BadFrame::new("history needs \"with\", the name of a user"))?;
        let limit = fields.limit.unwrap_or(DEFAULT_HISTORY_LIMIT);
        if !(1..=MAX_HISTORY_LIMIT).contains(&limit) {
            return Err(BadFrame::new(format!("limit is 1 to {MAX_HISTORY_LIMIT}")));
        }
        if fields.before.is_some_and(|before| before >= OFFSET_LIMIT) {
            return Err(BadFrame::new("before is an offset, below 2^53"));
        }
        Ok(Self::History { with: UserName::new(with), before: fields.before.map(Offset), limit })
    }

    fn decode_typed(text: &str) -> Result<Self, BadFrame> {
        if matches!(text, "help" | "?") {
            return Ok(Self::Help);
        }
        let smile = text.strip_prefix('@').and_then(|rest| rest.split_once(char::is_whitespace));
        match smile {
            Some((to, smile)) if !to.is_empty() => {
                Ok(Self::Smile { id: None, to: UserName::new(to), smile: smile.trim().into() })
            }
            _ => Err(BadFrame::new("not understood: type @bruno 😀 to send a smile, or help")),
        }
    }
}

/// Parses the fields of a frame that `T` has.
fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, BadFrame> {
    serde_json::from_str(text)
        .map_err(|error| BadFrame { message: format!("this JSON is not a frame: {error}"), id: id_to_repeat(text) })
}

/// Extracts the id of a malformed frame.
fn id_to_repeat(text: &str) -> Option<String> {
    serde_json::from_str::<OnlyId>(text).ok().and_then(|frame| repeatable(frame.id?.as_str()?))
}

/// An id to repeat in an error: valid or not, but short.
fn repeatable(id: &str) -> Option<String> {
    (id.chars().count() <= MAX_SMILE_ID).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn smile(id: Option<&str>, to: &str, smile: &str) -> ClientFrame {
        ClientFrame::Smile { id: id.and_then(SmileId::parse), to: UserName::new(to), smile: smile.into() }
    }

    #[test]
    fn json_frames_are_read() {
        let decode = |text| ClientFrame::decode(text).unwrap();
        assert_eq!(
            decode(r#" {"type":"smile","id":"c1","to":"bruno","smile":"😀"} "#),
            smile(Some("c1"), "bruno", "😀")
        );
        assert_eq!(decode(r#"{"smile":":)","to":"bruno","type":"smile","later":[{}]}"#), smile(None, "bruno", ":)"));
        assert_eq!(
            decode(r#"{"type":"history","with":"bruno","before":120}"#),
            ClientFrame::History { with: UserName::new("bruno"), before: Some(Offset(120)), limit: 50 }
        );
        assert_eq!(decode(r#"{"type":"ping"}"#), ClientFrame::Ping);
        assert_eq!(decode(r#"{"type":"p\u0069ng","id":5,"limit":-1}"#), ClientFrame::Ping, "fields of other frames");
        assert_eq!(decode(r#"{"type":"help"}"#), ClientFrame::Help);
    }

    #[test]
    fn typed_frames_are_read() {
        let decode = |text| ClientFrame::decode(text).unwrap();
        assert_eq!(decode("@bruno 😀"), smile(None, "bruno", "😀"));
        assert_eq!(decode("  @bruno   :-) 😀 \n"), smile(None, "bruno", ":-) 😀"));
        assert_eq!(decode("help"), ClientFrame::Help);
        assert_eq!(decode(" ? "), ClientFrame::Help);
    }

    #[test]
    fn anything_else_is_refused_with_a_hint() {
        for typed in ["", "hello", "@", "@bruno", "@ 😀", "[1]", "null", "helpme", "😀"] {
            assert!(ClientFrame::decode(typed).unwrap_err().message.contains("help"), "{typed}");
        }
        for json in [
            "{",
            "{}",
            "{\"type\":1}",
            "{\"type\":\"bogus\"}",
            r#"{"type":"smile"}"#,
            r#"{"type":"smile","to":"bruno"}"#,
            r#"{"type":"smile","to":["bruno"],"smile":"😀"}"#,
            r#"{"type":"smile","id":"","to":"bruno","smile":"😀"}"#,
            r#"{"type":"smile","id":7,"to":"bruno","smile":"😀"}"#,
            r#"{"type":"ping"} {"type":"ping"}"#,
            r#"{"type":"history"}"#,
            r#"{"type":"history","with":"bruno","limit":0}"#,
            r#"{"type":"history","with":"bruno","limit":201}"#,
            r#"{"type":"history","with":"bruno","limit":-1}"#,
            r#"{"type":"history","with":"bruno","limit":1.5}"#,
            r#"{"type":"history","with":"bruno","before":-1}"#,
            r#"{"type":"history","with":"bruno","before":9007199254740992}"#,
            r#"{"type":"history","with":"bruno","before":99999999999999999999999}"#,
        ] {
            assert!(ClientFrame::decode(json).is_err(), "{json}");
        }
        let deep = format!("{{\"type\":{}", "[".repeat(4000));
        assert!(ClientFrame::decode(&deep).is_err());
    }

    #[test]
    fn a_refused_smile_keeps_its_id() {
        let id = |text| ClientFrame::decode(text).unwrap_err().id;
        assert_eq!(id(r#"{"type":"smile","id":"c1","to":5}"#).as_deref(), Some("c1"));
        assert_eq!(id(r#"{"type":"smile","id":"c1","smile":"😀"}"#).as_deref(), Some("c1"));
        assert_eq!(id(r#"{"type":"smile","id":"c 1","to":"bruno","smile":"😀"}"#).as_deref(), Some("c 1"));
        assert_eq!(id(&format!(r#"{{"type":"smile","id":"{}"}}"#, "x".repeat(65))), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = ClientFrame::decode(&text);
        }

        #[test]
        fn no_json_panics(text in r#"\{("(type|id|to|smile|with|before|limit)":("(smile|history|ping|c1)"|-?[0-9]{1,20}|null|\[\]|\{\}),?){0,5}\}?"#) {
            let _ = ClientFrame::decode(&text);
        }

        #[test]
        fn client_frames_survive_a_round_trip(id in "[A-Za-z0-9._-]{1,64}", to in "[a-z]{1,12}", smile in "\\PC*") {
            let frame = ClientFrame::Smile { id: SmileId::parse(&id), to: UserName::new(&to), smile: smile.into() };
            prop_assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
        }
    }
}
