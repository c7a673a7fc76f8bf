//! A test client: raw JSON over a WebSocket. It shares no types with the server, so it detects mistakes in the server's
//! types.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::ledger::{Entry, Ledger};
use super::within;

/// The size of the receive buffer of a client that must fall behind quickly.
const SMALL_BUFFER_BYTES: u32 = 4096;

/// The number of histories that a client requests without reading the answers. This many histories of 53 kB add up to
/// about 8 MB, more than the system's buffers hold.
pub(crate) const UNREAD_HISTORIES: u32 = 150;

#[derive(Debug)]
pub(crate) enum Event {
    Frame(Value),
    /// The code of a close frame, or 1005 if the frame has none.
    Closed(u16),
    /// The end of the connection without a close frame.
    Broken,
}

pub(crate) struct TestClient {
    socket: WebSocketStream<TcpStream>,
    pub(crate) welcome: Value,
    ledger: Ledger,
    /// For each id, the receiver and the faces of the first smile that was sent with that id.
    sent: HashMap<String, (String, String)>,
}

impl TestClient {
    pub(crate) async fn connect(address: SocketAddr, user: &str) -> Self {
        Self::open(address, &format!("?user={user}")).await.expect("the session did not open")
    }

    pub(crate) async fn resume(address: SocketAddr, user: &str, after: u64, epoch: &str) -> Self {
        let query = format!("?user={user}&after={after}&epoch={epoch}");
        Self::open(address, &query).await.expect("the session did not open")
    }

    /// Opens a session. Fails if the server is down, refuses the upgrade, or does not send `welcome` first. Panics if
    /// the server does not answer.
    pub(crate) async fn open(address: SocketAddr, query: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        Self::over(stream, address, query).await
    }

    pub(crate) async fn with_small_buffer(address: SocketAddr, user: &str) -> Self {
        let stream = connection_with_small_buffer(address).await;
        Self::over(stream, address, &format!("?user={user}")).await.expect("the session did not open")
    }

    async fn over(stream: TcpStream, address: SocketAddr, query: &str) -> Result<Self, String> {
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let handshake = tokio_tungstenite::client_async(format!("ws://{address}/ws{query}"), stream);
        let (socket, _) = within("the handshake completes", handshake).await.map_err(|error| error.to_string())?;
        let mut client = Self { socket, welcome: Value::Null, ledger: Ledger::default(), sent: HashMap::new() };
        match client.event().await {
            Event::Frame(welcome) if welcome["type"] == "welcome" => client.welcome = welcome,
            other => return Err(format!("{other:?} arrived instead of welcome")),
        }
        Ok(client)
    }

    pub(crate) fn recording(mut self, ledger: &Ledger) -> Self {
        self.ledger = ledger.clone();
        self
    }

    pub(crate) fn offset(&self) -> u64 {
        offset(&self.welcome)
    }

    pub(crate) fn epoch(&self) -> String {
        self.welcome["epoch"].as_str().expect("welcome had no epoch").to_owned()
    }

    pub(crate) fn recovered(&self) -> bool {
        self.welcome["recovered"].as_bool().expect("welcome had no `recovered`")
    }

    pub(crate) async fn try_send(&mut self, text: &str) -> Result<(), String> {
        if let Ok(frame) = serde_json::from_str::<Value>(text)
            && let (Some(id), Some(to), Some(faces)) =
                (frame["id"].as_str(), frame["to"].as_str(), frame["smile"].as_str())
        {
            self.sent.entry(id.to_owned()).or_insert_with(|| (to.to_owned(), faces.to_owned()));
        }
        let sent = within("a frame is sent", self.socket.send(Message::text(text))).await;
        sent.map_err(|error| error.to_string())
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.try_send(text).await.expect("the frame was not sent");
    }

