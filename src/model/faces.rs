//! The content of a smile: one to eight faces, which are emoji of the Unicode group *Smileys & Emotion*. A sender may
//! type some of them as ASCII emoticons.

use derive_more::Deref;
use serde::{Deserialize, Serialize};
use smol_str::{SmolStr, SmolStrBuilder};
use unicode_segmentation::UnicodeSegmentation;

/// The maximum number of faces in a smile.
pub const MAX_FACES: usize = 8;

// Why a text is not a smile. The message goes to the sender.
const EMPTY: &str = "a smile has at least one face: try 😀 or :-)";
const TOO_MANY: &str = "a smile has at most 8 faces";
const NOT_A_FACE: &str =
    "only faces are allowed: emoji of the group Smileys & Emotion, or emoticons such as :-) with spaces around them";

/// Emoji, each with the ASCII emoticons that it replaces.
const EMOTICONS: &[(&str, &[&str])] = &[
    ("🙂", &[":)", ":-)"]),
    ("😃", &[":D", ":-D"]),
    ("😆", &["xD", "XD"]),
    ("😉", &[";)", ";-)"]),
    ("🙁", &[":(", ":-("]),
    ("😢", &[":'("]),
    ("😛", &[":P", ":-P", ":p"]),
    ("😮", &[":O", ":-O"]),
    ("😐", &[":|", ":-|"]),
    ("😘", &[":*", ":-*"]),
    ("😎", &["B)"]),
    ("❤\u{fe0f}", &["<3"]),
];

/// Variation selector 16 requests emoji presentation. Many keyboards also add it where it is superfluous.
const EMOJI_SELECTOR: char = '\u{fe0f}';

/// The faces of one smile, fully qualified, without spaces. Deserialization does not check them: it reads faces that
/// the server parsed. Cheap to clone.
#[derive(Clone, Debug, Deref, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faces(SmolStr);

impl Faces {
    /// Parses one to eight faces.
    ///
    /// White space may separate faces and must separate emoticons. The result is fully qualified: missing variation
    /// selectors are added and superfluous ones dropped (Unicode Technical Standard 51, section 2.7).
    ///
    /// # Errors
    /// A message for the sender if `text` has no face, more than [`MAX_FACES`], or a part that is neither a face nor an
    /// emoticon.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let mut faces = SmolStrBuilder::new();
        let mut count = 0;
        for word in text.split_whitespace() {
            if let Some((face, _)) = EMOTICONS.iter().find(|(_, emoticons)| emoticons.contains(&word)) {
                faces.push_str(face);
                count += 1;
            } else {
                for grapheme in word.graphemes(true) {
                    faces.push_str(face(grapheme).ok_or(NOT_A_FACE)?);
                    count += 1;
                }
            }
            if count > MAX_FACES {
                return Err(TOO_MANY);
            }
        }
        if count == 0 {
            return Err(EMPTY);
        }
        Ok(Self(faces.finish()))
    }

    /// Wraps faces from the store, which were parsed before they were stored.
    pub fn from_stored(faces: &str) -> Self {
        Self(faces.into())
    }
}

