//! Durability (promise 1): an acked smile survives every kill. The tests kill the real program repeatedly under load:
//! one replica on SQLite, and two replicas on MySQL.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::{Event, TestClient, id, offset, smile};
use crate::support::environment::seed;
use crate::support::ledger::{Ledger, StoredLog};
use crate::support::mysql::TestDatabase;
use crate::support::process::TestProcess;
use crate::support::replica::TestStore;
use crate::support::{UNLIMITED, eventually, get_json, metric};

/// The user of each client, and the user to whom that client sends.
const PAIRS: [(&str, &str); 4] = [("anna", "bruno"), ("bruno", "anna"), ("carla", "anna"), ("dario", "carla")];

/// The maximum number of smiles in flight per client.
const IN_FLIGHT: usize = 40;

#[derive(Default)]
struct Sender {
    /// The ids, in the order in which they were first sent.
    sent: Vec<String>,
    acked: BTreeMap<String, u64>,
    refused: BTreeSet<String>,
}

impl Sender {
    /// Sends until the connection closes or breaks: first the unanswered smiles one by one, then new smiles, up to
    /// [`IN_FLIGHT`] at a time.
    async fn send(mut self, mut client: TestClient, to: &str, acks: Arc<AtomicUsize>) -> Self {
        let answered = |id: &String| self.acked.contains_key(id) || self.refused.contains(id);
        let mut again: VecDeque<String> = self.sent.iter().filter(|id| !answered(id)).cloned().collect();
        let mut in_flight = 0;
        loop {
            let repeats = !again.is_empty();
            while in_flight < if repeats { 1 } else { IN_FLIGHT } {
                let id = again.front().cloned().unwrap_or_else(|| {
                    self.sent.push(format!("{to}-{}", self.sent.len()));
                    self.sent[self.sent.len() - 1].clone()
                });
                if client.try_send(&smile(&id, to).to_string()).await.is_err() {
                    return self;
                }
                in_flight += 1;
            }
            match client.event().await {
                Event::Frame(frame) if frame["type"] == "smile" => {}
                Event::Frame(frame) => {
                    in_flight -= 1;
                    if frame["type"] == "ack" {
                        acks.fetch_add(1, Ordering::Relaxed);
                        assert_eq!(self.acked.insert(id(&frame), offset(&frame)), None, "acked twice: {frame}");
                        again.pop_front();
                    } else {
                        // The code is `overloaded`, or `store_unavailable` if the store is slow.
                        assert_eq!(frame["temporary"], true, "a smile was refused permanently: {frame}");
                        if !repeats {
                            self.refused.insert(id(&frame));
                        }
                    }
                }
                Event::Closed(_) | Event::Broken => return self,
            }
        }
    }
}

async fn start(
    addresses: &[SocketAddr],
    senders: Vec<Sender>,
    acks: &Arc<AtomicUsize>,
    ledger: &Ledger,
) -> JoinSet<(usize, Sender)> {
    let mut running = JoinSet::new();
    for (place, sender) in senders.into_iter().enumerate() {
        let (user, to) = PAIRS[place];
        let client = TestClient::connect(addresses[place % addresses.len()], user).await.recording(ledger);
        let acks = Arc::clone(acks);
        running.spawn(async move { (place, sender.send(client, to, acks).await) });
    }
    running
}

async fn ended(running: JoinSet<(usize, Sender)>) -> Vec<Sender> {
    let mut ended = running.join_all().await;
    ended.sort_by_key(|(place, _)| *place);
    ended.into_iter().map(|(_, sender)| sender).collect()
}

async fn until_more_acks(acks: &AtomicUsize, count: usize) {
    let enough = acks.load(Ordering::Relaxed) + count;
    eventually("enough acks arrive", async || acks.load(Ordering::Relaxed) >= enough).await;
}

