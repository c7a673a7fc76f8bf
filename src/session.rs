//! One session: a WebSocket of one user, from `welcome` to close.
//!
//! ```text
//! subscribe -> welcome -> catch up (when resuming) -> live <-> catch up (when lagged) -> close
//! ```
//!
//! A session receives all smiles to and from its user through the log. It turns the publication of a smile that it
//! submitted into the ack. Once the session has sent a smile or an ack with offset n, it has sent the user's whole
//! stream from the start of the session up to n. Histories and acks of duplicates do not count.

mod heartbeat;
mod incoming;
mod outgoing;
mod socket;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use tokio::task::unconstrained;

use crate::config::SessionTimes;
use crate::hub::{Hub, Subscription};
use crate::index::Index;
use crate::limits::{Bucket, FaultBudget};
use crate::log::AppendQueue;
use crate::model::{Offset, UserName};
use crate::protocol::{CloseReason, PROTOCOL_VERSION, Rates, ServerFrame};
use crate::replica::Replica;
use crate::store::Store;
use crate::tail::Tail;
use crate::telemetry::Metrics;
use heartbeat::{Due, Heartbeat};
use outgoing::SmileInFlight;
use socket::Incoming;
pub(crate) use socket::Socket;

const MAX_IN_FLIGHT: usize = 128;

/// Maximum time that a leaving session waits for the outcomes of its smiles in flight. The deadline does not interrupt
/// the delivery of outcomes that have arrived.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);

/// Upper bound on the random `reconnect_after_ms` in a `drain` frame. Without randomness, clients that leave together
/// would reconnect together.
const RECONNECT_SPREAD_MS: u64 = 500;

/// State that all sessions of a replica share.
pub(crate) struct Context {
    pub replica: Arc<Replica>,
    pub store: Store,
    pub queue: Arc<AppendQueue>,
    pub tail: Arc<Tail>,
    pub hub: Arc<Hub>,
    pub index: Index,
    pub rates: Rates,
    pub times: SessionTimes,
    pub metrics: Arc<Metrics>,
}

/// Where a session starts in the log. The label `start` of `sessions_opened_total` is the variant in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Start {
    /// At the tail's cursor: the client did not ask to resume.
    Fresh,
    /// After this offset: the log holds everything that follows.
    Recovered(Offset),
    /// At the tail's cursor: the session cannot resume after the client's offset.
    NotRecovered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed the session with this code; 1005 if its close frame has none.
    ByClient(u16),
    ByServer(CloseReason),
    /// The connection broke, or the server aborted the session at the end of a drain.
    Broken,
}

pub(crate) async fn run(context: Arc<Context>, socket: Socket, user: UserName, start: Start) -> End {
    let now = Instant::now();
    let bucket = Bucket::new(context.rates.session_per_second, context.rates.session_burst, now);
    let mut session = Session {
        subscription: context.hub.subscribe(&user),
        heartbeat: Heartbeat::new(context.times, now),
        context,
        user,
        socket,
        offset: Offset::default(),
        in_flight: VecDeque::new(),
        smiles: bucket.clone(),
        histories: bucket,
        faults: FaultBudget::default(),
        leave: None,
    };
    let Err(end) = session.serve(start).await;
    match end {
        End::ByServer(reason) => session.socket.close(reason).await,
        End::ByClient(_) => session.socket.answer_close().await,
        End::Broken => {}
    }
    tracing::debug!(
        user = %session.user,
        session = session.subscription.outbox.session,
        ended = ?end,
        "session closed"
    );
    end
}

struct Session {
    context: Arc<Context>,
    user: UserName,
    socket: Socket,
    subscription: Subscription,
    /// The user's stream from the start of the session up to this offset has been sent.
    offset: Offset,
    /// Oldest first.
    in_flight: VecDeque<SmileInFlight>,
    smiles: Bucket,
    histories: Bucket,
    faults: FaultBudget,
    heartbeat: Heartbeat,
    /// Why the session must leave; `None` until it is asked to leave.
    leave: Option<CloseReason>,
}

impl Session {
    /// Sends `welcome`, and the smiles that a resuming client missed.
    async fn welcome(&mut self, start: Start) -> Result<(), End> {
        // Read after subscribing: every smile of the user beyond this cursor reaches the outbox or makes it overflow.
        let cursor = self.context.tail.cursor();
        let (offset, recovered) = match start {
            Start::Recovered(offset) => (offset, true),
            Start::Fresh | Start::NotRecovered => (cursor, false),
        };
        self.offset = offset;
        self.context.metrics.sessions_opened.with_label_values(&[<&str>::from(start)]).inc();
        let welcome = ServerFrame::Welcome {
            v: PROTOCOL_VERSION,
            user: self.user.clone(),
            session: format!("{}-{}", self.context.replica.id, self.subscription.outbox.session),
            replica: self.context.replica.id.clone(),
            epoch: self.context.tail.epoch.clone(),
            offset,
            recovered,
            ping_interval_ms: u64::try_from(self.context.times.ping_interval.as_millis()).unwrap_or(u64::MAX),
            limits: self.context.rates,
        };
        self.socket.send(welcome.encode()).await?;
        Box::pin(self.catch_up(cursor)).await
    }

    async fn serve(&mut self, start: Start) -> Result<Infallible, End> {
        self.welcome(start).await?;
        let mut alarm = pin!(tokio::time::sleep_until(self.heartbeat.deadline.into()));
        loop {
            if let Some(reason) = self.leave {
                Box::pin(self.leave_now(reason)).await?;
            }
            let deadline = self.heartbeat.deadline.into();
            if alarm.deadline() != deadline {
                alarm.as_mut().reset(deadline);
            }
            // Back-pressure: at the limit the session stops reading, and TCP slows the client down.
            let reads = self.in_flight.len() < MAX_IN_FLIGHT;
            tokio::select! {
                taken = self.subscription.take() => self.deliver(taken).await?,
                incoming = self.socket.next(), if reads => self.receive(incoming?).await?,
                () = alarm.as_mut() => match self.heartbeat.deadline_passed(Instant::now(), reads) {
                    Some(Due::Ping) => self.socket.ping().await?,
                    // The pong may be among what has arrived: of two ready branches, `select!` takes a random one.
                    Some(Due::NoPong) => match unconstrained(self.socket.next()).now_or_never() {
                        Some(incoming) => self.receive(incoming?).await?,
                        None => return Err(End::ByServer(CloseReason::NoPong)),
                    },
                    None => {}
                },
            }
        }
    }

    async fn receive(&mut self, incoming: Incoming) -> Result<(), End> {
        match incoming {
            Incoming::Text(text) => self.frame(&text).await?,
            Incoming::Ping(payload) => self.socket.pong(payload).await?,
            Incoming::Pong => self.heartbeat.pong(Instant::now()),
        }
        Ok(())
    }

    async fn leave_now(&mut self, reason: CloseReason) -> Result<(), End> {
        let deadline = tokio::time::Instant::now() + LAST_ANSWERS_TIMEOUT;
        while !self.in_flight.is_empty() {
            let Ok(taken) = tokio::time::timeout_at(deadline, self.subscription.take()).await else { break };
            self.deliver(taken).await?;
        }
        let reconnect_after_ms = rand::random_range(0..=RECONNECT_SPREAD_MS);
        self.socket.send(ServerFrame::Drain { reconnect_after_ms }.encode()).await?;
        Err(End::ByServer(reason))
    }
}
