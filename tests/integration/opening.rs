//! Opening a session: the `welcome` frame, and the refusals of invalid requests before the upgrade.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{TestClient, smile};
use crate::support::process::TestProcess;
use crate::support::replica::TestReplica;
use crate::support::{eventually, get_json, http, refusal, upgrade, within};

#[tokio::test]
async fn the_first_frame_is_a_complete_welcome() {
    let replica = TestReplica::start(&[("replica", "be1"), ("session-rate", "7"), ("session-burst", "9")]).await;
    let list = get_json(replica.address, "/api/replicas").await;
    let client = TestClient::connect(replica.address, "anna").await;
    let welcome = &client.welcome;
    assert_eq!(welcome["v"], 1);
    assert_eq!(welcome["user"], "anna");
    assert_eq!(welcome["replica"], list["self"]);
    assert!(
        welcome["replica"].as_str().is_some_and(|id| id.starts_with("be1.")),
        "the replica had the wrong name: {welcome}"
    );
    assert_eq!(welcome["epoch"], list["epoch"]);
    assert_eq!(welcome["offset"], 0, "the session on an empty log did not start at 0");
    assert_eq!(welcome["recovered"], false);
    assert_eq!(welcome["ping_interval_ms"], 25_000);
    assert_eq!(welcome["limits"], json!({"session_per_second": 7, "session_burst": 9}));
    assert!(welcome["session"].as_str().is_some_and(|session| !session.is_empty()));

    let other = TestClient::connect(replica.address, "anna").await;
    assert_ne!(other.welcome["session"], welcome["session"]);
}

#[tokio::test]
async fn the_default_limits_match_the_example_in_the_protocol() {
    let replica = TestReplica::start(&[]).await;
    let client = TestClient::connect(replica.address, "anna").await;
    assert_eq!(client.welcome["limits"], json!({"session_per_second": 20, "session_burst": 40}));
}

#[tokio::test]
async fn a_fresh_session_starts_at_the_head() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    anna.smile("c1", "bruno").await;
    let head = anna.smile("c2", "bruno").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    assert_eq!((bruno.offset(), bruno.recovered()), (head, false));
    anna.send(smile("c3", "bruno")).await;
    assert_eq!(bruno.expect("smile").await["id"], "c3");
}

#[tokio::test]
async fn a_malformed_query_is_a_bad_request() {
    let replica = TestReplica::start(&[]).await;
    for query in [
        "",
        "?",
        "?user=",
        "?after=1&epoch=e",
        "?user=anna&after=1",
        "?user=anna&after=&epoch=e",
        "?user=anna&after=-1&epoch=e",
        "?user=anna&after=%2B1&epoch=e",
        "?user=anna&after=1.5&epoch=e",
        "?user=anna&after=1e3&epoch=e",
        "?user=anna&after=0x10&epoch=e",
        "?user=anna&after=%201&epoch=e",
        "?user=anna&after=one&epoch=e",
    ] {
        let answer = upgrade(replica.address, query).send().await.unwrap();
        let (status, retry_after, body) = refusal(answer).await;
        assert_eq!((status, retry_after), (400, None), "{query}: {body}");
        assert_eq!(body["code"], "bad_request", "{query}");
        assert!(
            body["message"].as_str().is_some_and(|message| !message.is_empty()),
            "{query}: the refusal had no message"
        );
        assert!(body.get("retry_after_ms").is_none(), "{query}: the refusal had a retry hint");
    }
}

#[tokio::test]
async fn unknown_query_fields_are_ignored() {
    let replica = TestReplica::start(&[]).await;
    for query in ["?user=anna&later=1", "?epoch=e&user=anna"] {
        TestClient::open(replica.address, query).await.unwrap();
    }
}

#[tokio::test]
async fn an_unknown_user_is_not_found() {
    let replica = TestReplica::start(&[]).await;
    for name in ["nobody", "Anna", "anna%20", "anna%00", "%F0%9F%98%80", "1", &"x".repeat(3000)] {
        let answer = upgrade(replica.address, &format!("?user={name}")).send().await.unwrap();
        let (status, retry_after, body) = refusal(answer).await;
        assert_eq!((status, retry_after), (404, None), "{name}: {body}");
        assert_eq!(body["code"], "unknown_user");
    }
}

#[tokio::test]
async fn only_the_servers_own_and_allowed_origins_are_accepted() {
    let replica = TestReplica::start(&[("allowed-origins", "https://friend.example,http://other.example:81")]).await;
    let own = format!("http://{}", replica.address);
    let behind_tls = format!("https://{}", replica.address);
    for origin in [own.as_str(), &behind_tls, "https://friend.example", "http://other.example:81"] {
        let answer = upgrade(replica.address, "?user=anna").header("origin", origin).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 101, "{origin}");
    }
    let other_port = format!("http://127.0.0.1:{}", replica.address.port() ^ 1);
    for origin in [
        "null",
        "https://evil.example",
        "http://friend.example",
        "http://other.example",
        "http://127.0.0.1",
        &other_port,
    ] {
        let answer = upgrade(replica.address, "?user=anna").header("origin", origin).send().await.unwrap();
        let (status, _, body) = refusal(answer).await;
        assert_eq!((status, &body["code"]), (403, &json!("forbidden_origin")), "{origin}");
        let message = body["message"].as_str().unwrap();
        let host = replica.address.to_string();
        assert!(
            message.contains(origin) && message.contains(&host) && message.contains("--allowed-origins"),
            "the message lacked the origin, the host or the option: {message}"
        );
    }
}

