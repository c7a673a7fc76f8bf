//! An in-memory server that speaks the part of the protocol that the simulator uses, and violates the protocol on
//! request. It shares only the model and the frames with the real server, so the tests of the simulator do not depend
//! on the real server.

#![expect(clippy::result_large_err, reason = "the WebSocket library prescribes the error type")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use smilingchat::model::{Epoch, Faces, Offset, Smile, SmileId, Timestamp, User, UserName};
use smilingchat::protocol::{
    self, ClientFrame, CrashAnswer, CrashMode, ErrorCode, PROTOCOL_VERSION, Rates, Refusal, ServerFrame,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use url::Url;

/// A one-time fault happens at the first opportunity once this many smiles are stored.
const AT: u64 = 20;

/// A fault of the server. Unless stated otherwise, the fault happens once (see [`AT`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fault {
    #[default]
    None,
    /// An acked smile is not delivered to the sessions that are open.
    LoseDelivery,
    /// From smile [`AT`] on, all smiles are acked and none is delivered.
    StopDelivering,
    /// A smile is delivered and acked, but every resume omits it as if it were not in the log.
    ForgetStored,
    DoubleDelivery,
    DoubleAck,
    StoreTwice,
    /// Every repeated smile is stored again.
    StoreRepeats,
    /// The offset in an ack differs from the offset in the log.
    AckElsewhere,
    /// The receiver gets two smiles in the wrong order.
    SwapDeliveries,
    /// Two smiles of one session are stored in the wrong order, and are delivered and acked in the order of the log.
    StoreSwapped,
    /// The faces of a smile are altered.
    Alter,
    /// A valid smile is refused permanently.
    RefuseForGood,
    /// A smile is stored and delivered but not answered.
    NoAnswer,
    /// Every resumed session reports `recovered: true` but skips the first missed smile.
    HoleOnResume,
    /// No session can resume: every `welcome` has `recovered: false` and the offset of the head.
    NeverRecover,
    /// Every resumed session reports an epoch other than that of the first sessions.
    OtherEpoch,
}

/// The behaviour of the server. A field with the value n applies to every n-th upgrade, or to every n-th smile frame,
/// counted over all sessions and including repeats; 0 means never. A smile that is refused or acked as a duplicate
/// neither breaks nor hangs a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Behaviour {
    pub(crate) fault: Fault,
    pub(crate) overload_every: u64,
    /// Breaks the sender's connection before the ack of every n-th smile.
    pub(crate) break_every: u64,
    /// Hangs the sender's connection before the ack of every n-th smile: the connection stays open, but is silent.
    pub(crate) hang_every: u64,
    /// Drains the sender's session instead of handling every n-th smile.
    pub(crate) drain_every: u64,
    pub(crate) refuse_upgrade_every: u64,
    /// The maximum number of sessions at the same time; 0 means no limit.
    pub(crate) max_sessions: usize,
    /// Refuses every upgrade after the first n; 0 means no limit.
    pub(crate) upgrades: u64,
    /// The pause before each smile that a resumed session missed.
    pub(crate) replay_pause: Duration,
    /// The time from a crash request, which has no other effect, to its answer.
    pub(crate) crash_pause: Duration,
}

/// Dropping this value stops the server and closes all connections.
pub(crate) struct MisbehavingServer {
    address: SocketAddr,
    world: Arc<Mutex<World>>,
    task: AbortHandle,
}

impl MisbehavingServer {
    pub(crate) async fn start(users: usize, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = Arc::new(Mutex::new(World::new(users, behaviour)));
        let served = Arc::clone(&world);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { address, world, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("ws://{}/ws", self.address)).unwrap()
    }

    /// The number of crash requests so far.
    pub(crate) fn crashes(&self) -> u64 {
        lock(&self.world).crashes
    }

    /// Waits until at least this many smiles are stored.
    pub(crate) async fn stored(&self, count: u64) {
        let mut stored = lock(&self.world).stored_so_far.subscribe();
        stored.wait_for(|&stored| stored >= count).await.unwrap();
    }
}

