//! The types that the other modules share: users, smiles, offsets, epochs and timestamps. Ids are validated when they
//! are parsed or deserialized, faces only when they are parsed.

mod faces;

use std::borrow::Borrow;
use std::sync::Arc;

use derive_more::Display;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, format_smolstr};

pub use faces::{Faces, MAX_FACES, NotASmile};

/// Offsets stay below 2^53, so that JSON implementations that store numbers as doubles hold them exactly (RFC 8259,
/// section 6).
pub const OFFSET_LIMIT: u64 = 1 << 53;

/// The maximum length of a smile id in characters.
pub const MAX_SMILE_ID: usize = 64;

/// The name of a user. Cheap to clone.
///
/// A `UserName` from the store is an existing user; a `UserName` from a frame may not be.
#[derive(Clone, Debug, Display, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UserName(SmolStr);

impl UserName {
    /// Wraps a name without checking that the user exists.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Lets a map keyed by user names be queried by `&str`.
impl Borrow<str> for UserName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A user of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The unique name, used in frames and queries.
    pub name: UserName,
    /// One emoji, which the page shows.
    pub face: String,
}

/// The id that the sender gives a smile: 1 to 64 characters of `A-Z a-z 0-9 . _ -`, unique per sender. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "SmolStr")]
pub struct SmileId(SmolStr);

impl TryFrom<SmolStr> for SmileId {
    type Error = &'static str;

    fn try_from(text: SmolStr) -> Result<Self, Self::Error> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let valid = (1..=MAX_SMILE_ID).contains(&text.len()) && text.bytes().all(allowed);
        valid.then_some(Self(text)).ok_or("id has 1 to 64 characters from A-Z a-z 0-9 . _ -")
    }
}

impl SmileId {
    /// Parses an id; `None` if `text` is not one.
    pub fn parse(text: &str) -> Option<Self> {
        Self::try_from(SmolStr::from(text)).ok()
    }

    /// Generates an id of 128 random bits, for a smile without one.
    pub fn random() -> Self {
        Self(format_smolstr!("s-{:032x}", rand::random::<u128>()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The place of a smile in the log. The first smile has offset 1; 0 is before it.
#[derive(Clone, Copy, Debug, Default, Display, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Offset(pub u64);

impl Offset {
    /// The next offset.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// The identity of a log. An offset is valid only within its epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch(Arc<str>);

impl Epoch {
    /// Wraps the epoch of a store or a client.
    pub fn new(epoch: &str) -> Self {
        Self(epoch.into())
    }

    /// The epoch as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A wall-clock time in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// The current time of this machine's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }
}

impl Serialize for Timestamp {
    /// Formats as RFC 3339 in UTC with milliseconds, as in `2026-11-23T05:00:00.123Z`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let moment = jiff::Timestamp::from_millisecond(self.0).unwrap_or(jiff::Timestamp::MAX);
        serializer.collect_str(&format_args!("{moment:.3}"))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let moment: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
        Ok(Self(moment.as_millisecond()))
    }
}

/// A smile that a session submits to the log. It has no offset and no time yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSmile {
    /// The sender's id; `(from, id)` identifies the smile.
    pub id: SmileId,
    /// The sender.
    pub from: UserName,
    /// The receiver, never the sender.
    pub to: UserName,
    /// One to eight faces.
    pub faces: Faces,
}

/// A smile in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Smile {
    /// The place in the log.
    pub offset: Offset,
    /// The sender's id.
    pub id: SmileId,
    /// The sender.
    pub from: UserName,
    /// The receiver.
    pub to: UserName,
    /// One to eight faces.
    #[serde(rename = "smile")]
    pub faces: Faces,
    /// When the replica began to append the batch of this smile, by the clock of the replica.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smile_ids_have_at_most_64_characters_of_a_small_alphabet() {
        for id in ["a", "c1", "A.b_c-9", &"x".repeat(64)] {
            assert_eq!(SmileId::parse(id).as_ref().map(SmileId::as_str), Some(id));
        }
        for id in ["", "a b", "è", "a/b", "😀", "a\n", &"x".repeat(65)] {
            assert_eq!(SmileId::parse(id), None, "accepted {id:?}");
        }
        assert!(SmileId::parse(SmileId::random().as_str()).is_some());
    }

    #[test]
    fn timestamps_are_rfc_3339_with_three_digits() {
        let text = |milliseconds| serde_json::to_string(&Timestamp(milliseconds)).unwrap();
        assert_eq!(text(1_795_410_000_120), "\"2026-11-23T05:00:00.120Z\"");
        assert_eq!(text(0), "\"1970-01-01T00:00:00.000Z\"");
        let back: Timestamp = serde_json::from_str("\"2026-11-23T05:00:00.120Z\"").unwrap();
        assert_eq!(back, Timestamp(1_795_410_000_120));
    }
}
