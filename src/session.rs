//! One session: a WebSocket of one user, from `welcome` to close.
//!
//! Owns the order of its frames and its position in the log. Must not know HTTP, SQL or other sessions: what it
//! receives comes from its outbox or from the log, what it sends goes to the log's queue.
//!
//! ```text
//! subscribe -> welcome -> catch up (when resuming) -> live <-> catch up (when lagged) -> close
//! ```
//!
//! The log is the only way to receive, for the sender's ack too: the session turns the publication of its own smile
//! into the ack. So whatever it has sent up to offset n is all of its user's stream up to n.

mod heartbeat;
mod incoming;
mod outgoing;
mod pending;
mod socket;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::SessionTimes;
use crate::hub::{Hub, Subscription};
use crate::limits::{Bucket, Capacity, FaultBudget};
use crate::log::Log;
use crate::model::{Epoch, Offset, UserName};
use crate::protocol::{CloseReason, Rates, ServerFrame};
use crate::store::Store;
use crate::tail::Position;
use crate::telemetry::Metrics;
use heartbeat::{Beat, Heartbeat};
use pending::Pending;
use socket::Incoming;
pub use socket::{Socket, SocketError};

/// How long a leaving session waits for the outcome of smiles that are on their way to the log.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Clients that are let go are asked to come back within this time, each at its own moment.
const RECONNECT_SPREAD_MS: u64 = 500;

/// What every session of a replica shares.
#[derive(Debug)]
pub struct Context {
    /// Id of the replica.
    pub replica: String,
    /// Identity of the log.
    pub epoch: Epoch,
    /// For users, histories and catching up.
    pub store: Store,
    /// Where smiles go.
    pub log: Log,
    /// Where smiles come from.
    pub hub: Arc<Hub>,
    /// Where the tail is.
    pub position: Position,
    /// What the replica admits.
    pub capacity: Arc<Capacity>,
    /// What one session may send.
    pub rates: Rates,
    /// When a session gives up on its client.
    pub times: SessionTimes,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Set once, when the replica leaves.
    pub departure: watch::Receiver<Option<Departure>>,
}

/// How the sessions of a leaving replica are let go: in batches, so that their clients do not all come back at once.
#[derive(Clone, Copy, Debug)]
pub struct Departure {
    /// How many batches there are.
    pub batches: u64,
    /// From one batch to the next.
    pub interval: Duration,
}

/// Whose session it is and where it starts.
#[derive(Clone, Debug)]
pub struct Opening {
    /// A user of the store.
    pub user: UserName,
    /// Where to resume: an offset of this log that it still reaches back to. `None` starts at the head.
    pub resume: Option<Offset>,
    /// Whether the client asked to resume.
    pub asked_to_resume: bool,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The client closed it, with this code.
    ByClient(u16),
    /// The server closed it.
    ByServer(CloseReason),
    /// The connection broke.
    Broken,
}

/// Why a session is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client closed it, with this code.
    ByClient(u16),
    /// The connection broke.
    Broken,
    /// The server closes it.
    Close(CloseReason),
}

impl From<SocketError> for End {
    fn from(error: SocketError) -> Self {
        match error {
            SocketError::Broken => Self::Broken,
            SocketError::Violation(reason) => Self::Close(reason),
            SocketError::Stuck => Self::Close(CloseReason::Slow),
        }
    }
}

/// Runs a session to its end. Returns how it ended.
pub async fn run(context: Arc<Context>, socket: Socket, opening: Opening) -> Ended {
    let subscription = context.hub.subscribe(&opening.user);
    let mut session = Session::new(Arc::clone(&context), socket, subscription, &opening);
    let end = match session.welcome(&opening).await {
        Ok(()) => session.live().await,
        Err(end) => end,
    };
    let ended = match end {
        End::ByClient(code) => Ended::ByClient(code),
        End::Broken => Ended::Broken,
        End::Close(reason) => {
            session.socket.close(reason).await;
            Ended::ByServer(reason)
        }
    };
    tracing::debug!(user = %opening.user, session = session.subscription.session(), ?ended, "session closed");
    ended
}

struct Session {
    context: Arc<Context>,
    user: UserName,
    socket: Socket,
    subscription: Subscription,
    /// Everything of the user's stream up to here was sent.
    position: Offset,
    pending: Pending,
    smiles: Bucket,
    histories: Bucket,
    faults: FaultBudget,
    heartbeat: Heartbeat,
    departure: watch::Receiver<Option<Departure>>,
    /// When to leave, and why, once that is known.
    leave: Option<(Instant, CloseReason)>,
}

