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
    /// Sends a smile.
    Smile {
        /// The id that the client chose. The server generates one if it is missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<SmileId>,
        /// The receiver.
        to: UserName,
        /// The text of the faces, not parsed yet.
        smile: SmolStr,
    },
    /// Asks for smiles of one conversation.
    History {
        /// The other user of the conversation.
        with: UserName,
        /// Asks for the newest smiles below this offset; if `None`, for the newest of all.
        #[serde(skip_serializing_if = "Option::is_none")]
        before: Option<Offset>,
        /// The maximum number of smiles, 1 to [`MAX_HISTORY_LIMIT`]; [`DEFAULT_HISTORY_LIMIT`] if missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        limit: Option<u32>,
    },
    /// Asks for a pong, for clients that cannot send WebSocket pings.
    Ping,
    /// Asks for a list of frames to try.
    Help,
}

/// A malformed frame. The answer is a `bad_request` with this message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFrame {
    /// What is wrong and what to send instead.
    pub message: String,
    /// The `id` that the answer repeats; `None` if the answer has no `id`. Only the `id` of a smile frame is repeated,
    /// and only if it has at most 64 characters.
    pub id: Option<String>,
}

impl BadFrame {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), id: None }
    }
}

/// The type of a frame that is not a well-formed smile. The other fields are read once the type is known, since a frame
/// may have unknown fields of any form.
#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

#[derive(Deserialize)]
struct SmileFields<'text> {
    #[serde(borrow)]
    r#type: Cow<'text, str>,
    id: Option<SmileId>,
    to: UserName,
    smile: SmolStr,
}

#[derive(Deserialize)]
struct HistoryFields {
    with: UserName,
    before: Option<Offset>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct OnlyId {
    id: String,
}

impl ClientFrame {
    /// Decodes a text frame: JSON if it starts with `{`, otherwise a short form.
    ///
    /// # Errors
    /// [`BadFrame`] if the text is not a frame that the protocol defines.
    pub fn decode(text: &str) -> Result<Self, BadFrame> {
        let text = text.trim();
        if text.starts_with('{') { Self::decode_json(text) } else { Self::decode_typed(text) }
    }

    /// Encodes the frame as JSON.
    pub fn encode(&self) -> String {
        super::to_json(self)
    }

    fn decode_json(text: &str) -> Result<Self, BadFrame> {
        // Parses a smile, the most frequent frame, in one pass.
        if let Ok(SmileFields { r#type, id, to, smile }) = serde_json::from_str(text)
            && r#type == "smile"
        {
            return Ok(Self::Smile { id, to, smile });
        }
        match read::<Kind>(text)?.r#type.as_str() {
            "smile" => {
                let fields = read(text).map_err(|bad| BadFrame { id: id_to_repeat(text), ..bad });
                let SmileFields { id, to, smile, .. } = fields?;
                Ok(Self::Smile { id, to, smile })
            }
            "history" => Self::history(read(text)?),
            "ping" => Ok(Self::Ping),
            "help" => Ok(Self::Help),
            _ => Err(BadFrame::new("a frame needs \"type\": smile, history, ping or help")),
        }
    }

    fn history(HistoryFields { with, before, limit }: HistoryFields) -> Result<Self, BadFrame> {
        if limit.is_some_and(|limit| !(1..=MAX_HISTORY_LIMIT).contains(&limit)) {
            return Err(BadFrame::new(format!("limit must be 1 to {MAX_HISTORY_LIMIT}")));
        }
        if before.is_some_and(|before| before.0 >= OFFSET_LIMIT) {
            return Err(BadFrame::new("before must be an offset below 2^53"));
        }
        Ok(Self::History { with, before, limit })
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

/// Parses the fields that `Fields` declares, and ignores every other field of the frame.
fn read<'text, Fields: Deserialize<'text>>(text: &'text str) -> Result<Fields, BadFrame> {
    serde_json::from_str(text)
        .map_err(|error| BadFrame::new(format!("this JSON is not a frame: {error}; send help for examples")))
}

/// The `id` of a malformed smile frame, if it is a string of at most [`MAX_SMILE_ID`] characters. The characters are
/// not checked.
fn id_to_repeat(text: &str) -> Option<String> {
    let OnlyId { id } = serde_json::from_str(text).ok()?;
    Some(id).filter(|id| id.chars().count() <= MAX_SMILE_ID)
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
            ClientFrame::History { with: UserName::new("bruno"), before: Some(Offset(120)), limit: None }
        );
        assert_eq!(
            decode(r#"{"type":"history","with":"bruno","before":null,"limit":null}"#),
            ClientFrame::History { with: UserName::new("bruno"), before: None, limit: None }
        );
        assert_eq!(decode(r#"{"type":"ping"}"#), ClientFrame::Ping);
        assert_eq!(
            decode(r#"{"type":"p\u0069ng","id":5,"limit":-1}"#),
            ClientFrame::Ping,
            "the fields of other frames were not ignored"
        );
        assert_eq!(decode(r#"{"type":"help"}"#), ClientFrame::Help);
        let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
        assert_eq!(decode(&format!(r#"{{"type":"ping","later":{deep}}}"#)), ClientFrame::Ping);
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
    fn other_text_is_refused_and_typed_text_gets_a_hint() {
        for typed in ["", "hello", "@", "@bruno", "@ 😀", "[1]", "null", "helpme", "😀"] {
            assert!(ClientFrame::decode(typed).unwrap_err().message.contains("help"), "no hint for {typed}");
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
            assert!(ClientFrame::decode(json).is_err(), "accepted {json}");
        }
        let deep = format!("{{\"type\":{}", "[".repeat(4000));
        assert!(ClientFrame::decode(&deep).is_err());
    }

    #[test]
    fn a_refused_smile_keeps_an_id_of_at_most_64_characters() {
        let id = |text| ClientFrame::decode(text).unwrap_err().id;
        assert_eq!(id(r#"{"type":"smile","id":"c1","to":5}"#).as_deref(), Some("c1"));
        assert_eq!(id(r#"{"type":"smile","id":"c1","smile":"😀"}"#).as_deref(), Some("c1"));
        assert_eq!(id(r#"{"type":"smile","id":"c 1","to":"bruno","smile":"😀"}"#).as_deref(), Some("c 1"));
        assert_eq!(id(&format!(r#"{{"type":"smile","id":"{}"}}"#, "x".repeat(65))), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_decoder_panic(text in any::<String>()) {
            let _ = ClientFrame::decode(&text);
        }

        #[test]
        fn no_json_makes_the_decoder_panic(text in r#"\{("(type|id|to|smile|with|before|limit)":("(smile|history|ping|c1)"|-?[0-9]{1,20}|null|\[\]|\{\}),?){0,5}\}?"#) {
            let _ = ClientFrame::decode(&text);
        }

        #[test]
        fn smile_frames_survive_a_round_trip(id in "[A-Za-z0-9._-]{1,64}", to in "[a-z]{1,12}", smile in "\\PC*") {
            let frame = ClientFrame::Smile { id: SmileId::parse(&id), to: UserName::new(&to), smile: smile.into() };
            prop_assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame));
        }
    }
}
