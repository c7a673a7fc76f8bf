//! Opens one WebSocket to a replica, reads and writes frames, and detects a server that is gone or hangs.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{Response, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};
use url::Url;

use super::{Patience, ResumePoint};
use crate::model::UserName;
use crate::protocol::{self, Refusal, ServerFrame};

/// The read buffer holds several frames, and the buffers of a thousand sessions need only a few MiB.
const BUFFER_BYTES: usize = 4096;

#[derive(Debug)]
pub(super) struct NotOpened {
    /// The error code of the refusal, or a short name of the failure.
    pub cause: String,
    pub message: String,
    pub retry_after: Option<Duration>,
    /// Whether the refusal is permanent.
    pub last: bool,
}

#[derive(Debug)]
pub(super) enum Heard {
    Frame(ServerFrame),
    /// Why a message is not a frame of the protocol.
    NotAFrame(String),
    Gone(Gone),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Gone {
    /// The close code of the server; `None` if its close frame has no code, the connection broke, or the client dropped
    /// it.
    pub code: Option<u16>,
    /// When the connection stopped working. If a ping was unanswered for at least half of the difference between
    /// [`Patience::silence`] and [`Patience::ping_after`], this is when the last message arrived. Otherwise, it is when
    /// the client noticed the end.
    pub since: Instant,
}

pub(super) struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    heard_at: Instant,
    /// When the client sent a ping, if no message has arrived since.
    pinged_at: Option<Instant>,
    /// The deadline for writing the frames that are not flushed yet.
    write_by: Option<Instant>,
    ping_after: Duration,
    silence: Duration,
}

