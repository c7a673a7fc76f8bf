//! Parsing faces never panics on any text, and parsed faces parse again unchanged.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smilingchat::model::{Faces, MAX_FACES};

fuzz_target!(|text: &str| {
    if let Ok(faces) = Faces::parse(text) {
        assert!(!faces.as_str().is_empty(), "the parser accepted a text without faces");
        assert!(faces.as_str().chars().count() <= MAX_FACES * 8, "a face has more than eight characters on average");
        assert_eq!(Faces::parse(faces.as_str()), Ok(faces));
    }
});
