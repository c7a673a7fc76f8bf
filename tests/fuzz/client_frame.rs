//! Decoding never panics, whatever the text. Encoding a decoded frame and decoding it again yields the same frame.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smilingchat::protocol::ClientFrame;

fuzz_target!(|text: &str| {
    match ClientFrame::decode(text) {
        Ok(frame) => assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame)),
        Err(bad) => assert!(!bad.message.is_empty(), "the refusal has no message"),
    }
});
