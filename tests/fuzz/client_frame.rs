//! Decoding never panics, whatever the text, and each refusal has a message. A decoded frame stays the same when it is
//! encoded and decoded again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use smilingchat::protocol::ClientFrame;

fuzz_target!(|text: &str| {
    match ClientFrame::decode(text) {
        Ok(frame) => assert_eq!(ClientFrame::decode(&frame.encode()), Ok(frame)),
        Err(bad) => assert!(!bad.message.is_empty(), "the refusal had no message"),
    }
});
