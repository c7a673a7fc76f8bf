//! A client that writes raw bytes (RFC 6455, section 5), for frames that a WebSocket library does not send.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::client::connection_with_small_buffer;
use super::within;

/// The FIN bit.
pub(crate) const FINAL: u8 = 0x80;

/// The opcodes of RFC 6455.
pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

/// An arbitrary masking key.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub(crate) struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    pub(crate) async fn connect(address: SocketAddr, user: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server should accept connections");
        Self::over(stream, address, user).await
    }

    pub(crate) async fn with_small_buffer(address: SocketAddr, user: &str) -> Self {
        Self::over(connection_with_small_buffer(address).await, address, user).await
    }

    async fn over(stream: TcpStream, address: SocketAddr, user: &str) -> Self {
        let mut client = Self { stream };
        let request = format!(
            "GET /ws?user={user} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        client.write(request.as_bytes()).await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("the response head arrives", client.stream.read_u8()).await.expect("a whole head"));
        }
        let head = String::from_utf8(head).expect("the head should be UTF-8");
        assert!(head.starts_with("HTTP/1.1 101 "), "the upgrade failed: {head}");
        // The `Sec-WebSocket-Accept` for the example key of RFC 6455, section 1.3.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "`Sec-WebSocket-Accept` was wrong: {head}");
        let (opcode, welcome) = client.frame().await.expect("the server should send a frame");
        assert_eq!(opcode, TEXT);
        assert!(welcome.starts_with(br#"{"type":"welcome""#));
        client
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        within("bytes are written", self.stream.write_all(bytes)).await.expect("the connection should be open");
    }

    /// The server may close the connection before it has read all bytes.
    pub(crate) async fn write_until_refused(&mut self, bytes: &[u8]) {
        let _ = within("bytes are written or refused", self.stream.write_all(bytes)).await;
    }

    /// The opcode and the payload of the next frame; `None` if the connection has ended or broken. Does not check the
    /// FIN bit.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.stream.read_u8().await?;
            assert_eq!(first & 0x70, 0, "the server set a reserved bit");
            let second = self.stream.read_u8().await?;
            assert_eq!(second & 0x80, 0, "the server masked a frame");
            let length = match second {
                126 => u64::from(self.stream.read_u16().await?),
                127 => self.stream.read_u64().await?,
                length => u64::from(length),
            };
            let mut payload = vec![0; usize::try_from(length).expect("the payload should fit into memory")];
            self.stream.read_exact(&mut payload).await?;
            Ok::<_, std::io::Error>((first & 0x0f, payload))
        };
        within("a frame arrives", read).await.ok()
    }

    pub(crate) async fn json(&mut self) -> Value {
        let (opcode, payload) = self.frame().await.expect("the connection should be open");
        assert_eq!(opcode, TEXT);
        serde_json::from_slice(&payload).expect("every answer should be JSON")
    }

    /// Skips frames up to the server's close frame, checks that this frame has a reason, and returns its code.
    pub(crate) async fn expect_close(&mut self) -> u16 {
        loop {
            let (opcode, payload) = self.frame().await.expect("the server should send a close frame");
            if opcode == CLOSE {
                let code = payload.first_chunk().expect("a close code");
                let reason = std::str::from_utf8(&payload[2..]).expect("the reason should be text");
                assert!(!reason.is_empty(), "the close frame had no reason");
                return u16::from_be_bytes(*code);
            }
        }
    }
}

/// A masked frame, as clients send it. `first` is its first byte: the FIN bit, the reserved bits and the opcode.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let masked = payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let mut frame = header(first, 0x80, payload.len());
    frame.extend(MASK);
    frame.extend(masked);
    frame
}

/// An unmasked frame, which clients must not send. `first` is as in [`frame`].
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0, payload.len());
    frame.extend(payload);
    frame
}

fn header(first: u8, mask_bit: u8, length: usize) -> Vec<u8> {
    let mut header = vec![first];
    if let Ok(length @ ..=125) = u8::try_from(length) {
        header.push(mask_bit | length);
    } else if let Ok(length) = u16::try_from(length) {
        header.push(mask_bit | 0x7e);
        header.extend(length.to_be_bytes());
    } else {
        header.push(mask_bit | 0x7f);
        header.extend((length as u64).to_be_bytes());
    }
    header
}