/// Waits until a whole segment awaits indexing, so that a kill is likely to interrupt an index write.
async fn until_a_segment_is_due(process: &TestProcess) {
    let behind = async || metric(process.ops_address, "smilingchat_index_behind").await.unwrap();
    eventually("a segment waits to be indexed", async || behind().await >= 4096.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_smiles_survive_every_kill() {
    let mut random = StdRng::seed_from_u64(seed());
    let store = TestStore::new();
    let mut senders: Vec<Sender> = PAIRS.iter().map(|_| Sender::default()).collect();
    let mut epoch = None;
    let (acks, ledger) = (Arc::new(AtomicUsize::new(0)), Ledger::default());
    for round in 0..5 {
        let mut process = TestProcess::start(&store.path(), &UNLIMITED).await;
        let found = get_json(process.address, "/api/replicas").await["epoch"].clone();
        assert_eq!(*epoch.get_or_insert_with(|| found.clone()), found, "the epoch changed");
        let running = start(&[process.address], senders, &acks, &ledger).await;
        until_more_acks(&acks, random.random_range(1..5000)).await;
        if round > 2 {
            until_a_segment_is_due(&process).await;
        }
        process.kill().await;
        senders = ended(running).await;

        let mut process = TestProcess::start(&store.path(), &UNLIMITED).await;
        check(process.address, epoch.as_ref().and_then(Value::as_str).unwrap(), &senders, &mut random).await;
        ledger.assert_in(&StoredLog::in_sqlite(&store).await);
        process.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acked_smiles_survive_kills_of_two_replicas() {
    let Some(database) = TestDatabase::new().await else { return };
    let mut random = StdRng::seed_from_u64(seed());
    let url = database.url();
    let start_one = async || TestProcess::on_mysql(&url, &UNLIMITED).await;
    let mut senders: Vec<Sender> = PAIRS.iter().map(|_| Sender::default()).collect();
    let (acks, ledger) = (Arc::new(AtomicUsize::new(0)), Ledger::default());
    let mut replicas = [start_one().await, start_one().await];
    let epoch = get_json(replicas[0].address, "/api/replicas").await["epoch"].as_str().unwrap().to_owned();
    for _ in 0..3 {
        let addresses = replicas.each_ref().map(|replica| replica.address);
        let running = start(&addresses, senders, &acks, &ledger).await;
        until_more_acks(&acks, random.random_range(1..4000)).await;
        let first = random.random_range(0..2);
        until_a_segment_is_due(&replicas[first]).await;
        replicas[first].kill().await;
        until_more_acks(&acks, random.random_range(1..1000)).await;
        replicas[1 - first].kill().await;
        senders = ended(running).await;
        replicas = [start_one().await, start_one().await];
        check(replicas[first].address, &epoch, &senders, &mut random).await;
    }
    let behind = async || metric(replicas[0].ops_address, "smilingchat_index_behind").await.unwrap();
    eventually("the restarted replicas continue the index", async || behind().await < 4096.0).await;
    check(replicas[0].address, &epoch, &senders, &mut random).await;
    ledger.assert_in(&database.log().await);
}

/// Checks the whole log, read through resumes, against the acks, and the history of each pair against the log. Sends
/// some acked smiles again: each repeat must be acked as a duplicate.
async fn check(address: SocketAddr, epoch: &str, senders: &[Sender], random: &mut StdRng) {
    let mut log: BTreeMap<u64, Value> = BTreeMap::new();
    for user in ["anna", "bruno", "carla", "dario"] {
        let mut client = TestClient::resume(address, user, 0, epoch).await;
        assert!(client.recovered());
        let replayed = client.replayed().await;
        assert!(replayed.iter().map(offset).is_sorted_by(|one, next| one < next), "{user}'s stream was out of order");
        for frame in replayed {
            let at = offset(&frame);
            if let Some(other) = log.insert(at, frame.clone()) {
                assert_eq!(other, frame, "two users received different smiles at one offset");
            }
        }
    }
    let head = get_json(address, "/api/replicas").await["head"].as_u64().expect("the list should have a head");
    assert!(log.keys().copied().eq(1..=head), "the log did not hold exactly the offsets from 1 to {head}");
    for (sender, (user, to)) in senders.iter().zip(PAIRS) {
        let stored: Vec<(String, u64)> =
            log.values().filter(|frame| frame["from"] == user).map(|frame| (id(frame), offset(frame))).collect();
        let offsets: BTreeMap<String, u64> = stored.iter().cloned().collect();
        assert_eq!(offsets.len(), stored.len(), "{user}: an id was stored twice");
        for (id, offset) in &sender.acked {
            assert_eq!(offsets.get(id), Some(offset), "{user}'s {id} was not stored at its acked offset");
        }
        assert!(sender.refused.iter().all(|id| !offsets.contains_key(id)), "{user}: a refused smile was stored");
        let in_order = sender.sent.iter().filter(|id| offsets.contains_key(*id));
        assert!(in_order.eq(stored.iter().map(|(id, _)| id)), "{user}: the smiles were out of order");
        let mut client = TestClient::connect(address, user).await;
        let history: BTreeSet<u64> = client.history(to).await.iter().map(offset).collect();
        assert!(stored.iter().all(|(_, offset)| history.contains(offset)), "{user}: the history lacked a smile");
        let acked: Vec<_> = sender.acked.iter().collect();
        for _ in 0..acked.len().min(20) {
            let (id, offset) = acked[random.random_range(0..acked.len())];
            client.send_smile(id, to).await;
            let ack = json!({"type": "ack", "id": id, "offset": offset, "duplicate": true});
            assert_eq!(client.next().await, ack, "{user}'s repeat of {id} was not acked as a duplicate");
        }
    }
}
