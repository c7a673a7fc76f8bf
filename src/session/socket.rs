//! The WebSocket of one session: frames in, frames out, and a close that arrives.
//!
//! Owns the buffers, the time a write may be stuck and the translation of every violation into its close code. Must not
//! know what the frames mean.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::protocol::{CloseReason, MAX_FRAME_BYTES};

/// A smile is about 70 bytes; a buffer this small is most of what an idle session costs, and holds several.
const READ_BUFFER_BYTES: usize = 1024;

/// Frames gather up to here before they are written without being flushed.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// More than one history of 200 smiles. A frame is only added once the buffer has room again.
const MAX_WRITE_BUFFER_BYTES: usize = 128 * 1024;

/// How long a close may take: the frame, and the client's end of it.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// What is read and thrown away of a client that goes on sending after it was told to stop.
const LINGER_BYTES: usize = 1024 * 1024;

/// What a client sent.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A text frame, whole.
    Text(Utf8Bytes),
    /// The answer to a ping.
    Pong,
    /// The client closes, with this code (1005 where it gave none). The answering close is queued.
    Close(u16),
    /// Something that needs no answer here.
    Nothing,
}

/// Why the socket cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketError {
    /// The connection is gone.
    Broken,
    /// The client broke a rule.
    Violation(CloseReason),
    /// A write was not finished in time.
    Stuck,
}

/// One WebSocket, the server's end.
#[derive(Debug)]
pub struct Socket {
    stream: WebSocketStream<TcpStream>,
    write_timeout: Duration,
}

impl Socket {
    /// Takes over a connection whose handshake was answered, and what was read of it after that.
    pub async fn new(connection: TcpStream, read: Vec<u8>, write_timeout: Duration) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let stream = WebSocketStream::from_partially_read(connection, read, Role::Server, Some(config)).await;
        Self { stream, write_timeout }
    }

    /// The next frame. Pings are answered by the way. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Incoming, SocketError> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(_))) => Err(SocketError::Violation(CloseReason::NotText)),
            Some(Ok(Message::Pong(_))) => Ok(Incoming::Pong),
            Some(Ok(Message::Ping(_) | Message::Frame(_))) => Ok(Incoming::Nothing),
            Some(Ok(Message::Close(frame))) => Ok(Incoming::Close(frame.map_or(1005, |frame| frame.code.into()))),
            Some(Err(error)) => Err(read_error(&error)),
            None => Err(SocketError::Broken),
        }
    }

    /// Adds a text frame to what will be written. Waits for as long as the client is behind.
    pub(super) async fn feed(&mut self, frame: impl Into<Bytes>) -> Result<(), SocketError> {
        self.stream.feed(text(frame)).await.map_err(|_| SocketError::Broken)
    }

    /// Writes everything. Waits for as long as the client is behind.
    pub(super) async fn flush(&mut self) -> Result<(), SocketError> {
        self.stream.flush().await.map_err(|_| SocketError::Broken)
    }

    /// Writes a text frame.
    pub(super) async fn send(&mut self, frame: impl Into<Bytes>) -> Result<(), SocketError> {
        self.write(text(frame)).await
    }

    /// Writes a ping.
    pub(super) async fn ping(&mut self) -> Result<(), SocketError> {
        self.write(Message::Ping(Bytes::new())).await
    }

    async fn write(&mut self, message: Message) -> Result<(), SocketError> {
        match tokio::time::timeout(self.write_timeout, self.stream.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SocketError::Broken),
            Err(_) => Err(SocketError::Stuck),
        }
    }

    /// Tells the client why, and waits until it has gone, within bounds. What it still sends is read and thrown away:
    /// a connection closed with unread bytes is reset, and the reset may overtake the close frame (RFC 9293, 3.10.4).
    pub(super) async fn close(&mut self, reason: CloseReason) {
        let frame = CloseFrame { code: reason.code().into(), reason: reason.text().into() };
        let close = async {
            if self.stream.send(Message::Close(Some(frame))).await.is_err() {
                return;
            }
            let connection = self.stream.get_mut();
            let _ = connection.shutdown().await;
            let mut thrown_away = 0;
            let mut buffer = [0; 512];
            while thrown_away < LINGER_BYTES {
                match connection.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(read) => thrown_away += read,
                }
            }
        };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, Box::pin(close)).await;
    }
}

/// A text frame of what is UTF-8 already.
fn text(frame: impl Into<Bytes>) -> Message {
    Message::Frame(Frame::message(frame.into(), OpCode::Data(Data::Text), true))
}

fn read_error(error: &Error) -> SocketError {
    use tokio_tungstenite::tungstenite::error::ProtocolError;
    match error {
        Error::Capacity(_) => SocketError::Violation(CloseReason::TooLarge),
        Error::Utf8(_) => SocketError::Violation(CloseReason::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => SocketError::Broken,
        Error::Protocol(_) => SocketError::Violation(CloseReason::ProtocolError),
        _ => SocketError::Broken,
    }
}
