//! Clients that do not answer pings, and clients that read late or not at all: their sessions are closed with a code,
//! or catch up from the log.

use std::time::Duration;

use serde_json::json;
use smilingchat::config::SessionTimes;
use sqlx::Executor;

use crate::support::client::{Event, TestClient, UNREAD_HISTORIES, id, offset};
use crate::support::raw::{FINAL, PING, PONG, RawClient, TEXT, frame};
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{PATIENCE, UNLIMITED, eventually, metric, within};

async fn replica_with(times: SessionTimes) -> TestReplica {
    let store = TestStore::new();
    let mut options = TestReplica::options(&store, &UNLIMITED);
    options.session_times = times;
    TestReplica::with(&store, options).await
}

fn quick_pings() -> SessionTimes {
    SessionTimes {
        ping_interval: Duration::from_millis(400),
        pong_timeout: Duration::from_millis(300),
        ..SessionTimes::default()
    }
}

#[tokio::test]
async fn a_session_whose_client_answers_no_ping_is_closed_with_4001() {
    let replica = replica_with(quick_pings()).await;
    let mut half_open = RawClient::connect(replica.address, "anna").await;
    let (opcode, _) = half_open.frame().await.unwrap();
    assert_eq!(opcode, PING);
    assert_eq!(half_open.expect_close().await, 4001);
    drop(half_open);
    let counted = async || metric(replica.ops_address, "smilingchat_closes_total{code=\"4001\"}").await == Some(1.0);
    eventually("the close is counted", counted).await;
    let gone = async || metric(replica.ops_address, "smilingchat_sessions").await == Some(0.0);
    eventually("the number of sessions drops to 0", gone).await;
}

