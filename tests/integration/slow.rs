//! Clients that do not answer, and clients that do not read: caught up from the log, or let go with a code.

use std::time::Duration;

use smilingchat::config::SessionTimes;

use crate::support::client::{Event, TestClient, id, offset};
use crate::support::raw::{FINAL, PING, PONG, RawClient, TEXT, frame};
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{eventually, metric, within};

/// More smiles than the buffers of the system and of a session hold.
const MORE_THAN_FITS: u64 = 40_000;

/// A replica without brake and with these times.
async fn replica_with(times: SessionTimes) -> TestReplica {
    let store = TestStore::new();
    let mut options = TestReplica::options(&store, &[("capacity", "0"), ("session-rate", "0")]);
    options.session_times = times;
    TestReplica::with(&store, options).await
}

/// Pings soon, and patience for little.
fn quick_pings() -> SessionTimes {
    SessionTimes {
        ping_interval: Duration::from_millis(400),
        pong_timeout: Duration::from_millis(300),
        ..SessionTimes::default()
    }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed_with_4001() {
    let replica = replica_with(quick_pings()).await;
    let mut half_open = RawClient::connect(replica.address, "anna").await;
    let (opcode, _) = half_open.frame().await.unwrap();
    assert_eq!(opcode, PING);
    assert_eq!(half_open.expect_close().await, 4001);
    drop(half_open);
    let counted = async || metric(replica.ops_address, "smilingchat_closes_total{code=\"4001\"}").await == Some(1.0);
    eventually("it is counted", counted).await;
    let gone = async || metric(replica.ops_address, "smilingchat_sessions").await == Some(0.0);
    eventually("its place is free", gone).await;
}

#[tokio::test]
async fn a_client_that_answers_stays_and_is_pinged_on() {
    let replica = replica_with(quick_pings()).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    for _ in 0..6 {
        let (opcode, payload) = client.frame().await.unwrap();
        assert_eq!(opcode, PING);
        client.write(&frame(FINAL | PONG, &payload)).await;
    }
    client.write(&frame(FINAL | TEXT, b"help")).await;
    assert_eq!(client.json().await["type"], "help");
}

#[tokio::test]
async fn a_client_that_talks_but_does_not_pong_is_closed_all_the_same() {
    let replica = replica_with(quick_pings()).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    let code = within("a close", async {
        loop {
            client.write_what_is_taken(&frame(FINAL | TEXT, br#"{"type":"ping"}"#)).await;
            match client.frame().await {
                Some((0x8, payload)) => return u16::from_be_bytes([payload[0], payload[1]]),
                Some(_) => {}
                None => panic!("the connection broke without a close frame"),
            }
        }
    });
    assert_eq!(code.await, 4001);
}

/// A thousand smiles to bruno, whose ids begin with `name`; returns the last offset.
async fn flood(client: &mut TestClient, name: &str) -> u64 {
    let mut last = 0;
    for from in (0..1000).step_by(100) {
        let ids = (from..from + 100).map(|number| format!("{name}.{number}")).collect();
        last = client.persist_all(ids, "bruno").await;
    }
    last
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_lags_and_then_gets_everything_in_order() {
    let replica = replica_with(SessionTimes::default()).await;
    let mut slow = TestClient::with_small_buffer(replica.address, "bruno").await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut last = 0;
    for round in 0..MORE_THAN_FITS / 1000 {
        last = flood(&mut anna, &round.to_string()).await;
        if metric(replica.ops_address, "smilingchat_lagged_total").await.is_some_and(|lagged| lagged > 0.0) {
            break;
        }
    }
    assert!(metric(replica.ops_address, "smilingchat_lagged_total").await.unwrap() > 0.0, "it never lagged");
    for expected in 1..=last {
        assert_eq!(offset(&slow.expect("smile").await), expected);
    }
    assert_eq!(anna.smile("after", "bruno").await, last + 1);
    assert_eq!(id(&slow.expect("smile").await), "after", "it is live again");
    slow.expect_alive().await;
    assert!(metric(replica.ops_address, "smilingchat_smiles_caught_up_total").await.unwrap() > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_let_go_and_resumes_without_loss() {
    let times = SessionTimes { write_timeout: Duration::from_millis(500), ..SessionTimes::default() };
    let replica = replica_with(times).await;
    let mut slow = TestClient::with_small_buffer(replica.address, "bruno").await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut last = 0;
    let closed = async || metric(replica.ops_address, "smilingchat_closes_total{code=\"4000\"}").await == Some(1.0);
    while !closed().await && last < MORE_THAN_FITS {
        last = flood(&mut anna, &last.to_string()).await;
    }
    eventually("it is let go", closed).await;
    let mut seen = 0;
    loop {
        match slow.event().await {
            Event::Frame(frame) => {
                seen += 1;
                assert_eq!(offset(&frame), seen, "what it got before has no hole");
            }
            Event::Closed(code) => {
                assert_eq!(code, 4000);
                break;
            }
            Event::Broken => break,
        }
    }
    let mut back = TestClient::resume(replica.address, "bruno", seen, &slow.epoch()).await;
    assert!(back.recovered());
    for expected in seen + 1..=last {
        assert_eq!(offset(&back.expect("smile").await), expected);
    }
    back.expect_alive().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_sends_and_never_reads_delays_nobody_else() {
    let times = SessionTimes { write_timeout: Duration::from_millis(500), ..SessionTimes::default() };
    let replica = replica_with(times).await;
    let mut deaf = TestClient::with_small_buffer(replica.address, "anna").await;
    let stuck = tokio::spawn(async move {
        let mut number = 0;
        let frame = |number: u64| format!(r#"{{"type":"smile","id":"d{number}","to":"bruno","smile":"😀"}}"#);
        while deaf.try_send(&frame(number)).await.is_ok() {
            number += 1;
        }
    });
    let mut other = TestClient::connect(replica.address, "carla").await;
    flood(&mut other, "c").await;
    other.expect_alive().await;
    within("the deaf one is let go", stuck).await.unwrap();
}