#[tokio::test]
async fn a_refused_origin_is_logged_once_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let server = TestProcess::start(&folder.path().join("chat.db"), &[]).await;
    for origin in ["https://chat.example", "https://chat.example", "null", "https://chat.example"] {
        let asked = upgrade(server.address, "?user=anna").header("host", "backend:8080").header("origin", origin);
        assert_eq!(asked.send().await.unwrap().status().as_u16(), 403);
    }
    eventually("both origins are logged", async || server.log().contains("\"origin\":\"null\"")).await;
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("https://chat.example")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    for word in ["\"host\":\"backend:8080\"", "\"level\":\"WARN\"", "Host", "--allowed-origins"] {
        assert!(lines[0].contains(word), "{word} was missing: {}", lines[0]);
    }
}

#[tokio::test]
async fn the_servers_own_origin_omits_the_default_port() {
    let replica = TestReplica::start(&[]).await;
    let open = async |host: &str, origin: &str| {
        let request = upgrade(replica.address, "?user=anna").header("host", host).header("origin", origin);
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(open("chat.example", "https://chat.example").await, 101);
    assert_eq!(open("chat.example", "http://chat.example").await, 101);
    assert_eq!(open("chat.example:8080", "http://chat.example:8080").await, 101);
    assert_eq!(open("chat.example:8080", "http://chat.example").await, 403);
    assert_eq!(open("chat.example", "http://chat.example:8080").await, 403);
    assert_eq!(open("chat.example", "http://chat.example.evil.example").await, 403);
}

#[tokio::test]
async fn a_request_without_a_handshake_is_refused() {
    let replica = TestReplica::start(&[]).await;
    let asked = http().get(format!("http://{}/ws?user=anna", replica.address)).header("host", "backend:8080");
    let (status, _, body) = refusal(asked.send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (426, &json!("upgrade_required")), "{body}");
    assert_eq!(body["host"], "backend:8080", "the answer lacked the host, which the page compares with its own");
    for (name, value) in [("sec-websocket-version", "12"), ("upgrade", "h2c"), ("connection", "close")] {
        let mut request = upgrade(replica.address, "?user=anna").build().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
        let answer = http().execute(request).await.unwrap();
        assert!((400..500).contains(&answer.status().as_u16()), "{name}: {value} got the status {}", answer.status());
    }
    TestClient::connect(replica.address, "anna").await;
}

const UPGRADE: &str = "GET /ws?user=anna HTTP/1.1";
const VERSION: &str = "Sec-WebSocket-Version: 13";
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

/// The status of the answer to a request with exactly these header fields.
async fn status(address: SocketAddr, request_line: &str, fields: &[&str]) -> u16 {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = [&[request_line], fields, &["", ""]].concat().join("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; "HTTP/1.1 200".len()];
    within("the answer begins", stream.read_exact(&mut start)).await.unwrap();
    std::str::from_utf8(&start["HTTP/1.1 ".len()..]).unwrap().parse().unwrap()
}

#[tokio::test]
async fn connection_and_upgrade_may_be_lists() {
    let replica = TestReplica::start(&[]).await;
    for (lists, expected) in [
        (&["Connection: keep-alive", "Connection: Upgrade", "Upgrade: websocket"][..], 101),
        (&["Connection: keep-alive,\tUpgrade", "Upgrade: websocket"], 101),
        (&["Connection: keep-alive , upgrade", "Upgrade: WebSocket"], 101),
        (&["Connection: Upgrade", "Upgrade: foo/1, websocket"], 101),
        (&["Connection: Upgrade", "Upgrade: foo/1", "Upgrade: websocket"], 101),
        (&["Connection: keep-alive", "Connection: close", "Upgrade: websocket"], 426),
        (&["Connection: keep-alive, upgrades", "Upgrade: websocket"], 426),
        (&["Connection: Upgrade", "Upgrade: foo/1, websockets"], 426),
    ] {
        let fields = [&["Host: chat.example", VERSION, KEY], lists].concat();
        assert_eq!(status(replica.address, UPGRADE, &fields).await, expected, "{lists:?}");
    }
}

#[tokio::test]
async fn a_request_has_one_host_header() {
    let replica = TestReplica::start(&[]).await;
    let own = &*format!("Host: {}", replica.address);
    let origin = &*format!("Origin: http://{}", replica.address);
    for (hosts, expected) in [
        (&[own, origin][..], 101),
        (&[], 400),
        (&[own, "Host: evil.example"], 400),
        (&[own, "Host: evil.example", origin], 400),
    ] {
        let fields = [hosts, &["Connection: Upgrade", "Upgrade: websocket", VERSION, KEY]].concat();
        assert_eq!(status(replica.address, UPGRADE, &fields).await, expected, "{hosts:?}");
    }
    for (request_line, expected) in [
        ("GET / HTTP/1.1", 400),
        ("GET / HTTP/1.0", 200),
        ("GET /api/users HTTP/1.1", 400),
        ("GET /api/users HTTP/1.0", 200),
        ("GET /livez HTTP/1.1", 200),
        ("GET /readyz HTTP/1.0", 200),
    ] {
        assert_eq!(status(replica.address, request_line, &[]).await, expected, "{request_line} without a Host");
    }
}

#[tokio::test]
async fn malformed_http_does_not_affect_other_connections() {
    let replica = TestReplica::start(&[]).await;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"\r\n\r\n\r\n", b"GET", b"GET /ws HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(replica.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = within("the connection ends", stream.read_to_end(&mut answer)).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
            "the answer was not 4xx: {:?}",
            String::from_utf8_lossy(&answer)
        );
    }
    let huge = http().get(format!("http://{}/ws", replica.address)).header("x-huge", "x".repeat(1 << 20));
    let refused = huge.send().await.map_or(true, |answer| answer.status().is_client_error());
    assert!(refused, "an oversized request head was accepted");
    TestClient::connect(replica.address, "anna").await;
}