#[tokio::test]
async fn a_session_whose_client_answers_pings_stays_open() {
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
async fn a_session_whose_client_sends_but_answers_no_ping_is_closed_with_4001() {
    let replica = replica_with(quick_pings()).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    let code = within("a close frame arrives", async {
        loop {
            client.write_until_refused(&frame(FINAL | TEXT, br#"{"type":"ping"}"#)).await;
            match client.frame().await {
                Some((0x8, payload)) => return u16::from_be_bytes([payload[0], payload[1]]),
                Some(_) => {}
                None => panic!("the connection broke without a close frame"),
            }
        }
    });
    assert_eq!(code.await, 4001);
}

/// The pongs to these pings take about 8 MB, more than the system's buffers hold.
const UNREAD_PONGS: usize = 64 * 1024;

#[tokio::test]
async fn a_session_whose_client_pings_without_reading_is_closed_with_4000() {
    let replica = replica_with(SessionTimes { write_timeout: Duration::from_millis(500), ..Default::default() }).await;
    let mut client = RawClient::with_small_buffer(replica.address, "anna").await;
    client.write_until_refused(&frame(FINAL | PING, &[b'x'; 125]).repeat(UNREAD_PONGS)).await;
    client.write_until_refused(&frame(FINAL | TEXT, b"help")).await;
    let gone = async || metric(replica.ops_address, "smilingchat_sessions").await == Some(0.0);
    eventually("the session ends", gone).await;
    let counted = async |code: &str| {
        let name = format!("smilingchat_closes_total{{code=\"{code}\"}}");
        metric(replica.ops_address, &name).await == Some(1.0)
    };
    eventually("the close is counted", async || counted("4000").await || counted("0").await).await;
    assert!(counted("4000").await, "the connection was reset without a code");
}

#[tokio::test]
async fn a_pong_that_arrives_while_the_session_is_blocked_keeps_the_session_open() {
    let pong_timeout = Duration::from_secs(1);
    let replica = replica_with(SessionTimes { pong_timeout, ..quick_pings() }).await;
    TestClient::connect(replica.address, "anna").await.fill_a_history("bruno").await;
    let mut bruno = RawClient::connect(replica.address, "bruno").await;
    let (opcode, payload) = bruno.frame().await.unwrap();
    assert_eq!(opcode, PING);
    // The session cannot write all of the histories until the client reads, so the pong waits behind the requests.
    let question = frame(FINAL | TEXT, br#"{"type":"history","with":"anna","limit":200}"#);
    let mut sent = question.repeat(UNREAD_HISTORIES as usize);
    sent.extend(frame(FINAL | PONG, &payload));
    bruno.write(&sent).await;
    tokio::time::sleep(pong_timeout + Duration::from_millis(200)).await;
    for _ in 0..UNREAD_HISTORIES {
        assert_eq!(bruno.json().await["type"], "history");
    }
}

async fn flood(client: &mut TestClient, what: &str, mut enough: impl AsyncFnMut() -> bool) -> u64 {
    let mut last = 0;
    eventually(what, async || {
        let ids = (0..50).map(|number| format!("c{last}.{number}")).collect();
        last = client.persist_all(ids, "bruno").await;
        enough().await
    })
    .await;
    last
}

/// The second client, which is bruno's, has requested more histories than the buffers of its connection hold, and has
/// read none of them.
async fn with_a_blocked_reader(times: SessionTimes) -> (TestReplica, TestClient, TestClient) {
    let replica = replica_with(times).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    anna.fill_a_history("bruno").await;
    let mut blocked = TestClient::with_small_buffer(replica.address, "bruno").await;
    assert_eq!(blocked.offset(), 200);
    blocked.ask_without_reading("anna").await;
    (replica, anna, blocked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_reads_late_lags_and_catches_up_in_order() {
    let times = SessionTimes { write_timeout: PATIENCE, ..SessionTimes::default() };
    let (replica, mut anna, mut slow) = with_a_blocked_reader(times).await;
    let lagged = async || metric(replica.ops_address, "smilingchat_lagged_total").await == Some(1.0);
    let last = flood(&mut anna, "the session lags", lagged).await;
    let (mut seen, mut histories) = (200, 0);
    while seen < last || histories < UNREAD_HISTORIES {
        let frame = slow.next().await;
        if frame["type"] == "history" {
            histories += 1;
        } else {
            seen += 1;
            assert_eq!((&frame["type"], offset(&frame)), (&"smile".into(), seen), "{frame}");
        }
    }
    assert_eq!(anna.persist("after", "bruno").await, last + 1);
    assert_eq!(id(&slow.expect("smile").await), "after", "the session did not become live again");
    slow.expect_alive().await;
    assert!(metric(replica.ops_address, "smilingchat_smiles_caught_up_total").await.unwrap() > 0.0);
}

/// Sends smiles with these ids and waits until the server has admitted or refused them. Discards the frames that arrive
/// meanwhile.
async fn submit(client: &mut TestClient, ids: impl Iterator<Item = String>, to: &str) {
    for id in ids {
        client.send_smile(&id, to).await;
    }
    client.send(json!({"type": "ping"})).await;
    while client.next().await["type"] != "pong" {}
}

/// While the store is blocked, several users send bruno more smiles than an outbox holds, and bruno sends smiles too.
#[tokio::test]
async fn a_lagged_session_gets_its_acks_from_the_log() {
    let replica = replica_with(SessionTimes::default()).await;
    let mut senders = Vec::new();
    for user in ["anna", "carla", "dario"] {
        senders.push(TestClient::connect(replica.address, user).await);
    }
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    let mut held = replica.store.open().await;
    let mut round = 0;
    let lagged = async || metric(replica.ops_address, "smilingchat_lagged_total").await.unwrap();
    // On a slow machine some smiles may be refused. Another round is then necessary.
    eventually("the session lags and gets all its acks", async || {
        round += 1;
        // No smile is appended until this transaction ends.
        held.execute("BEGIN IMMEDIATE").await.unwrap();
        submit(&mut senders[0], std::iter::once(format!("held{round}")), "elena").await;
        for sender in &mut senders {
            submit(sender, (0..100).map(|number| format!("{round}-{number}")), "bruno").await;
        }
        let own = (0..20).map(|number| format!("own{round}-{number}"));
        submit(&mut bruno, own, "elena").await;
        held.execute("ROLLBACK").await.unwrap();
        // Smiles admitted earlier precede this one in the log.
        let last = format!("last{round}");
        bruno.send_smile(&last, "elena").await;
        let (mut seen, mut acked) = (0, 0);
        loop {
            let frame = bruno.next().await;
            if frame["type"] == "error" {
                tokio::time::sleep(Duration::from_millis(50)).await;
                bruno.send_smile(&last, "elena").await;
                continue;
            }
            assert!(offset(&frame) > seen, "this offset was not above the previous one, {seen}: {frame}");
            seen = offset(&frame);
            let expected = if frame["from"] == json!(null) { "ack" } else { "smile" };
            assert_eq!(frame["type"], expected, "{frame}");
            assert_ne!(frame["from"], "bruno", "bruno's own smile did not arrive as an ack: {frame}");
            acked += usize::from(frame["type"] == "ack");
            if frame["id"] == json!(last) {
                break;
            }
        }
        acked == 21 && lagged().await > 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_client_never_reads_is_closed_and_resumes_without_loss() {
    let times = SessionTimes { write_timeout: Duration::from_millis(500), ..SessionTimes::default() };
    let (replica, mut anna, mut slow) = with_a_blocked_reader(times).await;
    let closed = async || metric(replica.ops_address, "smilingchat_closes_total{code=\"4000\"}").await == Some(1.0);
    let last = flood(&mut anna, "the session is closed", closed).await;
    let mut seen = 200;
    let code = loop {
        match slow.event().await {
            Event::Frame(frame) if frame["type"] == "smile" => {
                seen += 1;
                assert_eq!(offset(&frame), seen, "the smiles before the close had a gap");
            }
            Event::Frame(frame) => assert_eq!(frame["type"], "history", "{frame}"),
            Event::Closed(code) => break Some(code),
            Event::Broken => break None,
        }
    };
    // The close frame arrives only if the connection has room for it.
    assert!(matches!(code, Some(4000) | None), "closed with {code:?} instead of 4000");
    let mut back = TestClient::resume(replica.address, "bruno", seen, &slow.epoch()).await;
    assert!(back.recovered());
    assert!(back.replayed().await.iter().map(offset).eq(seen + 1..=last));
}
