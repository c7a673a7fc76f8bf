//! Limits per client address, per session and per replica, and the retry hints of the refusals. A low limit on open
//! files reduces the maximum number of sessions.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::{TestClient, id, smile};
use crate::support::process::TestProcess;
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{UNLIMITED, eventually, get, http, metric, refusal, upgrade};

/// A low rate limit per client address. Without these options, a test replica has no such limit.
const CLIENT_LIMIT: [(&str, &str); 2] = [("client-rate", "1"), ("client-burst", "5")];

async fn status_for(address: SocketAddr, forwarded_for: &str) -> u16 {
    let request = http().get(format!("http://{address}/api/users")).header("x-forwarded-for", forwarded_for);
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test]
async fn a_client_address_past_its_burst_gets_429_with_a_correct_hint() {
    let replica = TestReplica::start(&CLIENT_LIMIT).await;
    for _ in 0..5 {
        assert_eq!(get(replica.address, "/api/users").await.status().as_u16(), 200);
    }
    for answer in [get(replica.address, "/").await, upgrade(replica.address, "?user=anna").send().await.unwrap()] {
        let (status, retry_after, body) = refusal(answer).await;
        assert_eq!((status, &body["code"]), (429, &json!("rate_limited")), "{body}");
        assert!(
            body["retry_after_ms"].as_u64().is_some_and(|wait| (1..=2000).contains(&wait)),
            "the hint was not from 1 to 2,000 ms: {body}"
        );
        assert!(
            retry_after.is_some_and(|seconds| (1..=2).contains(&seconds)),
            "Retry-After was not 1 or 2 s: {retry_after:?}"
        );
    }
    for _ in 0..50 {
        for path in ["/ping", "/livez", "/readyz", "/v/0/js/app.js"] {
            assert_eq!(get(replica.address, path).await.status().as_u16(), 200, "{path} was limited");
        }
    }
    assert_eq!(get(replica.ops_address, "/metrics").await.status().as_u16(), 200);
    let mut retry_after = None;
    eventually("the address is refused again", async || {
        let answer = get(replica.address, "/api/users").await;
        let refused = answer.status().as_u16() == 429;
        if refused {
            retry_after = refusal(answer).await.1;
        }
        refused
    })
    .await;
    tokio::time::sleep(Duration::from_secs(retry_after.unwrap())).await;
    assert_eq!(get(replica.address, "/api/users").await.status().as_u16(), 200);
}

#[tokio::test]
async fn only_the_first_refusal_of_an_address_is_logged_immediately() {
    let folder = tempfile::tempdir().unwrap();
    let proxies = ("trusted-proxies", "127.0.0.0/8");
    let server = TestProcess::start(&folder.path().join("chat.db"), &[CLIENT_LIMIT[0], CLIENT_LIMIT[1], proxies]).await;
    for address in ["192.0.2.1", "192.0.2.2"] {
        let mut refused = 0;
        eventually("the address is refused five times", async || {
            refused += u32::from(status_for(server.address, address).await == 429);
            refused == 5
        })
        .await;
    }
    eventually("both addresses are logged", async || server.log().contains("192.0.2.2")).await;
    let log = server.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("192.0.2.")).collect();
    assert_eq!(lines.len(), 2, "{log}");
    for word in ["\"address\":\"192.0.2.1\"", "\"refused\":1", "\"level\":\"WARN\"", "--client-rate"] {
        assert!(lines[0].contains(word), "{word} was missing: {}", lines[0]);
    }
}

#[tokio::test]
async fn forwarded_addresses_of_untrusted_peers_are_ignored() {
    let replica = TestReplica::start(&[("client-rate", "1"), ("client-burst", "3")]).await;
    let mut statuses = Vec::new();
    for number in 0..8 {
        statuses.push(status_for(replica.address, &format!("192.0.2.{number}")).await);
    }
    assert!(statuses.contains(&429), "a forged address in each request evaded the limit: {statuses:?}");
}

#[tokio::test]
async fn forwarded_addresses_of_trusted_proxies_are_read_from_the_right() {
    let options = [("client-rate", "1"), ("client-burst", "1"), ("trusted-proxies", "127.0.0.0/8,10.0.0.0/8")];
    let replica = TestReplica::start(&options).await;
    for number in 0..20 {
        let one_hop = format!("192.0.2.{number}");
        assert_eq!(status_for(replica.address, &one_hop).await, 200, "an address was refused within its own burst");
        let two_hops = format!("203.0.113.9, 198.51.100.{number}, 10.0.0.1");
        assert_eq!(status_for(replica.address, &two_hops).await, 200, "a trusted hop counted as the client");
    }
    let mut statuses = Vec::new();
    for number in 0..5 {
        statuses.push(status_for(replica.address, &format!("203.0.113.{number}, 192.0.2.200")).await);
    }
    assert!(statuses[1..].contains(&429), "addresses that a client added on the left evaded the limit: {statuses:?}");
}