impl Connection {
    pub(super) async fn open(
        url: &Url,
        user: &UserName,
        resume: Option<&ResumePoint>,
        patience: &Patience,
    ) -> Result<Self, NotOpened> {
        let mut url = url.clone();
        url.query_pairs_mut().append_pair("user", user.as_str());
        if let Some(ResumePoint { epoch, offset }) = resume {
            url.query_pairs_mut().append_pair("after", &offset.to_string()).append_pair("epoch", epoch.as_str());
        }
        let request = url.as_str().into_client_request().map_err(|error| unreachable(&error))?;
        let config = WebSocketConfig::default().read_buffer_size(BUFFER_BYTES).write_buffer_size(0);
        match timeout(patience.connect, connect_async_with_config(request, Some(config), true)).await {
            Ok(Ok((socket, _))) => Ok(Self {
                socket,
                heard_at: Instant::now(),
                pinged_at: None,
                write_by: None,
                ping_after: patience.ping_after,
                silence: patience.silence,
            }),
            Ok(Err(Error::Http(response))) => Err(refused(&response)),
            Ok(Err(error)) => Err(unreachable(&error)),
            Err(_) => Err(NotOpened {
                cause: "connect_timeout".to_owned(),
                message: format!("{url} does not answer"),
                retry_after: None,
                last: false,
            }),
        }
    }

    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Heard {
        loop {
            // A ping that was sent late, because this process was stalled, has as much time as any other.
            let deadline = match self.pinged_at {
                Some(pinged_at) => pinged_at + self.silence.saturating_sub(self.ping_after),
                None => self.heard_at + self.ping_after,
            };
            let message = tokio::select! {
                biased;
                message = self.socket.next() => message,
                () = sleep_until(deadline) => {
                    // A server that does not answer a ping hangs, even if its kernel keeps the connection open.
                    if self.pinged_at.is_some() || self.ping().await.is_err() {
                        return Heard::Gone(self.gone(None));
                    }
                    continue;
                }
            };
            let Some(Ok(message)) = message else { return Heard::Gone(self.gone(None)) };
            self.heard_at = Instant::now();
            self.pinged_at = None;
            match message {
                Message::Text(text) => {
                    return ServerFrame::decode(&text)
                        .map_or_else(|why| Heard::NotAFrame(why.to_string()), Heard::Frame);
                }
                Message::Binary(_) => return Heard::NotAFrame("a binary message".to_owned()),
                Message::Close(frame) => return Heard::Gone(self.gone(frame.map(|frame| frame.code.into()))),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Writes a text frame, and buffers what the connection does not accept yet. Cancel safe: a cancelled call has
    /// neither written nor buffered the frame.
    pub(super) async fn feed(&mut self, text: &str) -> Result<(), Gone> {
        let by = self.write_by();
        let fed = timeout_at(by, self.socket.feed(Message::text(text))).await;
        self.written(fed)
    }

    /// Cancel safe.
    pub(super) async fn flush(&mut self) -> Result<(), Gone> {
        let by = self.write_by();
        let flushed = timeout_at(by, self.socket.flush()).await;
        self.written(flushed)?;
        self.write_by = None;
        Ok(())
    }

    pub(super) fn gone(&self, code: Option<u16>) -> Gone {
        // A connection that breaks less than `late` after a ping probably worked until it broke: a busy server may need
        // that long to answer a ping.
        let late = self.silence.saturating_sub(self.ping_after) / 2;
        let hung = self.pinged_at.is_some_and(|pinged_at| pinged_at.elapsed() >= late);
        Gone { code, since: if hung { self.heard_at } else { Instant::now() } }
    }

    /// Tries to send a close frame within `ping_after`.
    pub(super) async fn close(mut self) {
        let _ = timeout(self.ping_after, self.socket.close(None)).await;
    }

    async fn ping(&mut self) -> Result<(), Gone> {
        self.pinged_at = Some(Instant::now());
        let by = self.write_by();
        let sent = timeout_at(by, self.socket.send(Message::Ping(Bytes::new()))).await;
        self.written(sent)?;
        self.write_by = None;
        Ok(())
    }

    fn write_by(&mut self) -> Instant {
        *self.write_by.get_or_insert_with(|| Instant::now() + self.silence)
    }

    fn written(&self, outcome: Result<Result<(), Error>, Elapsed>) -> Result<(), Gone> {
        outcome.ok().and_then(Result::ok).ok_or_else(|| self.gone(None))
    }
}

fn unreachable(error: &Error) -> NotOpened {
    NotOpened { cause: "unreachable".to_owned(), message: error.to_string(), retry_after: None, last: false }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> NotOpened {
    let status = response.status();
    let header = response.headers().get(header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()?.parse().ok()).map(Duration::from_secs);
    let body = response.body().as_deref().unwrap_or_default();
    // The hint in the body is exact to the millisecond, but the body may be incomplete or come from a proxy.
    let body: Option<Refusal> = protocol::from_json(body).ok();
    let milliseconds = body.as_ref().and_then(|body| body.retry_after_ms).map(Duration::from_millis);
    NotOpened {
        cause: body
            .as_ref()
            .map_or_else(|| format!("http_{}", status.as_u16()), |body| <&str>::from(body.code).to_owned()),
        message: body.map_or_else(|| status.to_string(), |body| body.message),
        retry_after: milliseconds.or(seconds),
        last: matches!(status.as_u16(), 400 | 403 | 404),
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::net::TcpListener;

    use super::*;

    fn response(status: u16, retry_after: Option<&str>, body: &str) -> Response<Option<Vec<u8>>> {
        let mut response = Response::builder().status(status);
        if let Some(retry_after) = retry_after {
            response = response.header(header::RETRY_AFTER, retry_after);
        }
        response.body(Some(body.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_refusal_is_read_from_its_body_header_and_status() {
        let exact = r#"{"code":"draining","message":"leaving","retry_after_ms":40}"#;
        for (status, header, body, cause, retry_after, last) in [
            (503, Some("1"), exact, "draining", Some(40), false),
            (503, Some("2"), "{\"co", "http_503", Some(2000), false),
            (502, None, "<html>", "http_502", None, false),
            (429, Some("soon"), "", "http_429", None, false),
            (404, None, r#"{"code":"unknown_user","message":"no such user"}"#, "unknown_user", None, true),
        ] {
            let refused = refused(&response(status, header, body));
            assert_eq!(refused.cause, cause);
            assert_eq!(refused.retry_after, retry_after.map(Duration::from_millis), "{cause}");
            assert_eq!(refused.last, last, "{cause}");
        }
    }

    #[tokio::test]
    async fn a_server_has_time_to_answer_a_late_ping() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("ws://{}/ws", listener.local_addr().unwrap())).unwrap();
        let accept = async {
            let (stream, _) = listener.accept().await.unwrap();
            tokio_tungstenite::accept_async(stream).await.unwrap()
        };
        let (user, patience) =
            (UserName::new("anna"), Patience { connect: Duration::from_mins(1), ..Patience::default() });
        let (connection, _server) = tokio::join!(Connection::open(&url, &user, None, &patience), accept);
        let mut connection = connection.unwrap();
        // The process was stalled for as long as this.
        connection.heard_at = Instant::now().checked_sub(2 * patience.silence).unwrap();
        assert!(connection.next().now_or_never().is_none(), "the connection was dropped together with the ping");
        assert!(connection.pinged_at.is_some(), "no ping was sent");
        connection.pinged_at = Some(Instant::now().checked_sub(patience.silence).unwrap());
        assert!(matches!(connection.next().now_or_never(), Some(Heard::Gone(_))), "the ping had too much time");
    }
}
