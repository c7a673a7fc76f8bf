//! Following other replicas: through the binary log, or by polling if the account lacks the replication grant or while
//! the stream is broken.

use serde_json::Value;

use crate::support::client::{TestClient, id, offset};
use crate::support::mysql::TestDatabase;
use crate::support::process::TestProcess;
use crate::support::proxy::{Network, Proxy};
use crate::support::{eventually, get, get_json, metric};

async fn replica(name: &str, store: &str) -> TestProcess {
    TestProcess::on_mysql(store, &[("replica", name)]).await
}

async fn following(replica: &TestProcess) -> Value {
    let list = get_json(replica.address, "/api/replicas").await;
    let replicas = list["replicas"].as_array().expect("the replicas should be a list");
    replicas.iter().find(|other| other["id"] == list["self"]).expect("the replica's own entry")["following"].clone()
}

async fn until_followed_by(replica: &TestProcess, way: &str) {
    eventually(&format!("the replica follows by {way}"), async || following(replica).await == way).await;
    let gauge = if way == "binlog" { 1.0 } else { 0.0 };
    eventually("the metric agrees", async || {
        metric(replica.ops_address, "smilingchat_following_binlog").await == Some(gauge)
    })
    .await;
}

async fn chat(one: &TestProcess, two: &TestProcess) {
    let mut anna = TestClient::connect(one.address, "anna").await;
    let mut bruno = TestClient::connect(two.address, "bruno").await;
    for _ in 0..10 {
        let at = anna.persist(&unique(), "bruno").await;
        assert_eq!(offset(&bruno.expect("smile").await), at);
        let at = bruno.persist(&unique(), "anna").await;
        assert_eq!(offset(&anna.expect("smile").await), at);
    }
}

fn unique() -> String {
    format!("{:016x}", rand::random::<u64>())
}

#[tokio::test]
async fn the_binary_log_is_followed_if_the_account_has_the_replication_grant() {
    let Some(database) = TestDatabase::new().await else { return };
    let (one, two) = (replica("one", &database.url()).await, replica("two", &database.url()).await);
    until_followed_by(&one, "binlog").await;
    until_followed_by(&two, "binlog").await;
    chat(&one, &two).await;
    let log = one.log();
    assert!(
        log.contains("following the binary log") && !log.contains("reading the log"),
        "the replica polled, or did not log how it follows: {log}"
    );
}

#[tokio::test]
async fn a_replica_without_the_replication_grant_polls() {
    let Some(database) = TestDatabase::new().await else { return };
    let restricted = database.url_of_a_restricted_user().await;
    let (one, two) = (replica("one", &restricted).await, replica("two", &restricted).await);
    eventually("the replica logs that it polls", async || {
        one.log().contains("reading the log instead of following the binary log")
    })
    .await;
    until_followed_by(&one, "polling").await;
    assert!(one.log().contains("REPLICATION"), "the log did not name the missing grant: {}", one.log());
    chat(&one, &two).await;
}

#[tokio::test]
async fn a_replica_polls_until_its_broken_stream_is_restored() {
    let Some(database) = TestDatabase::new().await else { return };
    let network = Proxy::to(database.server()).await;
    let one = replica("one", &database.url_by(network.address)).await;
    let two = replica("two", &database.url()).await;
    until_followed_by(&one, "binlog").await;
    for fault in [Network::HalfOpen, Network::Cut] {
        network.becomes(fault);
        eventually("the broken stream is detected", async || {
            metric(one.ops_address, "smilingchat_following_binlog").await == Some(0.0)
        })
        .await;
        assert_eq!(following(&two).await, "binlog", "the other replica's stream broke too");
        network.becomes(Network::Open);
        until_followed_by(&one, "binlog").await;
        chat(&one, &two).await;
    }
}

#[tokio::test]
async fn a_batch_that_the_stream_omits_is_read_from_the_log() {
    let Some(database) = TestDatabase::new().await else { return };
    let one = replica("one", &database.url()).await;
    until_followed_by(&one, "binlog").await;
    let mut bruno = TestClient::connect(one.address, "bruno").await;
    let mut anna = TestClient::connect(one.address, "anna").await;
    anna.persist("seen", "bruno").await;
    assert_eq!(id(&bruno.expect("smile").await), "seen");
    // These statements append a copy of the batch, with a different smile id of the same length, and bypass the binary
    // log.
    let hidden = "SET SESSION sql_log_bin = 0;
        INSERT INTO log_batches (first, smiles, token, appended_at, payload)
        SELECT 2, 1, 7, appended_at, CONCAT(
            LEFT(payload, 1), CHAR(2), SUBSTRING(REPLACE(payload, 'seen', 'hide'), 3)
        ) FROM log_batches WHERE first = 1";
    database.run(hidden).await;
    assert_eq!(id(&bruno.expect("smile").await), "hide");
    assert_eq!(id(&anna.expect("smile").await), "hide");
    anna.persist("after", "bruno").await;
    assert_eq!(id(&bruno.expect("smile").await), "after");
}

#[tokio::test]
async fn a_replica_that_cannot_decode_the_log_is_not_ready() {
    let Some(database) = TestDatabase::new().await else { return };
    let one = replica("one", &database.url()).await;
    until_followed_by(&one, "binlog").await;
    // The row looks as if a newer version had written it just now. Retention would remove an old row.
    let unknown = "INSERT INTO log_batches (first, smiles, token, appended_at, payload)
        VALUES (1, 1, 7, UNIX_TIMESTAMP() * 1000, 'newer')";
    database.run(unknown).await;
    let reason = async || get(one.ops_address, "/readyz").await.text().await.expect("the body should be text");
    eventually("the replica reports that it is behind", async || reason().await.starts_with("behind")).await;
    assert_eq!(get(one.ops_address, "/livez").await.status(), 200);
}
