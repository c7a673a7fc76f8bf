//! A client that keeps its session: it connects, resumes, sends unanswered smiles again, and backs off.
//!
//! [`Client`] is one user over one WebSocket at a time, through any number of crashes, drains and refusals. Pass smiles
//! to [`Client::offer`], and await [`Client::next`] in a loop: `next` does all the work and returns events. A client
//! repeats a smile until it knows that the smile is durable or permanently refused, or until the caller gives up the
//! smile. All repeats have the same id, so the server stores no smile twice. A client resumes from its [`ResumePoint`],
//! so it misses nothing if the server recovers the session.
//!
//! ```no_run
//! use smilingchat::client::{Client, Event, Patience};
//! use smilingchat::model::{SmileId, UserName};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let replicas = vec!["ws://127.0.0.1:8081/ws".parse()?, "ws://127.0.0.1:8082/ws".parse()?];
//! let mut anna = Client::new(replicas, UserName::new("anna"), Patience::default());
//! let hello = SmileId::random();
//! assert!(anna.offer(hello.clone(), UserName::new("bruno"), "🙂"));
//! loop {
//!     match anna.next().await {
//!         Event::Acked { id, offset, .. } if id == hello => println!("durable, at offset {offset}"),
//!         Event::Received(smile) => println!("{} from {}", smile.faces.as_str(), smile.from),
//!         Event::Welcomed { recovered: false, resumed_from: Some(_), .. } => println!("smiles may be missing"),
//!         Event::NotConnected { message, .. } => println!("no session yet: {message}"),
//!         Event::Ended => break,
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub mod api;

mod backoff;
mod connection;
mod event;
pub(crate) mod http;
mod outbox;

use std::collections::VecDeque;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use url::Url;

use self::backoff::{Backoff, retry_wait};
use self::connection::{Connection, Gone, Heard, NotOpened};
use self::outbox::Outbox;
use crate::model::{Epoch, Offset, SmileId, UserName};
use crate::protocol::{ClientFrame, ErrorCode, Refusal, ServerFrame};

pub use self::event::Event;
pub use self::outbox::MAX_UNANSWERED;

/// The time limits of a client.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Time limit for opening a connection, including its upgrade. Each consecutive failure after the first doubles the
    /// limit, up to four times this value, because a busy server needs longer. A lost connection counts as a failure.
    /// After a close with 1008, the limit is four times this value. Once a session has answered, the limit is this
    /// value again.
    pub connect: Duration,
    /// Silence on a connection after which the client sends a ping.
    pub ping_after: Duration,
    /// Silence after which the client drops the connection, unless it sent the ping late: the server always has the
    /// difference to `ping_after` to answer. Also the time limit for a write, and for the welcome after the upgrade.
    /// This value must be greater than `ping_after`.
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(2), ping_after: Duration::from_secs(1), silence: Duration::from_secs(3) }
    }
}

/// The place in the log from which a client resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// The epoch of the log.
    pub epoch: Epoch,
    /// The highest of the offsets in the last welcome and in the smiles and acks since then. Acks of duplicates do not
    /// count.
    pub offset: Offset,
}

impl ResumePoint {
    fn see_smile(&mut self, offset: Offset) {
        self.offset = self.offset.max(offset);
    }

    /// The offset of a duplicate does not count: smiles at lower offsets may still arrive.
    fn see_ack(&mut self, offset: Offset, duplicate: bool) {
        if !duplicate {
            self.see_smile(offset);
        }
    }
}

/// One user, over one WebSocket at a time. See the [module](self).
pub struct Client {
    urls: Vec<Url>,
    user: UserName,
    patience: Patience,
    outbox: Outbox,
    /// The origin of the outbox's times.
    started: Instant,
    resume_point: Option<ResumePoint>,
    backoff: Backoff,
    /// The number of times that the client moved on to the next URL, after a lost connection or a failed attempt.
    moves: usize,
    events: VecDeque<Event>,
    state: State,
}

enum State {
    Connecting(Pin<Box<dyn Future<Output = Result<Connection, NotOpened>> + Send>>),
    Open(Box<Session>),
    Ended,
}

struct Session {
    connection: Connection,
    resumed_from: Option<Offset>,
    welcome_by: Instant,
    welcomed: bool,
    /// Whether a frame has arrived since the welcome.
    answering: bool,
    /// The reconnection hint of the last `drain` frame.
    return_after: Option<Duration>,
    outgoing: Option<String>,
}

impl Client {
    /// A client for `user`. It connects in [`Self::next`]: at first to the first URL, and to the next URL after each
    /// failure or lost connection.
    ///
    /// # Panics
    /// If `urls` is empty.
    pub fn new(urls: Vec<Url>, user: UserName, patience: Patience) -> Self {
        Self::start(urls, user, patience, None)
    }

