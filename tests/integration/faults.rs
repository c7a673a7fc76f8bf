//! MySQL and several replicas under load. Random kills, freezes and network failures must not lose, duplicate or
//! reorder a smile.
//!
//! A seed determines which replicas fail, the kind of each network failure and, except for the freeze of MySQL, the
//! number of smiles before each fault.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::chatters::Chatters;
use crate::support::client::TestClient;
use crate::support::environment::{script, seed};
use crate::support::eventually;
use crate::support::fleet::{Fleet, simulated_smiles};
use crate::support::ledger::Ledger;
use crate::support::mysql::{FrozenServer, TestDatabase};
use crate::support::proxy::Network;

/// The number of kills of replicas, or of network failures, in a test.
const ROUNDS: usize = 3;

/// Duration of the load in seconds, longer than the faults take. The test that freezes MySQL has a longer load.
const SECONDS: u32 = 12;

// The folders of two MySQL servers. No other file uses these folders.
const MYSQL_TO_KILL: &str = "target/mysql-of-faults";
const MYSQL_TO_FREEZE: &str = "target/mysql-of-freezes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_replicas_lose_no_smile() {
    let Some(database) = TestDatabase::new().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3, database).await;
    let ledger = Ledger::default();
    let (chatters, simulation) = (Chatters::start(&fleet.addresses(), &ledger), fleet.simulate(SECONDS, seed));
    let faults = async {
        for _ in 0..ROUNDS {
            fleet.until_smiles_flow(random.random_range(20..150)).await;
            let victim = random.random_range(0..fleet.members.len());
            fleet.members[victim].kill().await;
            fleet.until_smiles_flow(random.random_range(0..100)).await;
            fleet.members[victim].start().await;
        }
    };
    let (simulated, ()) = tokio::join!(simulation, faults);
    assert!(simulated["reconnects"].as_u64() > Some(0), "no session reconnected: {simulated}");
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn network_failures_lose_no_smile() {
    let Some(database) = TestDatabase::new().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3, database).await;
    let ledger = Ledger::default();
    let (chatters, simulation) = (Chatters::start(&fleet.addresses(), &ledger), fleet.simulate(SECONDS, seed));
    let faults = async {
        for _ in 0..ROUNDS {
            fleet.until_smiles_flow(random.random_range(20..150)).await;
            let victim = random.random_range(0..fleet.members.len());
            let faults = [
                Network::Cut,
                Network::Silent,
                Network::HalfOpen,
                Network::NoAnswers,
                Network::Slow(Duration::from_millis(random.random_range(2..60))),
            ];
            let fault = faults[random.random_range(0..faults.len())];
            eprintln!("the network of replica {victim} becomes {fault:?}");
            fleet.members[victim].network.becomes(fault);
            fleet.until_smiles_flow(random.random_range(20..150)).await;
            fleet.members[victim].network.becomes(Network::Open);
        }
    };
    let (simulated, ()) = tokio::join!(simulation, faults);
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_freezes_for_longer_than_its_lease_loses_no_smile() {
    let Some(database) = TestDatabase::new().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3, database).await;
    let ledger = Ledger::default();
    let (chatters, simulation) = (Chatters::start(&fleet.addresses(), &ledger), fleet.simulate(SECONDS, seed));
    let faults = async {
        fleet.until_smiles_flow(random.random_range(20..150)).await;
        let victim = random.random_range(0..fleet.members.len());
        fleet.members[victim].process().signal("STOP").await;
        fleet.until_shown(victim, "lost").await;
        fleet.until_smiles_flow(20).await;
        fleet.members[victim].process().signal("CONT").await;
        fleet.until_shown(victim, "ready").await;
    };
    let (simulated, ()) = tokio::join!(simulation, faults);
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
}

const FROZEN: Duration = Duration::from_secs(30);

/// Time limit for each replica to ack a smile after the freeze.
const ACKED_AGAIN: Duration = Duration::from_secs(5);

/// The maximum number of lines that a replica logs during the freeze and the recovery.
const LINES: usize = 10;

/// The maximum number of connections that a replica opens for statements and the binary log, not counting probes.
const CONNECTIONS: usize = 9;

