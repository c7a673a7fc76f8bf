//! Decoding never panics on any text, and a decoded frame decodes to itself after encoding.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smilingchat::protocol::ClientFrame;

fuzz_target!(|text: &str| {
    match ClientFrame::decode(text) {
        Ok(frame) => assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame)),
        Err(bad) => assert!(!bad.message.is_empty(), "the refusal has no message"),
    }
});
