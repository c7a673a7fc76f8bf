//! Helpers shared by the measurements: sessions, user names, HTTP requests and percentiles.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(crate) async fn connect(address: SocketAddr, user: &str) -> Option<Socket> {
    let config = WebSocketConfig::default().read_buffer_size(1024);
    let url = format!("ws://{address}/ws?user={user}");
    let opened = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await;
    opened.ok().map(|(socket, _)| socket)
}

pub(crate) async fn next_text(socket: &mut Socket) -> Option<String> {
    loop {
        match socket.next().await?.ok()? {
            Message::Text(text) => return Some(text.as_str().to_owned()),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

/// The value of the first JSON field with this name. The value must not contain a comma or a closing brace.
pub(crate) fn field<'frame>(frame: &'frame str, name: &str) -> Option<&'frame str> {
    let (_, rest) = frame.split_once(&format!("\"{name}\":"))?;
    Some(rest.split([',', '}']).next()?.trim_matches('"'))
}

/// The figures in docs/RESULTS.md depend on this number.
const USERS: usize = 64;

pub(crate) async fn users(address: SocketAddr) -> Vec<String> {
    let answer = get(address, "/api/users").await;
    let names = answer.split("\"name\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    names.take(USERS).map(str::to_owned).collect()
}

/// The raw response to `GET path`, including the head.
pub(crate) async fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("the server should accept connections");
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.expect("the request should be sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer should be readable");
    answer
}

pub(crate) fn smile(id: &str, to: &str) -> Message {
    Message::text(format!(r#"{{"type":"smile","id":"{id}","to":"{to}","smile":"😀"}}"#))
}

/// A percentile of these durations, in milliseconds; NaN if there are none. Sorts the durations.
pub(crate) fn percentile(durations: &mut [Duration], percent: f64) -> f64 {
    durations.sort_unstable();
    let at = (durations.len() as f64 * percent / 100.0) as usize;
    let at = at.min(durations.len().saturating_sub(1));
    durations.get(at).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1000.0)
}
