//! Parsing faces never panics, whatever the text. Parsing the text of parsed faces again changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smilingchat::model::{Faces, MAX_FACES};

fuzz_target!(|text: &str| {
    if let Ok(faces) = Faces::parse(text) {
        assert!(!faces.as_str().is_empty(), "the parser accepted a text without faces");
        let characters = faces.as_str().chars().count();
        assert!(characters <= MAX_FACES * 8, "the parsed faces had more than eight characters per allowed face");
        assert_eq!(Faces::parse(faces.as_str()), Ok(faces));
    }
});
