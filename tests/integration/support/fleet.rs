//! Several replicas as processes on one MySQL database. Each reaches MySQL through a proxy of its own, and keeps its
//! address for clients when it restarts.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::client::TestClient;
use super::mysql::{TestDatabase, ask};
use super::process::{TestProcess, run_program_for};
use super::proxy::Proxy;
use super::{eventually, get_json};

/// The options of every replica: no rate limits for smiles, and rebalancing on, as behind a load-balancing proxy.
const OPTIONS: [(&str, &str); 3] = [("capacity", "0"), ("session-rate", "0"), ("rebalance", "on")];

pub(crate) struct Member {
    name: String,
    /// The address for clients.
    pub(crate) listen: SocketAddr,
    store: String,
    /// The proxy to MySQL.
    pub(crate) network: Proxy,
    /// `None` before the first start, and after a stop or a kill.
    process: Option<TestProcess>,
}

impl Member {
    async fn new(number: usize, database: &TestDatabase) -> Self {
        let network = Proxy::to(database.server()).await;
        let store = database.url_by(network.address);
        Self { name: format!("be{number}"), listen: free_address(), store, network, process: None }
    }

    pub(crate) async fn start(&mut self) {
        let listen = self.listen.to_string();
        let own = [("replica", self.name.as_str()), ("listen", &listen)];
        let options: Vec<_> = OPTIONS.into_iter().chain(own).collect();
        self.process = Some(TestProcess::on_mysql(&self.store, &options).await);
    }

    pub(crate) fn process(&mut self) -> &mut TestProcess {
        self.process.as_mut().expect("the replica was not running")
    }

    pub(crate) fn ops_address(&self) -> SocketAddr {
        self.process.as_ref().expect("the replica was not running").ops_address
    }

    pub(crate) async fn stop(&mut self) {
        let mut process = self.process.take().expect("the replica was not running");
        process.signal("TERM").await;
        assert!(process.exit().await.success());
    }

    pub(crate) async fn kill(&mut self) {
        self.process.take().expect("the replica was not running").kill().await;
    }
}

pub(crate) struct Fleet {
    /// All replicas, whether they run or not.
    pub(crate) members: Vec<Member>,
    pub(crate) database: TestDatabase,
}

