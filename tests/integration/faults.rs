//! MySQL and several replicas under load. Random kills, freezes and network failures must not lose, duplicate or
//! reorder a smile.
//!
//! A seed determines the faults and their times, which are counted in smiles instead of seconds.

use std::time::{Duration, Instant};

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

/// The number of faults in a test.
const ROUNDS: usize = 3;

/// Duration of the load in seconds, longer than the faults take.
const SECONDS: u32 = 12;

/// The folder of a MySQL server that only this file uses, and kills.
const MYSQL_TO_KILL: &str = "target/mysql-of-faults";

/// The folder of a MySQL server that only this file uses, and freezes.
const MYSQL_TO_FREEZE: &str = "target/mysql-of-freezes";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_killed() {
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
    assert!(simulated["reconnects"].as_u64() > Some(0), "{simulated}");
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_to_mysql_fails() {
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
            eprintln!("the network of {victim} becomes {fault:?}");
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
async fn a_replica_freezes_for_longer_than_its_lease() {
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

/// How long MySQL is frozen, and how soon each replica must ack a smile afterwards.
const FROZEN: Duration = Duration::from_secs(30);
const ACKED_AGAIN: Duration = Duration::from_secs(5);

/// The maximum number of lines that a replica may log about the freeze.
const LINES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_freezes_and_resumes() {
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
        let lines = fleet.lines();
        // The highest number of connections counts from here.
        fleet.database.run("FLUSH STATUS").await;
        let normal = status(&fleet.database, "Threads_connected").await;
        let frozen = FrozenServer::freeze(MYSQL_TO_FREEZE);
        tokio::time::sleep(FROZEN).await;
        drop(frozen);
        let back = Instant::now();
        let mut most = 0;
        for (place, replica) in fleet.addresses().into_iter().enumerate() {
            eventually("a smile is acked", async || {
                most = most.max(status(&fleet.database, "Threads_connected").await);
                let Ok(client) = TestClient::open(replica, "?user=viola").await else { return false };
                let mut client = client.recording(&ledger);
                client.send_smile(&format!("again-{place}"), "tina").await;
                client.next().await["type"] == "ack"
            })
            .await;
            assert!(back.elapsed() < ACKED_AGAIN, "{place} after {:?}", back.elapsed());
        }
        fleet.until_smiles_flow(300).await;
        fleet.until_followed(&fleet.database.url()).await;
        most = most.max(status(&fleet.database, "Threads_connected").await);
        let peak = status(&fleet.database, "Max_used_connections").await;
        eprintln!("{most} connections, {peak} for a moment, where {normal} are normal; lines: {:?}", fleet.lines());
        // For a moment, MySQL also counts the connections that were closed while it was frozen.
        assert!(most < 2 * normal && peak < 3 * normal, "{most} and {peak} connections, where {normal} are normal");
        let said: Vec<usize> = fleet.lines().iter().zip(lines).map(|(now, before)| now - before).collect();
        assert!(said.iter().all(|lines| *lines <= LINES), "{said:?}: {}", fleet.members[0].process().log());
    };
    let (simulated, ()) = tokio::join!(simulation, fault);
    chatters.end().await;
    fleet.assert_same_log().await;
    ledger.assert_with(simulated_smiles(&simulated), &fleet.database.log().await);
    drop(fleet);
    script("stop", MYSQL_TO_FREEZE).await;
}

/// A number in the status of the server.
async fn status(database: &TestDatabase, name: &str) -> i64 {
    let question = format!(
        "SELECT CAST(variable_value AS SIGNED) FROM performance_schema.global_status WHERE variable_name = '{name}'"
    );
    database.ask(&question).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_is_killed_and_comes_back() {
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
