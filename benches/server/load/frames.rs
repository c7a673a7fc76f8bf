//! WebSocket frames made and read by hand, since a library's copies would make the load the bottleneck.

use std::ops::Range;

/// A whole text frame, as its first byte says.
pub(super) const TEXT: u8 = 0x81;
/// A whole ping.
pub(super) const PING: u8 = 0x89;
/// A whole pong.
pub(super) const PONG: u8 = 0x8a;
/// A whole close frame.
pub(super) const CLOSE: u8 = 0x88;

/// A frame in a buffer.
pub(super) struct Frame {
    /// Its first byte: one of the above.
    pub(super) first: u8,
    /// Where its payload is.
    pub(super) payload: Range<usize>,
}

/// Appends a client's frame. Its mask is zero, which leaves the payload as it is; the server applies it all the same.
pub(super) fn write(buffer: &mut Vec<u8>, first: u8, payload: &[u8]) {
    const MASKED: u8 = 0x80;
    /// In place of a length: two bytes with it follow.
    const MEDIUM: u8 = 0x7e;
    buffer.push(first);
    if payload.len() < MEDIUM.into() {
        buffer.push(MASKED | payload.len() as u8);
    } else {
        buffer.push(MASKED | MEDIUM);
        buffer.extend_from_slice(&u16::try_from(payload.len()).expect("a small frame").to_be_bytes());
    }
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(payload);
}

/// The server's frame that starts at that place, if it is all there.
pub(super) fn read(buffer: &[u8], start: usize) -> Option<Frame> {
    let header = buffer.get(start..start + 2)?;
    let (length, begin) = match header[1] {
        126 => (u16::from_be_bytes(buffer.get(start + 2..start + 4)?.try_into().ok()?).into(), start + 4),
        127 => (u64::from_be_bytes(buffer.get(start + 2..start + 10)?.try_into().ok()?) as usize, start + 10),
        length => (usize::from(length), start + 2),
    };
    let payload = begin..begin + length;
    (payload.end <= buffer.len()).then_some(Frame { first: header[0], payload })
}