impl Fleet {
    pub(crate) async fn start(count: usize, database: TestDatabase) -> Self {
        let mut members = join_all((1..=count).map(|number| Member::new(number, &database))).await;
        join_all(members.iter_mut().map(Member::start)).await;
        Self { members, database }
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.listen).collect()
    }

    /// Simulates 12 conversations, each at 8 smiles per second, as [`Self::simulate_conversations`] does.
    pub(crate) fn simulate(&self, seconds: u32, seed: u64) -> impl Future<Output = Value> + use<> {
        self.simulate_conversations(12, 8, seconds, seed)
    }

    /// Simulates conversations, each at `rate` smiles per second, over all replicas. Returns the simulator's report,
    /// which must show no fault and more than 100 smiles, all acked.
    pub(crate) fn simulate_conversations(
        &self,
        conversations: u32,
        rate: u32,
        seconds: u32,
        seed: u64,
    ) -> impl Future<Output = Value> + use<> {
        let urls: Vec<String> = self.members.iter().map(|member| format!("ws://{}/ws", member.listen)).collect();
        let arguments = [
            "simulate".to_owned(),
            format!("--url={}", urls.join(",")),
            format!("--conversations={conversations}"),
            format!("--rate={rate}"),
            format!("--duration={seconds}"),
            format!("--seed={}", seed % (1 << 53)),
            "--json".to_owned(),
        ];
        async move {
            let time = Duration::from_secs(seconds.into());
            let output = run_program_for(time, &arguments.each_ref().map(String::as_str)).await;
            let ledger: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
                panic!("the simulator printed no report: {}", String::from_utf8_lossy(&output.stderr))
            });
            let none = ["lost", "duplicated", "reordered", "altered", "failed", "unanswered", "breaches", "gaps"];
            for what in none {
                assert_eq!(ledger[what], 0, "{what} was not 0: {ledger}");
            }
            assert!(output.status.success() && ledger["acked"] == ledger["sent"], "the simulation failed: {ledger}");
            assert!(ledger["sent"].as_u64() > Some(100), "the simulation sent too few smiles: {ledger}");
            ledger
        }
    }

    /// Waits until the log has at least `count` more smiles. Uses the highest head that the running replicas report,
    /// because a replica that is cut off reports an old head.
    pub(crate) async fn until_smiles_flow(&self, count: u64) {
        let head = async || {
            let mut head = 0;
            for member in self.members.iter().filter(|member| member.process.is_some()) {
                head = head.max(head_of_log(member.listen).await.unwrap_or_default());
            }
            head
        };
        let before = head().await;
        eventually("the log grows", async || head().await >= before.max(1) + count).await;
    }

    /// Waits until another replica lists the replica at `place` in this state.
    pub(crate) async fn until_shown(&self, place: usize, state: &str) {
        let id = self.members[place].process.as_ref().expect("the replica was not running").replica.clone();
        let others =
            self.members.iter().enumerate().filter(|(other, member)| *other != place && member.process.is_some());
        let witness = others.map(|(_, member)| member.listen).next().expect("no other replica was running");
        eventually(&format!("{id} is shown as {state}"), async || {
            let list = get_json(witness, "/api/replicas").await;
            let replicas = list["replicas"].as_array().cloned().unwrap_or_default();
            replicas.iter().any(|replica| replica["id"] == id && replica["state"] == state)
        })
        .await;
    }

    pub(crate) fn lines(&mut self) -> Vec<usize> {
        self.members.iter_mut().map(|member| member.process().log().lines().count()).collect()
    }

    pub(crate) async fn until_followed(&self, server: &str) {
        let name = self.database.name();
        let readers = format!(
            "SELECT COUNT(*) FROM performance_schema.threads
             WHERE processlist_db = '{name}' AND processlist_command LIKE 'Binlog Dump%'"
        );
        eventually("every replica follows the binary log", async || {
            usize::try_from(ask::<i64>(server, &readers).await.expect("an answer")) == Ok(self.members.len())
        })
        .await;
    }

    /// Compares each user's whole stream across the replicas, which must become ready.
    pub(crate) async fn assert_same_log(&mut self) {
        let mut first: Option<Vec<Vec<Value>>> = None;
        for member in &mut self.members {
            let ops_address = member.process().ops_address;
            eventually("the replica is ready", async || super::get(ops_address, "/readyz").await.status() == 200).await;
            let users = get_json(member.listen, "/api/users").await;
            let epoch = get_json(member.listen, "/api/replicas").await["epoch"].as_str().expect("an epoch").to_owned();
            let mut streams = Vec::new();
            for user in users.as_array().expect("users").iter().filter_map(|user| user["name"].as_str()) {
                let mut client = TestClient::resume(member.listen, user, 0, &epoch).await;
                assert!(client.recovered());
                streams.push(client.replayed().await);
            }
            let log: Vec<&Value> = streams.iter().flatten().map(|smile| &smile["offset"]).collect();
            assert!(log.len() > 100, "all streams together had only {} frames", log.len());
            assert_eq!(*first.get_or_insert_with(|| streams.clone()), streams, "{} had a different log", member.name);
        }
    }
}

pub(crate) fn simulated_smiles(simulated: &Value) -> u64 {
    simulated["acked"].as_u64().expect("a count")
}

async fn head_of_log(replica: SocketAddr) -> Option<u64> {
    let question = super::http().get(format!("http://{replica}/api/replicas")).timeout(Duration::from_millis(500));
    let answer = question.send().await.ok()?;
    answer.json::<Value>().await.unwrap_or(json!(null))["head"].as_u64()
}

/// A loopback address with a port that is free now.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address")
}