#[tokio::test]
async fn zero_disables_the_limit_per_client_address() {
    for options in [[("client-rate", "0"), ("client-burst", "1")], [("client-rate", "1"), ("client-burst", "0")]] {
        let replica = TestReplica::start(&options).await;
        for _ in 0..50 {
            assert_eq!(get(replica.address, "/api/users").await.status().as_u16(), 200);
        }
    }
}

/// Sends smiles until one is refused with `code`, waits as long as the refusal's hint says, and sends that smile again.
async fn refused_then_admitted(client: &mut TestClient, code: &str, round: u32) {
    for number in 0..1000 {
        let this = format!("c{round}.{number}");
        client.send_smile(&this, "bruno").await;
        let answer = client.next().await;
        if answer["type"] == "ack" {
            continue;
        }
        assert_eq!((&answer["code"], &answer["temporary"]), (&json!(code), &json!(true)), "{answer}");
        assert_eq!(id(&answer), this);
        let wait = answer["retry_after_ms"].as_u64().expect("a hint");
        assert!((1..=1000).contains(&wait), "the hint was not from 1 to 1,000 ms: {answer}");
        tokio::time::sleep(Duration::from_millis(wait)).await;
        client.smile(&this, "bruno").await;
        return;
    }
    panic!("no smile was refused");
}

#[tokio::test]
async fn a_smile_past_the_burst_of_its_session_is_admitted_after_the_hint() {
    let options = [("session-rate", "4"), ("session-burst", "3"), ("capacity", "0")];
    let replica = TestReplica::start(&options).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for round in 0..3 {
        refused_then_admitted(&mut client, "rate_limited", round).await;
    }
    let mut other = TestClient::connect(replica.address, "anna").await;
    for number in 0..3 {
        other.smile(&format!("other{number}"), "bruno").await;
    }
}

#[tokio::test]
async fn an_invalid_smile_takes_no_token() {
    let options = [("session-rate", "1"), ("session-burst", "2"), ("capacity", "0")];
    let replica = TestReplica::start(&options).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for frame in [json!({"type": "smile", "to": "bruno", "smile": "no"}), smile("x", "nobody"), smile("x", "anna")] {
        client.send(frame).await;
        client.expect("error").await;
    }
    client.smile("c1", "bruno").await;
    client.smile("c2", "bruno").await;
}

#[tokio::test]
async fn a_smile_past_the_capacity_is_admitted_after_the_hint() {
    let replica = TestReplica::start(&[("capacity", "4"), ("session-rate", "0")]).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for round in 0..3 {
        refused_then_admitted(&mut client, "overloaded", round).await;
    }
    assert!(metric(replica.ops_address, "smilingchat_errors_total{code=\"overloaded\"}").await.unwrap() >= 3.0);
}

#[tokio::test]
async fn the_burst_of_a_replica_is_a_quarter_of_its_capacity() {
    let replica = TestReplica::start(&[("capacity", "8"), ("session-rate", "0")]).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for number in 0..3 {
        client.send_smile(&format!("c{number}"), "bruno").await;
    }
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(client.next().await["type"].clone());
    }
    answers.sort_by_key(ToString::to_string);
    assert_eq!(answers, ["ack", "ack", "error"]);
}

#[tokio::test]
async fn a_capacity_of_zero_means_no_limit() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut client = TestClient::connect(replica.address, "anna").await;
    for number in 0..500 {
        client.smile(&format!("c{number}"), "bruno").await;
    }
}

#[derive(Default)]
struct Offered {
    acked: u32,
    /// The time that each refusal took.
    refusals: Vec<Duration>,
}

