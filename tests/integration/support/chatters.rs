//! Users that keep sending smiles during faults. Each sends one smile at a time, and repeats it until it is acked.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::client::{Event, TestClient, offset};
use super::ledger::Ledger;
use super::within;

/// Each chatter's user, and the user to whom it sends. Simulations of at most 30 conversations use none of these
/// users.
const PAIRS: [(&str, &str); 6] = [
    ("rosa", "stefano"),
    ("stefano", "rosa"),
    ("adele", "adriano"),
    ("adriano", "agata"),
    ("agnese", "adele"),
    ("alba", "alberto"),
];

const FACES: [&str; 4] = ["😀", "😎", "🥰", "😜"];

/// How long a user waits for a session to open before it tries the next replica.
const OPENED: Duration = Duration::from_secs(2);

/// How long a user waits for the next frame before it abandons the session.
const ANSWERED: Duration = Duration::from_secs(4);

/// The pause after each acked smile.
const PACE: Duration = Duration::from_millis(100);

/// The pause after each failed attempt to open a session.
const AGAIN: Duration = Duration::from_millis(100);

pub(crate) struct Chatters {
    stop: CancellationToken,
    users: JoinSet<()>,
}

impl Chatters {
    pub(crate) fn start(replicas: &[SocketAddr], ledger: &Ledger) -> Self {
        let stop = CancellationToken::new();
        let mut users = JoinSet::new();
        for (place, (user, to)) in PAIRS.into_iter().enumerate() {
            let chatter =
                Chatter { user, to, replicas: replicas.to_vec(), at: place, ledger: ledger.clone(), client: None };
            users.spawn(chatter.run(stop.clone()));
        }
        Self { stop, users }
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        within("the last smiles are acked", self.users.join_all()).await;
    }
}

struct Chatter {
    user: &'static str,
    to: &'static str,
    replicas: Vec<SocketAddr>,
    /// The index of the replica for the next session, modulo the number of replicas.
    at: usize,
    ledger: Ledger,
    client: Option<TestClient>,
}

impl Chatter {
    async fn run(mut self, stop: CancellationToken) {
        let (mut number, mut last) = (0, 0);
        while !stop.is_cancelled() {
            let id = format!("{}-{number}", self.user);
            let faces = FACES[number % FACES.len()];
            let smile = json!({"type": "smile", "id": id, "to": self.to, "smile": faces}).to_string();
            let offset = loop {
                if let Some(offset) = self.send(&id, &smile).await {
                    break offset;
                }
            };
            assert!(offset > last, "{id} was at {offset}, but the smile before it was at {last}");
            (number, last) = (number + 1, offset);
            sleep(PACE).await;
        }
    }

    /// Sends a smile once. Returns `None` if no session opens, if the session ends or hangs, or if the smile is refused
    /// temporarily; in the last case, first waits as long as the hint says.
    async fn send(&mut self, id: &str, smile: &str) -> Option<u64> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => self.open().await?,
        };
        client.try_send(smile).await.ok()?;
        loop {
            match timeout(ANSWERED, client.event()).await {
                Ok(Event::Frame(frame)) if frame["type"] == "ack" => {
                    assert_eq!(frame["id"], id, "another smile was acked: {frame}");
                    self.client = Some(client);
                    return Some(offset(&frame));
                }
                Ok(Event::Frame(frame)) if frame["type"] == "error" => {
                    assert_eq!(frame["temporary"], true, "the smile was refused permanently: {frame}");
                    let hint = frame["retry_after_ms"].as_u64().expect("a hint");
                    sleep(Duration::from_millis(hint)).await;
                    self.client = Some(client);
                    return None;
                }
                Ok(Event::Frame(_)) => {}
                Ok(Event::Closed(_) | Event::Broken) | Err(_) => return None,
            }
        }
    }

    async fn open(&mut self) -> Option<TestClient> {
        let replica = self.replicas[self.at % self.replicas.len()];
        self.at += 1;
        let query = format!("?user={}", self.user);
        if let Ok(Ok(client)) = timeout(OPENED, TestClient::open(replica, &query)).await {
            return Some(client.recording(&self.ledger));
        }
        sleep(AGAIN).await;
        None
    }
}
