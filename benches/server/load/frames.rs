//! A minimal WebSocket codec. A library would copy each frame, and the load would become the bottleneck.

use std::ops::Range;

// The first bytes of unfragmented frames (RFC 6455, section 5.2).
pub(super) const TEXT: u8 = 0x81;
pub(super) const PING: u8 = 0x89;
pub(super) const PONG: u8 = 0x8a;
pub(super) const CLOSE: u8 = 0x88;

pub(super) struct Frame {
    /// The byte with FIN and the opcode. Once a session is open, the load ignores all frames except those that begin with
    /// [`TEXT`], [`PING`] or [`CLOSE`].
    pub(super) first: u8,
    pub(super) payload: Range<usize>,
}

/// The masking key is zero, so the payload is unchanged, but the server still unmasks it.
pub(super) fn write(buffer: &mut Vec<u8>, first: u8, payload: &[u8]) {
    const MASKED: u8 = 0x80;
    /// Announces a 16-bit length.
    const MEDIUM: u8 = 0x7e;
    buffer.push(first);
    if payload.len() < MEDIUM.into() {
        buffer.push(MASKED | payload.len() as u8);
    } else {
        buffer.push(MASKED | MEDIUM);
        buffer.extend_from_slice(&u16::try_from(payload.len()).expect("the payload was too long").to_be_bytes());
    }
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(payload);
}

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
