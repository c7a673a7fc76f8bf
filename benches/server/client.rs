//! What every measurement needs of a client: a session, the users' names, and how latencies are told.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// One session.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a session of this user, with more of a query where it resumes.
pub(crate) async fn connect(address: SocketAddr, user: &str, resume: &str) -> Option<Socket> {
    let config = WebSocketConfig::default().read_buffer_size(1024);
    let url = format!("ws://{address}/ws?user={user}{resume}");
    let opened = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await;
    opened.ok().map(|(socket, _)| socket)
}

/// The text of the next frame that has one.
pub(crate) async fn next_text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

/// The value of a field whose value has no quotes and no commas in it.
pub(crate) fn field<'frame>(frame: &'frame str, name: &str) -> Option<&'frame str> {
    let (_, rest) = frame.split_once(&format!("\"{name}\":"))?;
    Some(rest.split([',', '}']).next()?.trim_matches('"'))
}

/// As many users as there were when the figures of docs/RESULTS.md were measured.
const USERS: usize = 64;

/// The names of the users.
pub(crate) async fn users(address: SocketAddr) -> Vec<String> {
    let answer = get(address, "/api/users").await;
    let names = answer.split("\"name\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    names.take(USERS).map(str::to_owned).collect()
}

/// The whole answer to a request, head included.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server is there");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

/// The frame that sends a smile.
pub(crate) fn smile(id: &str, to: &str) -> Message {
    Message::text(format!(r#"{{"type":"smile","id":"{id}","to":"{to}","smile":"😀"}}"#))
}

/// That part of these durations, in milliseconds, that `percent` of them do not exceed.
pub(crate) fn percentile(durations: &mut [Duration], percent: f64) -> f64 {
    durations.sort_unstable();
    let at = (durations.len() as f64 * percent / 100.0) as usize;
    let at = at.min(durations.len().saturating_sub(1));
    durations.get(at).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
}
