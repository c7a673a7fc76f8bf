//! A simulated user in the architecture of the chat's first version: one HTTP request per smile, and polls. The next
//! poll is sent immediately after a nonempty answer, and one second after an empty answer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::tally::Tally;

const INTERVAL: Duration = Duration::from_secs(1);

/// A user's connection, which is kept alive between requests.
pub(super) struct Connection {
    stream: TcpStream,
    address: SocketAddr,
    user: String,
    tally: Rc<RefCell<Tally>>,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr, user: &str, tally: Rc<RefCell<Tally>>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, address, user: user.to_owned(), tally })
    }

    pub(super) async fn send(mut self, to: String, until: Instant) -> std::io::Result<()> {
        let (run, user) = (rand::random::<u32>(), self.user.clone());
        for number in 0_u64.. {
            let sent = Instant::now();
            if sent >= until {
                break;
            }
            let body = format!(r#"{{"from":"{user}","id":"{run:08x}-{number}","to":"{to}","smile":"😀"}}"#);
            let head = format!(
                "POST /smiles HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                self.address,
                body.len()
            );
            self.tally.borrow_mut().sent();
            let answer = self.ask(&(head + &body)).await?;
            assert!(answer.contains(r#""ack""#), "the smile was not acked: {answer}");
            self.tally.borrow_mut().answered(sent.elapsed());
        }
        Ok(())
    }

    pub(super) async fn newest(&mut self) -> std::io::Result<u64> {
        Ok(serde_json::from_str(&self.get("/newest").await?)?)
    }

    /// Polls until the future is dropped.
    pub(super) async fn poll(mut self, mut last: u64) -> std::io::Result<()> {
        loop {
            let answer = self.get(&format!("/smiles?user={}&after={last}", self.user)).await?;
            let smiles: Vec<Value> = serde_json::from_str(&answer)?;
            self.tally.borrow_mut().delivered(smiles.len() as u64);
            match smiles.last() {
                Some(smile) => last = smile["number"].as_u64().unwrap_or(last),
                None => tokio::time::sleep(INTERVAL).await,
            }
        }
    }

    async fn get(&mut self, path: &str) -> std::io::Result<String> {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.address)).await
    }

    async fn ask(&mut self, request: &str) -> std::io::Result<String> {
        self.stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if self.stream.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            let text = String::from_utf8_lossy(&answer);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            assert!(head.starts_with("HTTP/1.1 200"), "the request failed: {text}");
            if body.len() >= length.unwrap_or(0) {
                return Ok(body.to_owned());
            }
        }
    }
}
