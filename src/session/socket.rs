//! The WebSocket of a session: bounded buffers, write timeouts, close codes for protocol violations, and a close frame
//! that reaches the client.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use super::End;
use crate::protocol::{CloseReason, MAX_FRAME_BYTES};

/// Small, because even an idle session has a read buffer. A client's smile frame has about 70 bytes.
const READ_BUFFER_BYTES: usize = 1024;

/// Number of buffered bytes above which the buffer is written without waiting for a flush.
const WRITE_BUFFER_BYTES: usize = 4 * 1024;

/// Small, because the buffer never shrinks.
const MAX_WRITE_BUFFER_BYTES: usize = 16 * 1024;

const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Maximum number of bytes that are read and discarded from a client that keeps sending after the close frame.
const LINGER_BYTES: u64 = 1024 * 1024;

/// Small, because many sessions may close at the same time.
const LINGER_BUFFER_BYTES: usize = 512;

pub(super) enum Incoming {
    Text(Utf8Bytes),
    Ping(Bytes),
    Pong,
}

pub(crate) struct Socket {
    stream: WebSocketStream<TcpStream>,
    /// The rest of the large frame that is being written.
    large: Bytes,
    write_timeout: Duration,
}

impl Socket {
    /// Takes over an upgraded connection and the bytes already `read` from it.
    pub(crate) async fn new(connection: TcpStream, read: Vec<u8>, write_timeout: Duration) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(WRITE_BUFFER_BYTES)
            .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
            .max_message_size(Some(MAX_FRAME_BYTES))
            .max_frame_size(Some(MAX_FRAME_BYTES));
        let stream = WebSocketStream::from_partially_read(connection, read, Role::Server, Some(config)).await;
        Self { stream, large: Bytes::new(), write_timeout }
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Incoming, End> {
        match self.stream.next().await {
            Some(Ok(Message::Text(text))) => Ok(Incoming::Text(text)),
            Some(Ok(Message::Binary(_))) => Err(End::ByServer(CloseReason::NotText)),
            Some(Ok(Message::Ping(payload))) => Ok(Incoming::Ping(payload)),
            Some(Ok(Message::Pong(_))) => Ok(Incoming::Pong),
            // The library has queued the answer to the close frame.
            Some(Ok(Message::Close(frame))) => Err(End::ByClient(frame.map_or(1005, |frame| frame.code.into()))),
            Some(Err(Error::Capacity(_))) => Err(End::ByServer(CloseReason::TooLarge)),
            Some(Err(Error::Utf8(_))) => Err(End::ByServer(CloseReason::NotUtf8)),
            Some(Err(Error::Protocol(error))) if error != ProtocolError::ResetWithoutClosingHandshake => {
                Err(End::ByServer(CloseReason::ProtocolError))
            }
            // The library never returns a raw frame.
            Some(Err(_) | Ok(Message::Frame(_))) | None => Err(End::Broken),
        }
    }

    /// Buffers a text frame. If the socket did not accept all of the last write, first waits, without a timeout, until
    /// the buffer is empty.
    pub(super) async fn feed(&mut self, frame: Bytes) -> Result<(), End> {
        self.stream.feed(Message::Frame(text(frame))).await.map_err(|_| End::Broken)
    }

    /// Writes all buffered frames, without a timeout.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        self.stream.flush().await.map_err(|_| End::Broken)
    }

    /// Writes and flushes a text frame within the write timeout.
    pub(super) async fn send(&mut self, frame: Bytes) -> Result<(), End> {
        self.write(Message::Frame(text(frame))).await
    }

    /// Like [`Self::send`], but bypasses the write buffer, which would keep room for the frame as long as the session
    /// lasts.
    pub(super) async fn send_large(&mut self, frame: Bytes) -> Result<(), End> {
        let mut bytes = Vec::new();
        text(frame).format(&mut bytes).expect("memory should hold the frame");
        self.large = bytes.into();
        outcome(tokio::time::timeout(self.write_timeout, self.write_large()).await)
    }

    /// Writes all buffered frames and the rest of the large frame. Cancel safe.
    async fn write_large(&mut self) -> Result<(), Error> {
        self.stream.flush().await?;
        self.stream.get_mut().write_all_buf(&mut self.large).await?;
        self.large = Bytes::new();
        Ok(())
    }

    pub(super) async fn ping(&mut self) -> Result<(), End> {
        self.write(Message::Ping(Bytes::new())).await
    }

    /// Replaces the answer that the library has queued. The library would send its answer without waiting for the
    /// client, so the answers to a client that does not read would fill the buffer.
    pub(super) async fn pong(&mut self, payload: Bytes) -> Result<(), End> {
        self.write(Message::Pong(payload)).await
    }

    async fn write(&mut self, message: Message) -> Result<(), End> {
        outcome(tokio::time::timeout(self.write_timeout, self.stream.send(message)).await)
    }

    /// Sends the answer to the client's close frame within [`CLOSE_TIMEOUT`].
    pub(super) async fn answer_close(&mut self) {
        // Best effort: the client may already be gone.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.flush()).await;
    }

    /// Sends a close frame and waits until the client closes the connection, for at most [`CLOSE_TIMEOUT`]. Discards
    /// what the client still sends, up to [`LINGER_BYTES`]: closing a connection with unread bytes resets it, and the
    /// reset may overtake the close frame (RFC 9293, section 3.6.1).
    pub(super) async fn close(&mut self, reason: CloseReason) {
        let frame = CloseFrame { code: reason.code().into(), reason: <&str>::from(reason).into() };
        let close = async {
            self.write_large().await.map_err(std::io::Error::other)?;
            self.stream.send(Message::Close(Some(frame))).await.map_err(std::io::Error::other)?;
            let connection = self.stream.get_mut();
            connection.shutdown().await?;
            let mut rest = BufReader::with_capacity(LINGER_BUFFER_BYTES, connection.take(LINGER_BYTES));
            tokio::io::copy_buf(&mut rest, &mut tokio::io::sink()).await
        };
        // Best effort: the client may already be gone.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, Box::pin(close)).await;
    }
}

/// Makes a text frame without a UTF-8 check: the server encoded the text.
fn text(frame: Bytes) -> Frame {
    Frame::message(frame, OpCode::Data(Data::Text), true)
}

fn outcome(written: Result<Result<(), Error>, Elapsed>) -> Result<(), End> {
    written.map_err(|_| End::ByServer(CloseReason::Slow))?.map_err(|_| End::Broken)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_close_frame_follows_the_whole_frame_whose_write_timed_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        let (connection, _) = listener.accept().await.unwrap();
        let mut socket = Socket::new(connection, Vec::new(), Duration::from_millis(10)).await;
        let frame = Bytes::from("a".repeat(1024 * 1024));
        let mut frames = 1;
        let end = loop {
            match socket.send_large(frame.clone()).await {
                Ok(()) => frames += 1,
                Err(end) => break end,
            }
        };
        assert_eq!(end, End::ByServer(CloseReason::Slow));
        let read = async {
            for _ in 0..frames {
                assert_eq!(client.next().await.unwrap().unwrap().into_data(), frame);
            }
            client.next().await.unwrap().unwrap()
        };
        let ((), last) = tokio::join!(socket.close(CloseReason::Slow), read);
        assert!(matches!(&last, Message::Close(Some(close)) if u16::from(close.code) == 4000), "{last} was the last");
    }
}