/// Until the time `until`, sends at most one smile every two milliseconds on average, and waits for each answer.
async fn offer(mut client: TestClient, until: Instant) -> Offered {
    let mut offered = Offered::default();
    let mut beat = tokio::time::interval(Duration::from_millis(2));
    let mut number = 0;
    while Instant::now() < until {
        beat.tick().await;
        number += 1;
        let sent_at = Instant::now();
        client.send_smile(&format!("{number}"), "zoe").await;
        let answer = client.next().await;
        if answer["type"] == "ack" {
            offered.acked += 1;
        } else {
            assert_eq!(answer["code"], "overloaded", "{answer}");
            offered.refusals.push(sent_at.elapsed());
        }
    }
    offered
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_past_the_capacity_is_admitted_up_to_the_capacity() {
    let replica = TestReplica::start(&[("capacity", "40"), ("session-rate", "0")]).await;
    let seconds = 3;
    let (began, mut clients) = (Instant::now(), JoinSet::new());
    for user in ["anna", "bruno"] {
        let client = TestClient::connect(replica.address, user).await;
        clients.spawn(offer(client, began + Duration::from_secs(seconds)));
    }
    let all = clients.join_all().await;
    let took = began.elapsed().as_secs_f64();
    let acked: u32 = all.iter().map(|one| one.acked).sum();
    let mut refusals: Vec<Duration> = all.into_iter().flat_map(|one| one.refusals).collect();
    refusals.sort_unstable();
    assert!(refusals.len() > 40 * 3 * 2, "the load was too low: {acked} acked, {} refused", refusals.len());
    let most = 40.0 * took + 10.0 + 1.0;
    assert!(f64::from(acked) <= most, "{acked} smiles were admitted, but the limit was {most}");
    assert!(f64::from(acked) >= most * 0.7, "only {acked} smiles were admitted, but the limit was {most}");
    let median = refusals[refusals.len() / 2];
    assert!(median < Duration::from_millis(50), "the median refusal took {median:?}");
}

#[tokio::test]
async fn upgrades_past_max_sessions_get_503_until_a_session_ends() {
    let replica = TestReplica::start(&[("max-sessions", "2")]).await;
    let first = TestClient::connect(replica.address, "anna").await;
    let _second = TestClient::connect(replica.address, "bruno").await;
    let (status, retry_after, body) = refusal(upgrade(replica.address, "?user=carla").send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (503, &json!("overloaded")), "{body}");
    assert!(retry_after.is_some_and(|seconds| seconds >= 1));
    assert!(body["retry_after_ms"].as_u64().is_some_and(|wait| wait >= 1));
    assert_eq!(get(replica.address, "/readyz").await.status().as_u16(), 200, "a full replica was not ready");
    first.close().await;
    eventually("another session opens", async || TestClient::open(replica.address, "?user=carla").await.is_ok()).await;
}

#[tokio::test]
async fn a_low_limit_on_open_files_reduces_only_the_sessions() {
    let store = TestStore::new();
    let process = TestProcess::start_with_few_files(&store.path(), 256, &[("capacity", "0")]).await;
    let log = process.log();
    let warning = log.lines().find(|line| line.contains("limit on open files")).expect("a warning at startup");
    let warning: Value = serde_json::from_str(warning).expect("JSON");
    assert_eq!((&warning["limit"], &warning["max_sessions"]), (&json!(256), &json!(15_000)), "{warning}");
    let room = usize::try_from(warning["sessions"].as_u64().expect("a number")).unwrap();
    assert!((100..256).contains(&room), "the maximum was not from 100 to 255 sessions: {warning}");

    let mut clients = Vec::new();
    for _ in 0..room {
        clients.push(TestClient::connect(process.address, "anna").await);
    }
    let mut idle = Vec::new();
    for address in [process.address, process.ops_address] {
        for _ in 0..20 {
            idle.push(TcpStream::connect(address).await.expect("a connection"));
        }
    }
    let (status, _, body) = refusal(upgrade(process.address, "?user=carla").send().await.unwrap()).await;
    assert_eq!((status, &body["code"]), (503, &json!("overloaded")), "{body}");
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(process.address, path).await.status().as_u16(), 200, "{path}");
        assert_eq!(get(process.ops_address, path).await.status().as_u16(), 200, "{path}");
    }
    assert_eq!(metric(process.ops_address, "smilingchat_sessions").await, Some(room as f64));
    let mut last = clients.pop().expect("a client");
    last.send_smile("c1", "bruno").await;
    last.expect("ack").await;
    last.send(json!({"type": "history", "with": "bruno"})).await;
    last.expect("history").await;
    let log = process.log();
    let loud: Vec<_> = log.lines().filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert_eq!(loud.len(), 1, "the warning about the limit was not the only warning or error: {loud:?}");
}

#[tokio::test]
async fn a_history_does_not_enlarge_its_session() {
    const SESSIONS: u32 = 200;
    let store = TestStore::new();
    let process = TestProcess::start(&store.path(), &UNLIMITED).await;
    let mut anna = TestClient::connect(process.address, "anna").await;
    anna.fill_a_history("bruno").await;
    // The first histories also enlarge what all sessions share.
    for _ in 0..20 {
        anna.history("bruno").await;
    }
    let mut sessions = Vec::new();
    for _ in 0..SESSIONS {
        sessions.push(TestClient::connect(process.address, "bruno").await);
    }
    let resident = async || metric(process.ops_address, "process_resident_memory_bytes").await.unwrap();
    let before = resident().await;
    for session in &mut sessions {
        assert_eq!(session.history("anna").await.len(), 200);
    }
    let growth = (resident().await - before) / f64::from(SESSIONS);
    assert!(growth < 16_384.0, "a history of 53 kB enlarged each session by {growth} bytes");
}