impl Drop for MisbehavingServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A command to a session.
enum Order {
    Say(ServerFrame),
    Pause(Duration),
    Close(u16),
    Break,
    Hang,
}

struct Session {
    number: u64,
    user: UserName,
    orders: mpsc::UnboundedSender<Order>,
    /// A frame that is held back until a later frame has been sent.
    held: Option<ServerFrame>,
}

struct World {
    behaviour: Behaviour,
    users: Vec<User>,
    log: Vec<Smile>,
    /// The smile that every resume omits.
    forgotten: Option<Offset>,
    ids: HashMap<(UserName, SmileId), Offset>,
    sessions: Vec<Session>,
    /// A smile that is stored after the next smile of its session.
    held: Option<(u64, Smile)>,
    upgrades: u64,
    crashes: u64,
    joined: u64,
    /// The number of smile frames so far.
    frames: u64,
    stored: u64,
    stored_so_far: watch::Sender<u64>,
    /// Whether the one-time fault has happened.
    happened: bool,
}

impl World {
    fn new(users: usize, behaviour: Behaviour) -> Self {
        let user = |number| User { name: UserName::new(&format!("user{number}")), face: "🙂".to_owned() };
        Self {
            behaviour,
            users: (0..users).map(user).collect(),
            log: Vec::new(),
            forgotten: None,
            ids: HashMap::new(),
            sessions: Vec::new(),
            held: None,
            upgrades: 0,
            crashes: 0,
            joined: 0,
            frames: 0,
            stored: 0,
            stored_so_far: watch::Sender::new(0),
            happened: false,
        }
    }

    fn head(&self) -> Offset {
        self.log.last().map_or(Offset(0), |smile| smile.offset)
    }

    fn join(&mut self, user: &UserName, after: Option<Offset>) -> (u64, mpsc::UnboundedReceiver<Order>) {
        let (orders, receiver) = mpsc::unbounded_channel();
        let fault = self.behaviour.fault;
        let recovered = after.is_some() && fault != Fault::NeverRecover;
        let start = after.filter(|_| recovered).unwrap_or_else(|| self.head());
        let epoch = if after.is_some() && fault == Fault::OtherEpoch { "other" } else { "epoch" };
        let welcome = ServerFrame::Welcome {
            v: PROTOCOL_VERSION,
            user: user.clone(),
            session: self.joined.to_string(),
            replica: "misbehaving.1".to_owned(),
            epoch: Epoch::new(epoch),
            offset: start,
            recovered,
            ping_interval_ms: 25_000,
            limits: Rates { session_per_second: 0, session_burst: 0 },
        };
        let _ = orders.send(Order::Say(welcome));
        let concerns = |smile: &&Smile| smile.from == *user || smile.to == *user;
        let missed = self.log.iter().filter(concerns).filter(|smile| smile.offset > start);
        let hole = usize::from(recovered && fault == Fault::HoleOnResume);
        for smile in missed.skip(hole).filter(|smile| Some(smile.offset) != self.forgotten) {
            let _ = orders.send(Order::Pause(self.behaviour.replay_pause));
            let _ = orders.send(Order::Say(ServerFrame::Smile(smile.clone())));
        }
        self.joined += 1;
        self.sessions.push(Session { number: self.joined, user: user.clone(), orders, held: None });
        (self.joined, receiver)
    }

    fn tell(&mut self, number: u64, order: Order) {
        if let Some(session) = self.sessions.iter().find(|session| session.number == number) {
            let _ = session.orders.send(order);
        }
    }

    /// Whether the fault happens now. It happens once, at the first call with at least [`AT`] stored smiles.
    fn due(&mut self, fault: Fault) -> bool {
        let due = self.behaviour.fault == fault && self.stored >= AT && !self.happened;
        self.happened |= due;
        due
    }

