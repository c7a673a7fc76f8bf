//! Shutdown: the order and the time limits of a drain. A drain loses no acked smile.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::{Event, TestClient, id, offset, smile};
use crate::support::mysql::TestDatabase;
use crate::support::process::TestProcess;
use crate::support::proxy::{Network, Proxy};
use crate::support::raw::RawClient;
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{UNLIMITED, eventually, get, get_json, refusal, upgrade};

#[tokio::test]
async fn sigterm_drains_and_exits_with_0() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[("drain-timeout", "10")]).await;
    let mut anna = TestClient::connect(process.address, "anna").await;
    let mut bruno = TestClient::connect(process.address, "bruno").await;
    let at = anna.smile("c1", "bruno").await;
    bruno.expect("smile").await;
    let asked = Instant::now();
    process.signal("TERM").await;
    for client in [&mut anna, &mut bruno] {
        let drain = client.expect("drain").await;
        assert!(drain["reconnect_after_ms"].is_u64(), "no reconnect hint: {drain}");
        assert_eq!(client.expect_close().await, 1012);
    }
    assert_eq!(process.exit().await.code(), Some(0), "the drain failed: {}", process.log());
    assert!(asked.elapsed() < Duration::from_secs(10), "the drain took {:?}", asked.elapsed());

    let process = TestProcess::start(&store.path(), &[]).await;
    let mut back = TestClient::resume(process.address, "bruno", 0, &bruno.epoch()).await;
    assert!(back.recovered());
    assert_eq!(offset(&back.expect("smile").await), at);
    let list = get_json(process.address, "/api/replicas").await;
    assert_eq!(list["replicas"].as_array().unwrap().len(), 1, "a replica that left was still listed: {list}");
}

#[tokio::test]
async fn sigint_drains_too() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    process.signal("INT").await;
    assert_eq!(process.exit().await.code(), Some(0), "the drain failed: {}", process.log());
}

#[tokio::test]
async fn a_draining_replica_is_not_ready_and_accepts_no_session() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[("drain-timeout", "4")]).await;
    // This client never closes its side, so the drain lasts until the closing handshake times out.
    let mut unclosed = RawClient::connect(process.address, "anna").await;
    let asked = Instant::now();
    process.signal("TERM").await;
    let not_ready = async || get(process.address, "/readyz").await.status().as_u16() == 503;
    eventually("the replica is not ready", not_ready).await;
    assert!(get(process.address, "/readyz").await.text().await.unwrap().contains("draining"));
    assert_eq!(get(process.ops_address, "/readyz").await.status().as_u16(), 503);
    assert_eq!(get(process.address, "/livez").await.status().as_u16(), 200);
    let (status, retry_after, body) = refusal(upgrade(process.address, "?user=carla").send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (503, &json!("draining")), "unexpected refusal: {status}, {body}");
    assert!(retry_after.is_some_and(|seconds| seconds >= 1));
    assert!(body["retry_after_ms"].as_u64().is_some_and(|wait| wait >= 1));
    eventually("the replica lists itself as draining", async || {
        get_json(process.address, "/api/replicas").await["replicas"][0]["state"] == "draining"
    })
    .await;

    assert_eq!(unclosed.json().await["type"], "drain");
    assert_eq!(unclosed.expect_close().await, 1012);
    assert_eq!(process.exit().await.code(), Some(0), "the drain failed: {}", process.log());
    assert!(asked.elapsed() < Duration::from_secs(4), "the drain took {:?}, but the timeout is 4 s", asked.elapsed());
}

#[tokio::test]
async fn a_client_that_reads_nothing_does_not_delay_the_drain_past_its_timeout() {
    let store = TestStore::new();
    let options = [("drain-timeout", "3"), UNLIMITED[0], UNLIMITED[1]];
    let mut process = TestProcess::start(&store.path(), &options).await;
    let mut anna = TestClient::connect(process.address, "anna").await;
    anna.fill_a_history("bruno").await;
    let mut blocked = TestClient::with_small_buffer(process.address, "bruno").await;
    blocked.ask_without_reading("anna").await;
    let asked = Instant::now();
    process.signal("TERM").await;
    assert_eq!(anna.expect_close().await, 1012);
    assert_eq!(process.exit().await.code(), Some(0), "the drain failed: {}", process.log());
    assert!(asked.elapsed() < Duration::from_secs(3), "the drain took {:?}, but the timeout is 3 s", asked.elapsed());
}

