//! Malformed, oversized, fragmented and excessive frames: which of them close their session, and with which code. No
//! other session is affected.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::UNLIMITED;
use crate::support::client::TestClient;
use crate::support::raw::{BINARY, CLOSE, CONTINUATION, FINAL, PING, PONG, RawClient, TEXT, frame, unmasked};
use crate::support::replica::TestReplica;

/// The JSON text `{"type":"ping"}`, padded with spaces to `bytes` bytes (at least 15).
fn ping_of(bytes: usize) -> Vec<u8> {
    let mut text = br#"{"type":"ping"}"#.to_vec();
    text.resize(bytes, b' ');
    text
}

#[tokio::test]
async fn each_violation_closes_the_session_with_its_code() {
    let replica = TestReplica::start(&[]).await;
    let mut witness = TestClient::connect(replica.address, "anna").await;
    let fragments_past_the_bound = [frame(TEXT, &ping_of(4096)), frame(FINAL | CONTINUATION, b" ")].concat();
    let violations: Vec<(&str, Vec<u8>, u16)> = vec![
        ("binary", frame(FINAL | BINARY, b"{}"), 1003),
        ("empty binary", frame(FINAL | BINARY, b""), 1003),
        ("not UTF-8", frame(FINAL | TEXT, b"{\"type\":\"\xff\xfe\"}"), 1007),
        ("a surrogate", frame(FINAL | TEXT, b"\xed\xa0\x80"), 1007),
        ("a truncated sequence", frame(FINAL | TEXT, b"\xf0\x9f\x98"), 1007),
        ("not UTF-8 over two fragments", [frame(TEXT, b"\xf0\x9f"), frame(FINAL | CONTINUATION, b"x")].concat(), 1007),
        ("one byte too large", frame(FINAL | TEXT, &ping_of(4097)), 1009),
        ("one mebibyte", frame(FINAL | TEXT, &ping_of(1024 * 1024)), 1009),
        ("fragments too large together", fragments_past_the_bound, 1009),
        ("unmasked", unmasked(FINAL | TEXT, br#"{"type":"ping"}"#), 1002),
        ("reserved bit 1", frame(FINAL | 0x40 | TEXT, b"{}"), 1002),
        ("reserved bit 2", frame(FINAL | 0x20 | TEXT, b"{}"), 1002),
        ("reserved bit 3", frame(FINAL | 0x10 | TEXT, b"{}"), 1002),
        ("a continuation without a start", frame(FINAL | CONTINUATION, b"{}"), 1002),
        ("text within a fragmented text", [frame(TEXT, b"{"), frame(FINAL | TEXT, b"}")].concat(), 1002),
        ("a fragmented ping", frame(PING, b""), 1002),
        ("a ping of 126 bytes", frame(FINAL | PING, &[b'x'; 126]), 1002),
        ("a pong of 126 bytes", frame(FINAL | PONG, &[b'x'; 126]), 1002),
        ("a close of one byte", frame(FINAL | CLOSE, b"\x03"), 1002),
    ];
    for (what, bytes, code) in violations {
        let mut client = RawClient::connect(replica.address, "bruno").await;
        client.write_until_refused(&bytes).await;
        assert_eq!(client.expect_close().await, code, "{what}");
        witness.expect_alive().await;
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let mut client = RawClient::connect(replica.address, "bruno").await;
        client.write(&frame(FINAL | opcode, b"")).await;
        assert_eq!(client.expect_close().await, 1002, "opcode {opcode:#x}");
    }
    witness.expect_alive().await;
}

#[tokio::test]
async fn the_largest_frame_and_fragments_are_accepted() {
    let replica = TestReplica::start(&[]).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    client.write(&frame(FINAL | TEXT, &ping_of(4096))).await;
    assert_eq!(client.json().await["type"], "pong");

    let text = "{\"type\":\"smile\",\"id\":\"c1\",\"to\":\"bruno\",\"smile\":\"😀\"}".as_bytes();
    client.write(&frame(TEXT, &text[..5])).await;
    for byte in &text[5..] {
        client.write(&frame(CONTINUATION, &[*byte])).await;
    }
    client.write(&frame(FINAL | PING, b"between")).await;
    client.write(&frame(FINAL | CONTINUATION, b"")).await;
    assert_eq!(client.frame().await, Some((PONG, b"between".to_vec())));
    assert_eq!(client.json().await, json!({"type": "ack", "id": "c1", "offset": 1, "duplicate": false}));
}

#[tokio::test]
async fn a_frame_may_arrive_byte_by_byte() {
    let replica = TestReplica::start(&[]).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    for byte in frame(FINAL | TEXT, br#"{"type":"ping"}"#) {
        client.write(&[byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.json().await["type"], "pong");
}

#[tokio::test]
async fn frames_after_an_error_are_answered() {
    let replica = TestReplica::start(&[]).await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    let burst = [frame(FINAL | TEXT, b"nonsense"), frame(FINAL | TEXT, b"help"), frame(FINAL | TEXT, &ping_of(15))];
    client.write(&burst.concat()).await;
    for kind in ["error", "help", "pong"] {
        assert_eq!(client.json().await["type"], kind);
    }
}

#[tokio::test]
async fn a_flood_of_bad_requests_ends_with_1008() {
    let replica = TestReplica::start(&[]).await;
    let mut witness = TestClient::connect(replica.address, "bruno").await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for _ in 0..100 {
        client.send_text("nonsense").await;
        client.expect_error("bad_request").await;
    }
    client.expect_alive().await;
    for _ in 0..500 {
        let _ = client.try_send("nonsense").await;
    }
    assert_eq!(client.expect_close().await, 1008);
    witness.expect_alive().await;
    TestClient::connect(replica.address, "anna").await.expect_alive().await;
}

#[tokio::test]
async fn not_a_smile_and_unknown_user_never_end_a_session() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for _ in 0..150 {
        client.send(json!({"type": "smile", "id": "c1", "to": "bruno", "smile": "no"})).await;
        client.expect_error("not_a_smile").await;
        client.send(json!({"type": "smile", "id": "c1", "to": "nobody", "smile": "😀"})).await;
        client.expect_error("unknown_user").await;
    }
    client.expect_alive().await;
}

#[tokio::test]
async fn a_flood_of_rate_limited_smiles_ends_with_1008() {
    let replica = TestReplica::start(&[("session-rate", "1"), ("session-burst", "1"), ("capacity", "0")]).await;
    let mut witness = TestClient::connect(replica.address, "bruno").await;
    let mut client = RawClient::connect(replica.address, "anna").await;
    let smile = frame(FINAL | TEXT, br#"{"type":"smile","id":"c1","to":"bruno","smile":":)"}"#);
    let began = Instant::now();
    let (mut rate_limited, mut last) = (0, None);
    for _ in 0..1100 {
        client.write_until_refused(&smile).await;
        last = client.frame().await;
        let Some((TEXT, answer)) = &last else { break };
        rate_limited += usize::from(String::from_utf8_lossy(answer).contains("rate_limited"));
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "the flood took {:?}, longer than the window of the fault budget: this machine is too slow",
        began.elapsed()
    );
    assert_eq!(rate_limited, 1001, "the session did not end after exactly 1,001 refusals");
    let closed = last.is_some_and(|(opcode, code)| opcode == CLOSE && code.starts_with(&1008_u16.to_be_bytes()));
    assert!(closed, "the session did not end with a close frame of code 1008");
    witness.expect("smile").await;
    witness.expect_alive().await;
}

#[tokio::test]
async fn overloaded_never_ends_a_session() {
    let replica = TestReplica::start(&[("capacity", "1"), ("session-rate", "0")]).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    let mut overloaded = 0;
    for number in 0..1500 {
        client.send_smile(&format!("c{number}"), "bruno").await;
        let answer = client.next().await;
        overloaded += usize::from(answer["code"] == "overloaded");
    }
    assert!(overloaded > 1000, "only {overloaded} smiles were refused as overloaded");
    client.expect_alive().await;
}