    fn smile(&mut self, number: u64, from: &UserName, id: SmileId, to: UserName, faces: &str) {
        self.frames += 1;
        let every = |count: u64| self.frames.is_multiple_of(count);
        let Behaviour { overload_every, break_every, hang_every, drain_every, .. } = self.behaviour;
        let (overloaded, broken, hung) = (every(overload_every), every(break_every), every(hang_every));
        if every(drain_every) {
            self.tell(number, Order::Say(ServerFrame::Drain { reconnect_after_ms: 5 }));
            return self.tell(number, Order::Close(1012));
        }
        let refuse = |refusal: Refusal| Order::Say(ServerFrame::refusal(refusal, Some(id.as_str().to_owned())));
        if overloaded {
            let refusal = Refusal::temporary(ErrorCode::Overloaded, "full", Duration::from_millis(5));
            return self.tell(number, refuse(refusal));
        }
        let repeat = self.ids.get(&(from.clone(), id.clone())).copied();
        if let Some(offset) = repeat.filter(|_| self.behaviour.fault != Fault::StoreRepeats) {
            return self.tell(number, Order::Say(ServerFrame::Ack { id, offset, duplicate: true }));
        }
        if self.due(Fault::RefuseForGood) {
            return self.tell(number, refuse(Refusal::permanent(ErrorCode::NotASmile, "not today")));
        }
        if broken {
            self.tell(number, Order::Break);
        }
        if hung {
            self.tell(number, Order::Hang);
        }
        let faces = if self.due(Fault::Alter) { Faces::from_stored("🙈") } else { Faces::from_stored(faces) };
        let smile = Smile { offset: Offset(0), id, from: from.clone(), to, faces, at: Timestamp::now() };
        if self.due(Fault::StoreSwapped) {
            self.held = Some((number, smile));
            return;
        }
        self.store(number, smile.clone());
        if self.due(Fault::StoreTwice) {
            self.store(number, smile);
        }
        if let Some((_, smile)) = self.held.take_if(|(holder, _)| *holder == number) {
            self.store(number, smile);
        }
    }

    fn store(&mut self, sender: u64, mut smile: Smile) {
        self.stored += 1;
        self.stored_so_far.send_replace(self.stored);
        smile.offset = self.head().next();
        self.ids.entry((smile.from.clone(), smile.id.clone())).or_insert(smile.offset);
        self.log.push(smile.clone());
        if self.due(Fault::ForgetStored) {
            self.forgotten = Some(smile.offset);
        }
        let receives =
            |session: &Session| session.number != sender && [&smile.to, &smile.from].contains(&&session.user);
        let delivered = self.sessions.iter().any(receives);
        let (lose, double) = (delivered && self.due(Fault::LoseDelivery), delivered && self.due(Fault::DoubleDelivery));
        let swap = delivered && self.due(Fault::SwapDeliveries);
        let double_ack = self.due(Fault::DoubleAck);
        let (elsewhere, silent) = (self.due(Fault::AckElsewhere), self.due(Fault::NoAnswer));
        let stopped = self.behaviour.fault == Fault::StopDelivering && self.stored >= AT;
        for session in &mut self.sessions {
            let say = |frame| drop(session.orders.send(Order::Say(frame)));
            if session.number == sender {
                let offset = Offset(smile.offset.0 + u64::from(elsewhere));
                let ack = ServerFrame::Ack { id: smile.id.clone(), offset, duplicate: false };
                let copies = if silent { 0 } else { 1 + usize::from(double_ack) };
                (0..copies).for_each(|_| say(ack.clone()));
            } else if session.user == smile.to || session.user == smile.from {
                let frame = ServerFrame::Smile(smile.clone());
                if swap {
                    session.held = Some(frame);
                } else if !lose && !stopped {
                    (0..=usize::from(double)).for_each(|_| say(frame.clone()));
                    session.held.take().into_iter().for_each(say);
                }
            }
        }
    }
}

fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(mut stream: TcpStream, world: Arc<Mutex<World>>) {
    let mut head = [0; 14];
    while stream.peek(&mut head).await.is_ok_and(|length| length > 0 && length < head.len()) {}
    if head.starts_with(b"GET /api/users") {
        let body = protocol::to_json(&lock(&world).users);
        return answer(&mut stream, b"\r\n\r\n", &body, Duration::ZERO).await;
    }
    if head.starts_with(b"POST /api/cras") {
        let pause = {
            let mut world = lock(&world);
            world.crashes += 1;
            world.behaviour.crash_pause
        };
        let crash = CrashAnswer { replica: "misbehaving.1".to_owned(), mode: CrashMode::Exit };
        return answer(&mut stream, b"{}", &protocol::to_json(&crash), pause).await;
    }
    let mut asked = None;
    let handshake = |request: &Request, response: Response| upgrade(request, response, &world, &mut asked);
    let Ok(mut socket) = tokio_tungstenite::accept_hdr_async(stream, handshake).await else { return };
    let Some((user, after)) = asked else { return };
    let (number, mut orders) = lock(&world).join(&user, after);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Say(frame)) => {
                    let text = Utf8Bytes::try_from(frame.encode()).expect("the JSON was not UTF-8");
                    if socket.send(Message::Text(text)).await.is_err() { break }
                }
                Some(Order::Pause(pause)) => tokio::time::sleep(pause).await,
                Some(Order::Close(code)) => {
                    let _ = socket.close(Some(CloseFrame { code: code.into(), reason: "".into() })).await;
                    break;
                }
                Some(Order::Hang) => std::future::pending().await,
                Some(Order::Break) | None => break,
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => handle(&text, number, &user, &world),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => break,
            },
        }
    }
    lock(&world).sessions.retain(|session| session.number != number);
}

fn handle(text: &str, number: u64, user: &UserName, world: &Mutex<World>) {
    let mut world = lock(world);
    match ClientFrame::decode(text) {
        Ok(ClientFrame::Smile { id: Some(id), to, smile }) => world.smile(number, user, id, to, &smile),
        Ok(ClientFrame::Ping) => world.tell(number, Order::Say(ServerFrame::Pong)),
        other => panic!("the simulator sent an unexpected or malformed frame: {other:?}"),
    }
}

fn upgrade(
    request: &Request,
    response: Response,
    world: &Mutex<World>,
    asked: &mut Option<(UserName, Option<Offset>)>,
) -> Result<Response, ErrorResponse> {
    let mut world = lock(world);
    let Behaviour { refuse_upgrade_every, max_sessions, upgrades, .. } = world.behaviour;
    world.upgrades += 1;
    if world.upgrades.is_multiple_of(refuse_upgrade_every)
        || (max_sessions > 0 && world.sessions.len() >= max_sessions)
        || (upgrades > 0 && world.upgrades > upgrades)
    {
        let refusal = Refusal::temporary(ErrorCode::Draining, "leaving", Duration::from_millis(5));
        let body = protocol::to_json(&refusal);
        let refusal = ErrorResponse::new(Some(body));
        let (mut parts, body) = refusal.into_parts();
        parts.status = 503.try_into().unwrap();
        return Err(ErrorResponse::from_parts(parts, body));
    }
    let url = Url::parse(&format!("ws://server{}", request.uri())).unwrap();
    let query: HashMap<_, _> = url.query_pairs().into_owned().collect();
    let after = query.get("after").map(|after| Offset(after.parse().unwrap()));
    assert_eq!(query.contains_key("epoch"), after.is_some(), "an upgrade had only one of `after` and `epoch`");
    *asked = Some((UserName::new(&query["user"]), after));
    Ok(response)
}

/// Reads a request up to `end`, and sends `body` after the pause.
async fn answer(stream: &mut TcpStream, end: &[u8], body: &str, pause: Duration) {
    let mut request = Vec::new();
    while !request.ends_with(end) {
        let Ok(byte) = stream.read_u8().await else { return };
        request.push(byte);
    }
    tokio::time::sleep(pause).await;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = stream.write_all(answer.as_bytes()).await;
}