    /// A client that resumes where another client of the same user stopped.
    ///
    /// # Panics
    /// If `urls` is empty.
    pub fn resume(urls: Vec<Url>, user: UserName, patience: Patience, resume_point: ResumePoint) -> Self {
        Self::start(urls, user, patience, Some(resume_point))
    }

    fn start(urls: Vec<Url>, user: UserName, patience: Patience, resume_point: Option<ResumePoint>) -> Self {
        assert!(!urls.is_empty(), "a client needs the URL of a replica");
        let mut client = Self {
            urls,
            user,
            patience,
            outbox: Outbox::default(),
            started: Instant::now(),
            resume_point,
            backoff: Backoff::default(),
            moves: 0,
            events: VecDeque::new(),
            state: State::Ended,
        };
        client.connect(Duration::ZERO);
        client
    }

    /// Accepts a smile to send, with the content `smile`, and keeps it until it is known to be durable, permanently
    /// refused or given up. Returns `false`, without accepting it, if [`MAX_UNANSWERED`] smiles are unanswered already.
    #[must_use = "false means that the smile was not accepted"]
    pub fn offer(&mut self, id: SmileId, to: UserName, smile: &str) -> bool {
        self.outbox.offer(id, to, smile)
    }

    /// Gives up the smiles that were temporarily refused and have not been written since. The server stored such a
    /// smile only if an earlier transmission of it was never answered.
    pub fn give_up_refused(&mut self) {
        self.outbox.give_up_refused();
    }

    /// The point from which [`Self::resume`] can continue; `None` before the first welcome of a new client.
    pub fn resume_point(&self) -> Option<&ResumePoint> {
        self.resume_point.as_ref()
    }