/// The fully qualified form of a grapheme; `None` if the grapheme is not a face.
fn face(grapheme: &str) -> Option<&'static str> {
    let emoji = emojis::get(grapheme).or_else(|| emojis::get(&grapheme.replace(EMOJI_SELECTOR, "")))?;
    (emoji.group() == emojis::Group::SmileysAndEmotion).then(|| emoji.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, &'static str> {
        Faces::parse(text).map(|faces| faces.as_str().to_owned())
    }

    #[test]
    fn every_emoticon_becomes_its_face() {
        for &(face, emoticons) in EMOTICONS {
            for emoticon in emoticons {
                assert_eq!(parsed(emoticon).as_deref(), Ok(face));
            }
            assert_eq!(parsed(face).as_deref(), Ok(face), "the face in the table was not fully qualified");
        }
        assert_eq!(parsed(":) :-( <3").as_deref(), Ok("🙂🙁❤\u{fe0f}"));
    }

    #[test]
    fn faces_may_be_separated_and_emoticons_must_be() {
        assert_eq!(parsed(" 😀  😁 ").as_deref(), Ok("😀😁"));
        assert_eq!(parsed("😀 :)").as_deref(), Ok("😀🙂"));
        for space in [" ", "\t", "\n", "\u{a0}", "\u{2009}", "\u{3000}"] {
            assert_eq!(parsed(&format!(":){space}😀{space}")).as_deref(), Ok("🙂😀"), "{space:?} was not a separator");
        }
        for glued in [":):)", "😀:)", ":)😀", ":)!"] {
            assert_eq!(parsed(glued), Err(NOT_A_FACE), "accepted {glued}");
        }
    }

    #[test]
    fn every_emoji_of_the_group_is_a_face() {
        let mut seen = 0;
        for emoji in emojis::Group::SmileysAndEmotion.emojis() {
            assert_eq!(parsed(emoji.as_str()).as_deref(), Ok(emoji.as_str()));
            seen += 1;
        }
        assert!(seen > 160, "the group had only {seen} emoji");
    }

    #[test]
    fn missing_variation_selectors_are_added() {
        assert_eq!(parsed("☺").as_deref(), Ok("☺\u{fe0f}"));
        assert_eq!(parsed("❤").as_deref(), Ok("❤\u{fe0f}"));
        assert_eq!(parsed("❤\u{200d}🔥").as_deref(), Ok("❤\u{fe0f}\u{200d}🔥"));
        assert_eq!(parsed("😶\u{200d}🌫").as_deref(), Ok("😶\u{200d}🌫\u{fe0f}"));
        assert_eq!(parsed("👁\u{200d}🗨").as_deref(), Ok("👁\u{fe0f}\u{200d}🗨\u{fe0f}"));
    }

    #[test]
    fn superfluous_variation_selectors_are_dropped() {
        for emoji in emojis::Group::SmileysAndEmotion.emojis() {
            let nowhere = emoji.as_str().replace(EMOJI_SELECTOR, "");
            let joined: Vec<_> = nowhere.split('\u{200d}').map(|part| format!("{part}{EMOJI_SELECTOR}")).collect();
            let everywhere = joined.join("\u{200d}");
            for text in [everywhere, nowhere, format!("{emoji}{EMOJI_SELECTOR}")] {
                assert_eq!(parsed(&text).as_deref(), Ok(emoji.as_str()), "{text:?} was not normalized");
            }
        }
    }

    #[test]
    fn joined_faces_count_once() {
        let joined = "😮\u{200d}💨";
        assert_eq!(parsed(&joined.repeat(8)).as_deref(), Ok(joined.repeat(8).as_str()));
        assert_eq!(parsed(&joined.repeat(9)), Err(TOO_MANY));
    }

    #[test]
    fn other_text_is_not_a_smile() {
        for text in ["", " ", "\u{3000}\t"] {
            assert_eq!(parsed(text), Err(EMPTY), "{text:?} did not count as empty");
        }
        let foreign = [
            "hello",
            "😀a",
            "<b>",
            "&lt;3",
            "👍",
            "🐶",
            "🇮🇹",
            "1",
            "\u{0}",
            "\u{200b}",
            "\u{202e}😀",
            "😀\u{301}",
            "☹\u{fe0e}",
            "😀\u{200d}",
            "\u{fe0f}",
            ":-",
            "🏻",
            "😀\u{1f3fb}",
            ":d",
            ":-p",
        ];
        for text in foreign {
            assert_eq!(parsed(text), Err(NOT_A_FACE), "accepted {text:?}");
        }
        assert_eq!(parsed(&"😀".repeat(9)), Err(TOO_MANY));
    }

    proptest! {
        #[test]
        fn parsing_faces_again_changes_nothing(text in "[ \t\u{3000}:;()DxXPpO|*B<3'😀❤☺\u{fe0f}\u{200d}🔥-]{0,24}") {
            if let Ok(faces) = Faces::parse(&text) {
                prop_assert_eq!(Faces::parse(faces.as_str()), Ok(faces));
            }
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            let _ = Faces::parse(&text);
        }
    }
}