#[tokio::test]
async fn upgrades_that_wait_for_a_silent_store_do_not_delay_the_drain_past_its_timeout() {
    let Some(database) = TestDatabase::new().await else { return };
    let network = Proxy::to(database.server()).await;
    let options = [("drain-timeout", "2"), ("max-sessions", "12")];
    let mut process = TestProcess::on_mysql(&database.url_by(network.address), &options).await;
    let epoch = TestClient::connect(process.address, "anna").await.epoch();
    let resume = format!("?user=anna&after=0&epoch={epoch}");
    network.becomes(Network::Silent);
    let mut resuming = JoinSet::new();
    // The store reads for four of the sessions at a time, for up to 2 s, so the others wait even longer.
    eventually("upgrades hold every place", async || {
        resuming.spawn(upgrade(process.address, &resume).send());
        upgrade(process.address, "?user=bruno").send().await.unwrap().status().as_u16() == 503
    })
    .await;
    let asked = Instant::now();
    process.signal("TERM").await;
    assert_eq!(process.exit().await.code(), Some(0), "the drain failed: {}", process.log());
    // The silent store cannot be closed, so the process ends only after its timeout.
    assert!(asked.elapsed() < Duration::from_secs(3), "the drain took {:?}, but the timeout is 2 s", asked.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_leave_in_groups_with_different_reconnect_hints() {
    let mut replica = TestReplica::start(&[]).await;
    let mut clients = Vec::new();
    for _ in 0..160 {
        clients.push(TestClient::connect(replica.address, "anna").await);
    }
    let mut leaving = tokio::task::JoinSet::new();
    replica.start_stopping();
    for mut client in clients {
        leaving.spawn(async move {
            let drain = client.expect("drain").await;
            let left_at = Instant::now();
            assert_eq!(client.expect_close().await, 1012);
            (left_at, drain["reconnect_after_ms"].as_u64().unwrap())
        });
    }
    let all = leaving.join_all().await;
    let first = all.iter().map(|(left_at, _)| *left_at).min().unwrap();
    let last = all.iter().map(|(left_at, _)| *left_at).max().unwrap();
    assert!(last - first >= Duration::from_millis(200), "all 160 sessions left within {:?}", last - first);
    let mut hints: Vec<u64> = all.iter().map(|(_, hint)| *hint).collect();
    hints.sort_unstable();
    hints.dedup();
    assert!(hints.len() > 40, "too few different hints: {hints:?}");
    replica.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_no_acked_smile() {
    let mut replica = TestReplica::start(&UNLIMITED).await;
    let store = replica.store.clone();
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let epoch = anna.epoch();
    let (mut acked, mut refused, mut number) = (Vec::new(), Vec::new(), 0);
    'sending: loop {
        for _ in 0..20 {
            if anna.try_send(&smile(&format!("c{number}"), "bruno").to_string()).await.is_err() {
                break 'sending;
            }
            number += 1;
        }
        for _ in 0..20 {
            match anna.event().await {
                Event::Frame(frame) if frame["type"] == "ack" => acked.push((id(&frame), offset(&frame))),
                Event::Frame(frame) if frame["type"] == "drain" => {}
                Event::Frame(frame) => refused.push(id(&frame)),
                Event::Closed(code) => {
                    assert_eq!(code, 1012);
                    break 'sending;
                }
                Event::Broken => panic!("the connection broke without a close frame"),
            }
        }
        if number == 400 {
            replica.start_stopping();
        }
    }
    replica.stop().await;
    assert!(acked.len() > 200, "only {} smiles were acked", acked.len());
    let replica = TestReplica::on(&store, &UNLIMITED).await;
    let mut anna = TestClient::resume(replica.address, "anna", 0, &epoch).await;
    let log: Vec<(String, u64)> = anna.replayed().await.iter().map(|frame| (id(frame), offset(frame))).collect();
    assert_eq!(log[..acked.len()], acked, "the log (left) did not begin with the acked smiles (right)");
    assert!(log.iter().all(|(id, _)| !refused.contains(id)), "a refused smile was stored");
}