    pub(crate) async fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string()).await;
    }

    pub(crate) async fn send_smile(&mut self, id: &str, to: &str) {
        self.send(smile(id, to)).await;
    }

    /// Sends a new smile, whose ack must be the next frame.
    pub(crate) async fn smile(&mut self, id: &str, to: &str) -> u64 {
        self.send_smile(id, to).await;
        let ack = self.expect("ack").await;
        assert_eq!((&ack["id"], &ack["duplicate"]), (&json!(id), &json!(false)), "not the ack of a new smile: {ack}");
        offset(&ack)
    }

    /// Sends a smile until it is acked. Panics on any frame other than an ack or an `overloaded` error.
    pub(crate) async fn persist(&mut self, id: &str, to: &str) -> u64 {
        loop {
            self.send_smile(id, to).await;
            let answer = self.next().await;
            if answer["type"] == "ack" {
                return offset(&answer);
            }
            wait_for_hint(&answer).await;
        }
    }

    /// Sends smiles without waiting for each answer, and repeats those refused as `overloaded` until all are acked.
    /// Returns the highest offset.
    pub(crate) async fn persist_all(&mut self, mut ids: Vec<String>, to: &str) -> u64 {
        let mut last = 0;
        while !ids.is_empty() {
            for id in &ids {
                self.send_smile(id, to).await;
            }
            let mut refused = Vec::new();
            for _ in 0..ids.len() {
                let answer = self.next().await;
                if answer["type"] == "ack" {
                    last = last.max(offset(&answer));
                } else {
                    wait_for_hint(&answer).await;
                    refused.push(id(&answer));
                }
            }
            ids = refused;
        }
        last
    }

    /// The next event other than a ping or a pong.
    pub(crate) async fn event(&mut self) -> Event {
        let next = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => return other,
                }
            }
        };
        match within("the next frame arrives", next).await {
            Some(Ok(Message::Text(text))) => {
                let frame = serde_json::from_str(&text).expect("a frame was not JSON");
                self.record(&frame);
                Event::Frame(frame)
            }
            Some(Ok(Message::Close(frame))) => Event::Closed(frame.map_or(1005, |frame| frame.code.into())),
            Some(Ok(other)) => panic!("{other:?} arrived instead of text"),
            Some(Err(_)) | None => Event::Broken,
        }
    }

    fn record(&mut self, frame: &Value) {
        if frame["type"] == "ack"
            && let Some(id) = frame["id"].as_str()
            && let Some((to, faces)) = self.sent.get(id).cloned()
        {
            let user = self.welcome["user"].as_str().expect("welcome did not name the user");
            self.ledger.record(user, id, &Entry { offset: offset(frame), to, faces });
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        match self.event().await {
            Event::Frame(frame) => frame,
            other => panic!("{other:?} arrived instead of a frame"),
        }
    }

    pub(crate) async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.next().await;
        assert_eq!(frame["type"], kind, "another frame arrived: {frame}");
        frame
    }

    pub(crate) async fn expect_error(&mut self, code: &str) -> Value {
        let frame = self.expect("error").await;
        assert_eq!(frame["code"], code, "the error had another code: {frame}");
        let temporary = ["overloaded", "rate_limited", "store_unavailable"].contains(&code);
        assert_eq!(frame["temporary"], temporary, "`temporary` was wrong: {frame}");
        assert!(
            frame["message"].as_str().is_some_and(|message| !message.is_empty()),
            "the error had no message: {frame}"
        );
        assert_eq!(
            frame["retry_after_ms"].as_u64().is_some_and(|wait| wait >= 1),
            temporary,
            "the hint was missing or superfluous: {frame}"
        );
        frame
    }

    /// Checks that the session answers a ping, and that no other frame precedes the answer.
    pub(crate) async fn expect_alive(&mut self) {
        self.send(json!({"type": "ping"})).await;
        self.expect("pong").await;
    }

    /// The smiles replayed to a resumed session: those before the answer to a ping, because the server reads the ping
    /// only after the replay. Live smiles may be among them.
    pub(crate) async fn replayed(&mut self) -> Vec<Value> {
        self.send(json!({"type": "ping"})).await;
        let mut smiles = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["type"] == "pong" {
                return smiles;
            }
            assert_eq!(frame["type"], "smile", "another frame arrived: {frame}");
            smiles.push(frame);
        }
    }

    /// Skips frames up to the server's close frame and returns its code.
    pub(crate) async fn expect_close(&mut self) -> u16 {
        loop {
            match self.event().await {
                Event::Frame(_) => {}
                Event::Closed(code) => return code,
                Event::Broken => panic!("the connection broke without a close frame"),
            }
        }
    }

    /// Sends 200 smiles. A history frame with all of them is about 53 kB.
    pub(crate) async fn fill_a_history(&mut self, to: &str) {
        let faces = "😶\u{200d}🌫\u{fe0f}".repeat(8);
        for number in 0..200 {
            let id = format!("{number:064}");
            self.send(json!({"type": "smile", "id": id, "to": to, "smile": faces})).await;
            self.expect("ack").await;
        }
    }

    pub(crate) async fn ask_without_reading(&mut self, peer: &str) {
        for _ in 0..UNREAD_HISTORIES {
            self.send(json!({"type": "history", "with": peer, "limit": 200})).await;
        }
    }

    /// Closes this session and waits until the server has closed it too.
    pub(crate) async fn close(mut self) {
        self.socket.close(None).await.expect("the close frame was not sent");
        while let Event::Frame(_) = self.event().await {}
    }

    /// The whole conversation with `peer`, in the order of the log.
    pub(crate) async fn history(&mut self, peer: &str) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        loop {
            let mut question = json!({"type": "history", "with": peer, "limit": 200});
            if let Some(oldest) = all.first() {
                question["before"] = oldest["offset"].clone();
            }
            self.send(question).await;
            let answer = self.expect("history").await;
            assert_eq!(answer["with"], peer);
            let mut page = answer["smiles"].as_array().expect("smiles").clone();
            page.append(&mut all);
            all = page;
            if answer["more"] == false {
                return all;
            }
        }
    }
}

pub(crate) async fn connection_with_small_buffer(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(SMALL_BUFFER_BYTES).expect("a small buffer");
    socket.connect(address).await.expect("the server did not accept the connection")
}

pub(crate) fn smile(id: &str, to: &str) -> Value {
    json!({"type": "smile", "id": id, "to": to, "smile": "😀"})
}

async fn wait_for_hint(answer: &Value) {
    assert_eq!(answer["code"], "overloaded", "the answer was not `overloaded`: {answer}");
    let wait = answer["retry_after_ms"].as_u64().expect("a hint");
    tokio::time::sleep(Duration::from_millis(wait)).await;
}

pub(crate) fn offset(frame: &Value) -> u64 {
    let offset = frame["offset"].as_u64().unwrap_or_else(|| panic!("{frame} had no offset"));
    assert!(offset < 1 << 53, "offset {offset} was not below 2^53");
    offset
}

pub(crate) fn id(frame: &Value) -> String {
    frame["id"].as_str().unwrap_or_else(|| panic!("{frame} had no id")).to_owned()
}
