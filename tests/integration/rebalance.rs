//! Rebalancing: a new replica gets its share of the sessions, a few at a time and without loss.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::client::TestClient;
use crate::support::environment::seed;
use crate::support::fleet::Fleet;
use crate::support::mysql::TestDatabase;
use crate::support::process::TestProcess;
use crate::support::{eventually, get_json, metric};

/// Duration of the conversations in seconds in the test without a crash, longer than rebalancing takes.
const SECONDS: u32 = 22;

/// Duration of the conversations in seconds in the test with a crash, in which rebalancing ends later.
const SECONDS_AFTER_A_CRASH: u32 = 26;

/// The number of sessions in the simulator's conversations.
const SESSIONS: u64 = 24;

/// The number of sessions of each ready replica, as the first replica lists them.
async fn spread(fleet: &mut Fleet) -> Vec<u64> {
    let witness = fleet.members[0].process().address;
    let list = get_json(witness, "/api/replicas").await;
    let ready = list["replicas"]
        .as_array()
        .expect("the replicas were not a list")
        .iter()
        .filter(|replica| replica["state"] == "ready");
    ready.map(|replica| replica["sessions"].as_u64().expect("the number of sessions was not an integer")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_gets_its_share() {
    let Some(database) = TestDatabase::new().await else { return };
    let mut fleet = Fleet::start(2, database).await;
    fleet.members[1].stop().await;
    let simulation = fleet.simulate(SECONDS, seed());
    let joining = async {
        eventually("all sessions are on one replica", async || spread(&mut fleet).await == [SESSIONS]).await;
        fleet.members[1].start().await;
        eventually("the sessions are spread evenly", async || {
            let spread = spread(&mut fleet).await;
            spread.len() == 2 && spread.iter().all(|sessions| sessions.abs_diff(SESSIONS / 2) <= 1)
        })
        .await;
        let moved = metric(fleet.members[0].process().ops_address, "smilingchat_sessions_handed_over_total").await;
        let closed = metric(fleet.members[0].process().ops_address, r#"smilingchat_closes_total{code="4002"}"#).await;
        (moved, closed)
    };
    let (ledger, (moved, closed)): (Value, _) = tokio::join!(simulation, joining);
    assert_eq!(moved, closed);
    let half = (SESSIONS / 2) as f64;
    assert!(
        moved.is_some_and(|moved| (half - 1.0..=half + 1.0).contains(&moved)),
        "the replica did not hand over half of its sessions: {moved:?}"
    );
    assert_eq!(
        ledger["reconnects"].as_f64(),
        moved,
        "the clients did not reconnect exactly once per moved session: {ledger}"
    );
    fleet.assert_same_log().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_resume_on_one_replica_after_a_crash_are_rebalanced() {
    let Some(database) = TestDatabase::new().await else { return };
    let mut fleet = Fleet::start(2, database).await;
    let simulation = fleet.simulate(SECONDS_AFTER_A_CRASH, seed());
    let restarting = async {
        eventually("all sessions are open", async || spread(&mut fleet).await.iter().sum::<u64>() == SESSIONS).await;
        for member in &mut fleet.members {
            member.kill().await;
        }
        fleet.members[0].start().await;
        let first = fleet.members[0].process().ops_address;
        let all = async || metric(first, "smilingchat_sessions").await == Some(SESSIONS as f64);
        eventually("all sessions are on one replica", all).await;
        fleet.members[1].start().await;
        eventually("the sessions are spread evenly", async || {
            let spread = spread(&mut fleet).await;
            spread.len() == 2 && spread.iter().all(|sessions| sessions.abs_diff(SESSIONS / 2) <= 1)
        })
        .await;
    };
    let (ledger, ()): (Value, _) = tokio::join!(simulation, restarting);
    assert_eq!(ledger["clean"], true, "{ledger}");
    fleet.assert_same_log().await;
}

#[tokio::test]
async fn without_rebalancing_no_session_moves() {
    let Some(database) = TestDatabase::new().await else { return };
    let store = database.url();
    let start = async || TestProcess::on_mysql(&store, &[]).await;
    let (full, _empty) = (start().await, start().await);
    let mut clients = Vec::new();
    for user in ["anna", "bruno", "carla", "dario"] {
        clients.push(TestClient::connect(full.address, user).await);
    }
    // Rebalancing ignores a new replica at first, but for less than ten seconds.
    tokio::time::sleep(Duration::from_secs(10)).await;
    for client in &mut clients {
        client.expect_alive().await;
    }
    assert_eq!(metric(full.ops_address, "smilingchat_sessions_handed_over_total").await, Some(0.0));
}

#[test]
fn rebalancing_is_on_in_every_deployment_with_a_proxy() {
    for (file, setting) in [
        ("docker/compose.yaml", "\n      SMILINGCHAT_REBALANCE: \"on\"\n"),
        ("swarm/stack.yaml", "\n      SMILINGCHAT_REBALANCE: \"on\"\n"),
        ("k8s/base/kustomization.yaml", "\n      - SMILINGCHAT_REBALANCE=on\n"),
    ] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).expect("a file");
        assert!(text.contains(setting), "{file} does not switch rebalancing on");
    }
}
