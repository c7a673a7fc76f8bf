//! Whatever text is said to be a smile: reading it never panics, and what was read is a smile as it stands.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smilingchat::model::{Faces, MAX_FACES};

fuzz_target!(|text: &str| {
    if let Ok(faces) = Faces::parse(text) {
        assert!(!faces.as_str().is_empty());
        assert!(faces.as_str().chars().count() <= MAX_FACES * 8, "eight faces are short");
        assert_eq!(Faces::parse(faces.as_str()), Ok(faces));
    }
});
