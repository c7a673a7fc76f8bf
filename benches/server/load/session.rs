//! A WebSocket session of the load.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::dialect::{Dialect, Meaning};
use super::frames;
use super::tally::Tally;

/// The minimum free space in the buffer before a read, in bytes.
const READ: usize = 8 * 1024;

pub(super) struct Session {
    stream: TcpStream,
    dialect: Dialect,
    to: String,
    /// The prefix of the ids of this session's smiles.
    run: u32,
    next: u64,
    /// The send times of the unanswered smiles, oldest first.
    waiting: VecDeque<Instant>,
    /// The earliest time at which the next smile may be sent, if a refusal requires a wait.
    not_before: Option<Instant>,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    text: String,
    tally: Rc<RefCell<Tally>>,
}

impl Session {
    pub(super) async fn open(
        address: std::net::SocketAddr,
        dialect: Dialect,
        user: &str,
        to: &str,
        tally: Rc<RefCell<Tally>>,
    ) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut session = Self {
            stream,
            dialect,
            to: to.to_owned(),
            run: rand::random(),
            next: 0,
            waiting: VecDeque::new(),
            not_before: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            text: String::new(),
            tally,
        };
        session.upgrade(address, user).await?;
        match dialect {
            Dialect::SocketIo => {
                session.first_frame().await?;
                frames::write(&mut session.outgoing, frames::TEXT, b"40");
                session.flush().await?;
                session.first_frame().await?;
            }
            Dialect::Smiles => session.first_frame().await?,
            Dialect::Echo | Dialect::Polling => {}
        }
        Ok(session)
    }

    async fn upgrade(&mut self, address: std::net::SocketAddr, user: &str) -> std::io::Result<()> {
        let path = self.dialect.path(user);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.outgoing.extend_from_slice(request.as_bytes());
        self.flush().await?;
        let end = loop {
            if let Some(at) = self.incoming.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.read().await?;
        };
        assert!(
            self.incoming.starts_with(b"HTTP/1.1 101"),
            "the upgrade failed: {}",
            String::from_utf8_lossy(&self.incoming)
        );
        self.incoming.drain(..end);
        Ok(())
    }

    /// Waits for a frame and discards it.
    async fn first_frame(&mut self) -> std::io::Result<()> {
        let frame = loop {
            match frames::read(&self.incoming, 0) {
                Some(frame) => break frame,
                None => self.read().await?,
            }
        };
        self.incoming.drain(..frame.payload.end);
        Ok(())
    }

    /// Keeps up to this many smiles unanswered until the deadline, then waits for the last answers.
    pub(super) async fn send(mut self, unanswered: usize, until: Instant) -> std::io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= until && self.waiting.is_empty() {
                return Ok(());
            }
            if now < until && self.not_before.is_none_or(|time| time <= now) {
                self.not_before = None;
                self.write_smiles(unanswered, now);
            }
            self.flush().await?;
            match self.not_before {
                Some(time) => {
                    tokio::time::timeout_at(time.into(), self.read()).await.unwrap_or(Ok(()))?;
                }
                None => self.read().await?,
            }
            self.hear();
        }
    }

    /// Receives without sending smiles, until the future is dropped.
    pub(super) async fn listen(mut self) -> std::io::Result<()> {
        loop {
            self.read().await?;
            self.hear();
            self.flush().await?;
        }
    }

    /// Encodes smiles until this many are unanswered. One write then sends all encoded smiles.
    fn write_smiles(&mut self, unanswered: usize, now: Instant) {
        while self.waiting.len() < unanswered {
            self.text.clear();
            self.dialect.write_smile(&mut self.text, (self.run, self.next), &self.to);
            frames::write(&mut self.outgoing, frames::TEXT, self.text.as_bytes());
            self.tally.borrow_mut().sent();
            self.waiting.push_back(now);
            self.next += 1;
        }
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if !self.outgoing.is_empty() {
            self.stream.write_all(&self.outgoing).await?;
            self.outgoing.clear();
        }
        Ok(())
    }

    async fn read(&mut self) -> std::io::Result<()> {
        self.incoming.reserve(READ);
        match self.stream.read_buf(&mut self.incoming).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn hear(&mut self) {
        let now = Instant::now();
        let mut start = 0;
        while let Some(frame) = frames::read(&self.incoming, start) {
            start = frame.payload.end;
            let payload = &self.incoming[frame.payload];
            match frame.first {
                frames::TEXT => {
                    let meaning = self.dialect.meaning(payload);
                    self.take(meaning, now);
                }
                frames::PING => frames::write(&mut self.outgoing, frames::PONG, payload),
                frames::CLOSE => panic!("the server closed a session: {:?}", String::from_utf8_lossy(payload)),
                _ => {}
            }
        }
        self.incoming.drain(..start);
    }

    fn take(&mut self, meaning: Meaning, now: Instant) {
        let mut tally = self.tally.borrow_mut();
        match meaning {
            // An ack or a refusal counts for the oldest unanswered smile. TheSmilingChat acks in order. Its refusals
            // and the acks of Socket.IO on MySQL may come out of order; individual latencies are then wrong.
            Meaning::Ack => tally.answered(self.waiting.pop_front().map_or(Duration::ZERO, |sent| now - sent)),
            Meaning::Delivery => tally.delivered(1),
            Meaning::Refusal(pause) => {
                self.waiting.pop_front();
                self.not_before = Some(now + pause);
                tally.refused();
            }
            Meaning::Probe(answer) => frames::write(&mut self.outgoing, frames::TEXT, answer),
            Meaning::Other => {}
        }
    }
}
