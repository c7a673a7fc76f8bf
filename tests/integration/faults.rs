//! Faults under load, against real processes and a real MySQL: kills, freezes and network failures lose, duplicate and
//! reorder no smile.
//!
//! A seed determines the faults and their times, which are counted in smiles instead of seconds.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::support::fleet::Fleet;
use crate::support::mysql::{TestDatabase, script};
use crate::support::proxy::Network;
use crate::support::seed;

/// The number of faults in a test.
const ROUNDS: usize = 3;

/// Duration of the load in seconds, longer than the faults take.
const SECONDS: u32 = 12;

/// The folder of a MySQL server that only this file uses, and kills.
const MYSQL_TO_KILL: &str = "target/mysql-of-faults";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_killed() {
    let Some(database) = TestDatabase::new().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3, database).await;
    let simulation = fleet.simulate(SECONDS, seed);
    let faults = async {
        for _ in 0..ROUNDS {
            fleet.smiles_flow(random.random_range(20..150)).await;
            let victim = random.random_range(0..fleet.members.len());
            fleet.members[victim].kill().await;
            fleet.smiles_flow(random.random_range(0..100)).await;
            fleet.members[victim].start().await;
        }
    };
    let (ledger, ()) = tokio::join!(simulation, faults);
    assert!(ledger["reconnects"].as_u64() > Some(0), "{ledger}");
    fleet.tell_the_same_log().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_network_to_mysql_fails() {
    let Some(database) = TestDatabase::new().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3, database).await;
    let simulation = fleet.simulate(SECONDS, seed);
    let faults = async {
        for _ in 0..ROUNDS {
            fleet.smiles_flow(random.random_range(20..150)).await;
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
            fleet.smiles_flow(random.random_range(20..150)).await;
            fleet.members[victim].network.becomes(Network::Open);
        }
    };
    let (_, ()) = tokio::join!(simulation, faults);
    fleet.tell_the_same_log().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_freezes_for_longer_than_its_lease() {
    let Some(database) = TestDatabase::new().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut fleet = Fleet::start(3, database).await;
    let simulation = fleet.simulate(SECONDS, seed);
    let faults = async {
        fleet.smiles_flow(random.random_range(20..150)).await;
        let victim = random.random_range(0..fleet.members.len());
        fleet.members[victim].process().signal("STOP").await;
        fleet.is_shown(victim, "lost").await;
        fleet.smiles_flow(20).await;
        fleet.members[victim].process().signal("CONT").await;
        fleet.is_shown(victim, "ready").await;
    };
    let (_, ()) = tokio::join!(simulation, faults);
    fleet.tell_the_same_log().await;
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
    let simulation = fleet.simulate(SECONDS, seed);
    let faults = async {
        for _ in 0..ROUNDS - 1 {
            fleet.smiles_flow(random.random_range(20..150)).await;
            script("kill", MYSQL_TO_KILL).await;
            script("start", MYSQL_TO_KILL).await;
        }
        fleet.smiles_flow(20).await;
    };
    let (_, ()) = tokio::join!(simulation, faults);
    fleet.tell_the_same_log().await;
    drop(fleet);
    script("stop", MYSQL_TO_KILL).await;
}