/// The number of sessions that resume on a replica at the same time, so that it opens all its connections.
const SESSIONS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_freeze_of_mysql_loses_no_smile_and_causes_few_connections_and_log_lines() {
    if TestDatabase::new().await.is_none() {
        return;
    }
    let seed = seed();
    let database = TestDatabase::at(&script("start", MYSQL_TO_FREEZE).await).await;
    let mut fleet = Fleet::start(3, database).await;
    let ledger = Ledger::default();
    let chatters = Chatters::start(&fleet.addresses(), &ledger);
    let simulation = fleet.simulate_conversations(100, 1, 50, seed);
    let fault = async {
        fleet.until_smiles_flow(500).await;
        fleet.until_followed(&fleet.database.url()).await;
        let normal = open_all_connections(&fleet).await;
        let lines = fleet.lines();
        // This resets `Max_used_connections`.
        fleet.database.run("FLUSH STATUS").await;
        let frozen = FrozenServer::freeze(MYSQL_TO_FREEZE);
        let accepted: Vec<usize> = fleet.members.iter().map(|member| member.network.accepted()).collect();
        tokio::time::sleep(FROZEN).await;
        for (member, before) in fleet.members.iter().zip(accepted) {
            // When the server resumes, it accepts these connections while it still counts the earlier ones.
            let opened = member.network.accepted() - before;
            assert!(opened < CONNECTIONS, "a replica opened {opened} connections to the frozen server");
        }
        drop(frozen);
        let back = Instant::now();
        for (place, replica) in fleet.addresses().into_iter().enumerate() {
            eventually("a smile is acked", async || {
                let Ok(client) = TestClient::open(replica, "?user=viola").await else { return false };
                let mut client = client.recording(&ledger);
                client.send_smile(&format!("again-{place}"), "tina").await;
                client.next().await["type"] == "ack"
            })
            .await;
            assert!(back.elapsed() < ACKED_AGAIN, "replica {place} acked only after {:?}", back.elapsed());
        }
        fleet.until_smiles_flow(300).await;
        fleet.until_followed(&fleet.database.url()).await;
        let most = status(&fleet.database, "Max_used_connections").await;
        eprintln!("at most {most} connections, normally {normal}; lines: {:?}", fleet.lines());
        assert!(most < 2 * normal, "MySQL had {most} connections, but normally has {normal}");
        let said: Vec<usize> = fleet.lines().iter().zip(lines).map(|(now, before)| now - before).collect();
        assert!(
            said.iter().all(|lines| *lines <= LINES),
            "the replicas logged too many lines, {said:?}: {}",
            fleet.members[0].process().log()
        );
    };
    let (simulated, ()) = tokio::join!(simulation, fault);
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
    drop(fleet);
    script("stop", MYSQL_TO_FREEZE).await;
}

/// Resumes sessions concurrently until the server has as many connections as all replicas together can open.
async fn open_all_connections(fleet: &Fleet) -> i64 {
    let epoch = TestClient::connect(fleet.members[0].listen, "viola").await.epoch();
    let query = format!("?user=viola&after=0&epoch={epoch}");
    let most = i64::try_from(fleet.members.len() * CONNECTIONS).expect("the number of connections was too large");
    let mut connected = 0;
    eventually("all connections are open", async || {
        let asked = fleet.addresses().into_iter().flat_map(|replica| [replica; SESSIONS]);
        join_all(asked.map(|replica| TestClient::open(replica, &query))).await;
        connected = status(&fleet.database, "Threads_connected").await;
        connected >= most
    })
    .await;
    connected
}

async fn status(database: &TestDatabase, name: &str) -> i64 {
    let question = format!(
        "SELECT CAST(variable_value AS SIGNED) FROM performance_schema.global_status WHERE variable_name = '{name}'"
    );
    database.ask(&question).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_mysql_lose_no_smile() {
    if TestDatabase::new().await.is_none() {
        return;
    }
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let database = TestDatabase::at(&script("start", MYSQL_TO_KILL).await).await;
    let mut fleet = Fleet::start(2, database).await;
    let ledger = Ledger::default();
    let (chatters, simulation) = (Chatters::start(&fleet.addresses(), &ledger), fleet.simulate(SECONDS, seed));
    let faults = async {
        for _ in 0..ROUNDS - 1 {
            fleet.until_smiles_flow(random.random_range(20..150)).await;
            script("kill", MYSQL_TO_KILL).await;
            script("start", MYSQL_TO_KILL).await;
        }
        fleet.until_smiles_flow(20).await;
    };
    let (simulated, ()) = tokio::join!(simulation, faults);
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
    drop(fleet);
    script("stop", MYSQL_TO_KILL).await;
}