    /// Waits for the next event. After [`Event::Ended`], waits forever. Cancel safe. The client makes no progress
    /// unless this future is polled.
    pub async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.events.pop_front() {
                return event;
            }
            match &mut self.state {
                State::Ended => return pending().await,
                State::Connecting(connecting) => match connecting.await {
                    Ok(connection) => self.state = State::Open(Box::new(self.session(connection))),
                    Err(refusal) => self.not_opened(refusal),
                },
                State::Open(session) => {
                    let now = self.started.elapsed();
                    if session.outgoing.is_none()
                        && session.welcomed
                        && let Some(smile) = self.outbox.take_due(now)
                    {
                        let (id, to, smile) = smile;
                        self.events.push_back(Event::Sending(id.clone()));
                        session.outgoing = Some(ClientFrame::Smile { id: Some(id), to, smile }.encode());
                        continue;
                    }
                    let wake = if session.welcomed {
                        self.outbox.next_due().map(|due| self.started + due)
                    } else {
                        Some(session.welcome_by)
                    };
                    match session.step(wake).await {
                        Some(Heard::Frame(frame)) => self.hear(frame),
                        Some(Heard::NotAFrame(why)) => {
                            self.events.push_back(Event::Breach(format!("not a frame of the protocol: {why}")));
                        }
                        Some(Heard::Gone(gone)) => self.lost(gone),
                        None => {}
                    }
                }
            }
        }
    }

    /// Closes the connection, if one is open. Waits at most [`Patience::ping_after`] for the close frame to be written,
    /// and does not wait for the server's answer. The server may or may not have stored the unanswered smiles.
    pub async fn close(self) {
        if let State::Open(session) = self.state {
            session.connection.close().await;
        }
    }

    fn connect(&mut self, wait: Duration) {
        let url = self.urls[self.moves % self.urls.len()].clone();
        let (user, resume_point) = (self.user.clone(), self.resume_point.clone());
        let patience = Patience { connect: self.backoff.connect_timeout(self.patience.connect), ..self.patience };
        self.state = State::Connecting(Box::pin(async move {
            sleep(wait).await;
            Connection::open(&url, &user, resume_point.as_ref(), &patience).await
        }));
    }

    fn session(&self, connection: Connection) -> Session {
        Session {
            connection,
            resumed_from: self.resume_point.as_ref().map(|point| point.offset),
            welcome_by: Instant::now() + self.patience.silence,
            welcomed: false,
            answering: false,
            return_after: None,
            outgoing: None,
        }
    }

    fn not_opened(&mut self, refusal: NotOpened) {
        let NotOpened { cause, message, retry_after, last } = refusal;
        self.events.push_back(Event::NotConnected { cause, message: message.clone() });
        if last {
            self.end(format!("permanently refused: {message}"));
        } else {
            self.reconnect(retry_after);
        }
    }

    fn reconnect(&mut self, hint: Option<Duration>) {
        self.moves += 1;
        let wait = self.backoff.next(hint, &mut rand::rng());
        self.connect(wait);
    }

    fn end(&mut self, breach: String) {
        self.events.extend([Event::Breach(breach), Event::Ended]);
        self.state = State::Ended;
    }

    fn hear(&mut self, frame: ServerFrame) {
        let State::Open(session) = &mut self.state else { return };
        if session.welcomed && !session.answering {
            session.answering = true;
            self.backoff.reset();
            self.events.push_back(Event::Answering);
        }
        let event = match frame {
            ServerFrame::Welcome { replica, epoch, offset, recovered, .. } if !session.welcomed => {
                session.welcomed = true;
                // If no smiles are replayed, the next frame may not come for a long time. The pong shows early that the
                // session works.
                session.outgoing = Some(ClientFrame::Ping.encode());
                self.resume_point = Some(ResumePoint { epoch: epoch.clone(), offset });
                Event::Welcomed { replica, epoch, offset, recovered, resumed_from: session.resumed_from }
            }
            _ if !session.welcomed => Event::Breach("a frame arrived before the welcome".to_owned()),
            ServerFrame::Smile(smile) => {
                self.resume_point.iter_mut().for_each(|point| point.see_smile(smile.offset));
                if smile.from == self.user {
                    self.outbox.settle(&smile.id);
                }
                Event::Received(smile)
            }
            ServerFrame::Ack { id, offset, duplicate } => {
                self.resume_point.iter_mut().for_each(|point| point.see_ack(offset, duplicate));
                self.outbox.settle(&id);
                Event::Acked { id, offset, duplicate }
            }
            ServerFrame::Error { refusal: Refusal { code, retry_after_ms, .. }, id, temporary } => {
                return self.refused(id, code, retry_after_ms, temporary);
            }
            ServerFrame::Drain { reconnect_after_ms } => {
                session.return_after = Some(Duration::from_millis(reconnect_after_ms));
                return;
            }
            ServerFrame::Pong => return,
            ServerFrame::Welcome { .. } | ServerFrame::History { .. } | ServerFrame::Help { .. } => {
                Event::Breach("a frame that the client did not request".to_owned())
            }
        };
        self.events.push_back(event);
    }

    fn refused(&mut self, id: Option<String>, code: ErrorCode, retry_after_ms: Option<u64>, temporary: bool) {
        if let Some(id) = id.as_deref().and_then(SmileId::parse) {
            if temporary {
                let hint = retry_after_ms.map(Duration::from_millis);
                let wait = retry_wait(hint, self.outbox.refusals(&id), &mut rand::rng());
                self.outbox.refuse(&id, self.started.elapsed() + wait);
            } else {
                self.outbox.settle(&id);
            }
        }
        if temporary != code.temporary() {
            let claim = format!("the error {} wrongly says `temporary: {temporary}`", <&str>::from(code));
            self.events.push_back(Event::Breach(claim));
        }
        self.events.push_back(Event::Refused { id, code });
    }

    fn lost(&mut self, Gone { code, since }: Gone) {
        let State::Open(session) = &self.state else { return };
        let hint = session.return_after;
        self.outbox.lose_connection();
        self.events.push_back(if session.welcomed {
            Event::Lost { code, since }
        } else {
            let message = "the server accepted the connection but sent no welcome".to_owned();
            Event::NotConnected { cause: "no_welcome".to_owned(), message }
        });
        match code {
            Some(code @ (1002 | 1003 | 1007 | 1009)) => self.end(format!("closed with {code} despite valid frames")),
            Some(1008) => {
                self.backoff.back_off();
                self.reconnect(hint);
            }
            _ => self.reconnect(hint),
        }
    }
}

impl Session {
    /// If the server has sent no welcome by `wake`, reports the connection as gone.
    async fn step(&mut self, wake: Option<Instant>) -> Option<Heard> {
        if let Some(text) = &self.outgoing {
            if let Err(gone) = self.connection.feed(text).await {
                return Some(Heard::Gone(gone));
            }
            self.outgoing = None;
            return None;
        }
        if let Err(gone) = self.connection.flush().await {
            return Some(Heard::Gone(gone));
        }
        tokio::select! {
            biased;
            heard = self.connection.next() => Some(heard),
            () = wait_until(wake) => (!self.welcomed).then(|| Heard::Gone(self.connection.gone(None))),
        }
    }
}

pub(crate) async fn wait_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offset_of_a_duplicate_does_not_move_a_resume_point() {
        let mut point = ResumePoint { epoch: Epoch::new("e"), offset: Offset(100) };
        point.see_ack(Offset(103), true);
        assert_eq!(point.offset, Offset(100));
        point.see_smile(Offset(101));
        point.see_ack(Offset(102), false);
        point.see_smile(Offset(101));
        assert_eq!(point.offset, Offset(102));
    }
}
