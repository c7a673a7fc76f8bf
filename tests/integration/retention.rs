//! Retention: old smiles are removed in steps, offsets are never reused, and a session that resumes below the trimmed
//! offset is not recovered.

use std::collections::BTreeSet;

use sqlx::Executor;

use crate::support::client::{TestClient, id, offset};
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{UNLIMITED, eventually, get_json, metric};

/// How much older the tests make smiles: 90 days, in milliseconds.
const LONG_AGO: &str = "7776000000";

/// Creates a store with `count` smiles from Anna to Bruno, one per batch, and makes the first `old` smiles older by
/// [`LONG_AGO`].
async fn aged(count: u64, old: u64) -> (TestStore, String) {
    let replica = TestReplica::start(&UNLIMITED).await;
    let store = replica.store.clone();
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let ids: Vec<String> = (1..=count).map(|number| format!("c{number}")).collect();
    for id in &ids {
        anna.persist(id, "bruno").await;
    }
    let epoch = anna.epoch();
    drop(anna);
    replica.stop().await;
    let age = format!("UPDATE log_batches SET appended_at = appended_at - {LONG_AGO} WHERE first <= {old}");
    let aged = store.open().await.execute(sqlx::AssertSqlSafe(age)).await.expect("the batches should become older");
    assert_eq!(aged.rows_affected(), old);
    (store, epoch)
}

#[tokio::test]
async fn old_smiles_are_removed_in_steps_while_smiles_flow() {
    let (store, epoch) = aged(4200, 4100).await;
    let replica = TestReplica::on(&store, &UNLIMITED).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    assert_eq!(anna.offset(), 4200);
    let (mut last, mut seen) = (4200, BTreeSet::new());
    eventually("all old smiles are removed", async || {
        last += 1;
        assert_eq!(anna.smile(&format!("meanwhile{last}"), "bruno").await, last);
        let removed = metric(replica.ops_address, "smilingchat_smiles_trimmed_total").await.unwrap();
        seen.insert(removed.to_string());
        removed >= 4100.0
    })
    .await;
    assert!(
        seen.iter().any(|removed| removed != "0" && removed != "4100"),
        "all old smiles were removed in one step: {seen:?}"
    );

    let history = anna.history("bruno").await;
    assert!(history.iter().map(offset).eq(4101..=last), "the history did not hold exactly the newer smiles");
    for after in [0, 1, 4099] {
        let mut client = TestClient::resume(replica.address, "bruno", after, &epoch).await;
        assert_eq!((client.recovered(), client.offset()), (false, last), "after {after}");
        client.expect_alive().await;
    }
    for after in [4100, 4150, last] {
        let mut client = TestClient::resume(replica.address, "bruno", after, &epoch).await;
        assert_eq!((client.recovered(), client.offset()), (true, after), "after {after}");
        assert!(client.replayed().await.iter().map(offset).eq(after + 1..=last), "after {after}");
    }
}

#[tokio::test]
async fn offsets_are_not_reused_after_everything_was_removed() {
    let (store, epoch) = aged(20, 20).await;
    let replica = TestReplica::on(&store, &[]).await;
    let removed = async || metric(replica.ops_address, "smilingchat_smiles_trimmed_total").await == Some(20.0);
    eventually("all smiles are removed", removed).await;
    replica.stop().await;

    let replica = TestReplica::on(&store, &[]).await;
    assert_eq!(get_json(replica.address, "/api/replicas").await["head"], 20);
    let mut bruno = TestClient::resume(replica.address, "bruno", 20, &epoch).await;
    assert!(bruno.recovered(), "the session was not recovered, although no smile after its offset was removed");
    let mut anna = TestClient::connect(replica.address, "anna").await;
    assert!(anna.history("bruno").await.is_empty());
    assert_eq!(anna.smile("new", "bruno").await, 21);
    assert_eq!(id(&bruno.expect("smile").await), "new");
}

#[tokio::test]
async fn a_longer_retention_keeps_newer_smiles() {
    let (store, epoch) = aged(10, 10).await;
    let older = format!("UPDATE log_batches SET appended_at = appended_at - {LONG_AGO} WHERE first <= 4");
    store.open().await.execute(sqlx::AssertSqlSafe(older)).await.unwrap();
    let replica = TestReplica::on(&store, &[("retention", "91")]).await;
    let removed = async || metric(replica.ops_address, "smilingchat_smiles_trimmed_total").await == Some(4.0);
    eventually("smiles older than the retention are removed", removed).await;
    let mut bruno = TestClient::resume(replica.address, "bruno", 4, &epoch).await;
    assert!(bruno.recovered());
    assert!(bruno.replayed().await.iter().map(offset).eq(5..=10));
}