impl Session {
    fn new(context: Arc<Context>, socket: Socket, subscription: Subscription, opening: &Opening) -> Self {
        let now = Instant::now();
        let bucket = Bucket::new(context.rates.session_per_second, context.rates.session_burst, now);
        Self {
            user: opening.user.clone(),
            position: Offset::default(),
            pending: Pending::default(),
            smiles: bucket.clone(),
            histories: bucket,
            faults: FaultBudget::default(),
            heartbeat: Heartbeat::new(context.times, now),
            departure: context.departure.clone(),
            leave: None,
            context,
            socket,
            subscription,
        }
    }

    /// Says where the session starts, and sends what lies between there and now. A fresh one starts at the head of the
    /// log as this replica knows it: what its tail has not seen yet comes as live smiles.
    async fn welcome(&mut self, opening: &Opening) -> Result<(), End> {
        // The subscription is older than this, so that nothing falls between.
        let now_at = self.context.position.get();
        let recovered = opening.resume.is_some();
        self.position = opening.resume.unwrap_or(now_at);
        let start = match (opening.asked_to_resume, recovered) {
            (false, _) => "fresh",
            (true, true) => "recovered",
            (true, false) => "not_recovered",
        };
        self.context.metrics.sessions_opened.with_label_values(&[start]).inc();
        let welcome = ServerFrame::welcome(
            self.user.clone(),
            format!("{}-{}", self.context.replica, self.subscription.session()),
            self.context.replica.clone(),
            (self.context.epoch.clone(), self.position, recovered),
            self.context.times.ping_interval,
            self.context.rates,
        );
        self.socket.send(welcome.encode()).await?;
        if recovered { Box::pin(self.catch_up(now_at)).await } else { Ok(()) }
    }

    /// Sends and receives until something ends it.
    async fn live(&mut self) -> End {
        loop {
            let deadline = self.next_deadline().into();
            let turn = tokio::select! {
                push = self.subscription.next() => match push {
                    Some(push) => self.deliver(push).await,
                    None => Err(End::Close(CloseReason::Internal)),
                },
                // A session with as many smiles in flight as it may have is not read: its client feels TCP's pressure.
                frame = self.socket.next(), if self.pending.has_room() => match frame {
                    Ok(frame) => self.receive(frame).await,
                    Err(error) => Err(error.into()),
                },
                () = tokio::time::sleep_until(deadline) => self.deadline_passed().await,
                Ok(()) = self.departure.changed(), if self.leave.is_none() => {
                    self.plan_departure();
                    Ok(())
                }
            };
            if let Err(end) = turn {
                return end;
            }
        }
    }

    async fn receive(&mut self, frame: Incoming) -> Result<(), End> {
        match frame {
            Incoming::Text(text) => self.frame(&text).await,
            Incoming::Pong => {
                self.heartbeat.pong(Instant::now());
                Ok(())
            }
            Incoming::Close(code) => {
                // The client has gone; whether the answering close still reaches it changes nothing here.
                let _ = self.socket.flush().await;
                Err(End::ByClient(code))
            }
            Incoming::Nothing => Ok(()),
        }
    }

    fn next_deadline(&self) -> Instant {
        self.leave.map_or(self.heartbeat.deadline(), |(at, _)| at.min(self.heartbeat.deadline()))
    }

    async fn deadline_passed(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if let Some((_, reason)) = self.leave.filter(|(at, _)| *at <= now) {
            return Err(Box::pin(self.take_leave(reason)).await);
        }
        match self.heartbeat.deadline_passed(now) {
            None => Ok(()),
            Some(Beat::Ping) => Ok(self.socket.ping().await?),
            Some(Beat::Dead) if !self.pending.has_room() => {
                self.heartbeat.forgive(now);
                Ok(())
            }
            Some(Beat::Dead) => Err(End::Close(CloseReason::NoPong)),
        }
    }

    fn plan_departure(&mut self) {
        if let Some(departure) = *self.departure.borrow_and_update() {
            let batch = self.subscription.session() % departure.batches.max(1);
            let wait = departure.interval * u32::try_from(batch).unwrap_or(u32::MAX);
            self.leave = Some((Instant::now() + wait, CloseReason::Restart));
        }
    }

    /// Answers what is still on its way to the log, gives notice, and ends.
    async fn take_leave(&mut self, reason: CloseReason) -> End {
        let last_moment = tokio::time::Instant::now() + LAST_ANSWERS;
        while !self.pending.is_empty() {
            let push = tokio::time::timeout_at(last_moment, self.subscription.next()).await;
            let Ok(Some(push)) = push else { break };
            if let Err(end) = self.deliver(push).await {
                return end;
            }
        }
        let reconnect_after_ms = rand::random_range(0..=RECONNECT_SPREAD_MS);
        match self.socket.send(ServerFrame::Drain { reconnect_after_ms }.encode()).await {
            Ok(()) => End::Close(reason),
            Err(error) => error.into(),
        }
    }
}
