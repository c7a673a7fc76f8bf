//! The frontend's nginx in front of real replicas that hang, are full, die or are cut off; and the page that nginx
//! serves.

use std::collections::BTreeSet;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::TestClient;
use crate::support::fleet::free_address;
use crate::support::frontend::{BlackHole, Frontend, addresses, start_replicas};
use crate::support::mysql::TestDatabase;
use crate::support::process::{TestProcess, run_program, start_program};
use crate::support::replica::TestStore;
use crate::support::{eventually, get, get_json, header, http, quoted, refusal, upgrade};

/// The longest delay that a hanging replica may cause.
const SECONDS: Duration = Duration::from_secs(5);

const PAUSE: Duration = Duration::from_millis(50);

/// The number of sessions that are opened while replicas are cut off. At one per [`PAUSE`], opening them takes four
/// seconds.
const UPGRADES: u32 = 80;

/// The number of sessions that a replica accepts: few enough for a test to open them all, and enough for all upgrades.
const ROOM: usize = 100;

async fn one_replica() -> (TestStore, TestProcess, Frontend) {
    let (addresses, store) = (addresses(1), TestStore::new());
    let listen = addresses[0].to_string();
    let replica = TestProcess::start(&store.path(), &[("listen", &listen)]).await;
    let frontend = Frontend::before(&addresses).await;
    (store, replica, frontend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_replica_delays_clients_by_seconds_at_most() {
    let Some(database) = TestDatabase::new().await else { return };
    let addresses = addresses(4);
    let replicas = start_replicas(&addresses, &database).await;
    let frontend = Frontend::before(&addresses).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(TestClient::connect(frontend.address, "anna").await);
    }
    let hung = &replicas[0];
    let on_hung = |client: &TestClient| client.welcome["replica"] == hung.replica.as_str();
    assert_eq!(
        clients.iter().filter(|client| on_hung(client)).count(),
        3,
        "the replica did not get a quarter of the sessions"
    );

    hung.signal("STOP").await;
    // When its clients leave, the hanging replica has the fewest connections, so nginx prefers it.
    clients.retain(|client| !on_hung(client));
    let sessions = (0..3).map(async |_| {
        let asked = Instant::now();
        a_short_session(frontend.address).await;
        asked.elapsed()
    });
    let questions = (0..3).map(async |_| {
        let asked = Instant::now();
        assert_eq!(get(frontend.address, "/api/replicas").await.status().as_u16(), 200);
        asked.elapsed()
    });
    let (sessions, questions) = tokio::join!(join_all(sessions), join_all(questions));
    let slowest = sessions.into_iter().chain(questions).max().unwrap();
    assert!(slowest < SECONDS, "the slowest answer took {slowest:?}");
    // From now on nginx skips the hanging replica, except for occasional retries.
    for _ in 0..20 {
        let asked = Instant::now();
        a_short_session(frontend.address).await;
        assert_eq!(get(frontend.address, "/api/users").await.status().as_u16(), 200);
        assert!(asked.elapsed() < SECONDS, "an answer took {:?}", asked.elapsed());
    }
}

/// Hangs the first of four replicas while the simulator runs through the proxy, which at first knows only the first
/// `known` replicas. If `quiet` is true, the requests to the API pause until the replica counts as lost. Otherwise a
/// request, instead of a session, may be the first to reach the hanging replica.
async fn a_replica_hangs_under_load(known: usize, quiet: bool) {
    let Some(database) = TestDatabase::new().await else { return };
    let addresses = addresses(4);
    let replicas = start_replicas(&addresses, &database).await;
    let frontend = Frontend::before(&addresses[..known]).await;
    let url = format!("--url=ws://{}/ws", frontend.address);
    let arguments = ["simulate", &url, "--conversations=20", "--rate=2", "--duration=20", "--json"];
    let asks = async || {
        let asked = Instant::now();
        let answer = get(frontend.address, "/api/replicas").await;
        assert!(asked.elapsed() < SECONDS, "an answer took {:?}", asked.elapsed());
        answer.json::<Value>().await.expect("JSON")
    };
    let mut simulation = pin!(run_program(&arguments));
    let fault = async {
        eventually("the log has a smile", async || asks().await["head"].as_u64() > Some(0)).await;
        frontend.names(&addresses);
        eventually("the last replica answers", async || asks().await["self"] == replicas[3].replica).await;
        replicas[0].signal("STOP").await;
        if quiet {
            eventually("the replica is lost", async || is_lost(&replicas[3], &replicas[0]).await).await;
        }
        loop {
            asks().await;
            tokio::time::sleep(PAUSE).await;
        }
    };
    let output = tokio::select! {
        output = &mut simulation => output,
        () = fault => unreachable!("the requests never end"),
    };
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report as JSON");
    assert!(output.status.success(), "the simulation failed: {report}");
    assert!(report["reconnects"].as_u64() >= Some(10), "too few sessions reconnected: {report}");
    let slowest = report["recovery_ms"]["max"].as_f64().expect("milliseconds");
    assert!(slowest < SECONDS.as_secs_f64() * 1000.0, "a session recovered too late: {report}");
}

async fn is_lost(witness: &TestProcess, replica: &TestProcess) -> bool {
    let list = get_json(witness.address, "/api/replicas").await;
    let replicas = list["replicas"].as_array().expect("a list");
    replicas.iter().any(|one| one["id"] == replica.replica && one["state"] == "lost")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_back_within_seconds_after_one_of_four_replicas_hangs() {
    a_replica_hangs_under_load(4, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_back_within_seconds_after_the_replica_with_all_sessions_hangs() {
    a_replica_hangs_under_load(1, false).await;
}

async fn four_replicas() -> (Vec<SocketAddr>, Vec<TestStore>, Vec<TestProcess>, Frontend) {
    let (addresses, stores) = (addresses(4), (0..4).map(|_| TestStore::new()).collect::<Vec<_>>());
    let mut replicas = Vec::new();
    for (address, store) in addresses.iter().zip(&stores) {
        let (listen, room) = (address.to_string(), ROOM.to_string());
        replicas.push(TestProcess::start(&store.path(), &[("listen", &listen), ("max-sessions", &room)]).await);
    }
    let frontend = Frontend::before(&addresses).await;
    (addresses, stores, replicas, frontend)
}

async fn cut_off(replicas: &mut [TestProcess]) -> Vec<BlackHole> {
    let mut cut_off = Vec::new();
    for replica in &mut replicas[2..] {
        replica.kill().await;
        cut_off.push(BlackHole::at(replica.address).await);
    }
    cut_off
}

/// Each session must open within three seconds, because two replicas are still running.
async fn sessions_open(frontend: &Frontend) {
    let upgrades = (0..UPGRADES).map(async |number| {
        tokio::time::sleep(PAUSE * number).await;
        let asked = Instant::now();
        let answer = upgrade(frontend.address, "?user=bruno").send().await.expect("an answer");
        assert_eq!(answer.status(), 101, "upgrade {number} was refused after {:?}", asked.elapsed());
        asked.elapsed()
    });
    let slowest = join_all(upgrades).await.into_iter().max().unwrap();
    assert!(slowest < Duration::from_secs(3), "the slowest upgrade took {slowest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_refused_while_half_of_the_replicas_are_cut_off() {
    let (_addresses, _stores, mut replicas, frontend) = four_replicas().await;
    let mut sessions = Vec::new();
    for _ in 0..12 {
        sessions.push(TestClient::connect(frontend.address, "anna").await);
    }
    let _cut_off = cut_off(&mut replicas).await;
    sessions_open(&frontend).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_refused_while_replicas_that_are_cut_off_disappear_from_dns() {
    let (addresses, _stores, mut replicas, frontend) = four_replicas().await;
    let _cut_off = cut_off(&mut replicas).await;
    // Fill the other two replicas for a moment, so that the proxy skips all four.
    let mut sessions = Vec::new();
    for address in &addresses[..2] {
        for _ in 0..ROOM {
            sessions.push(TestClient::connect(*address, "anna").await);
        }
    }
    for _ in 0..2 {
        let refused = upgrade(frontend.address, "?user=bruno").send().await.expect("an answer").status();
        assert!(refused.is_server_error(), "the upgrade was not refused: {refused}");
    }
    join_all(sessions.into_iter().map(TestClient::close)).await;
    let disappearance = async {
        tokio::time::sleep(PAUSE * UPGRADES / 4).await;
        frontend.names(&addresses[..2]);
    };
    tokio::join!(sessions_open(&frontend), disappearance);
}

#[tokio::test]
async fn if_the_only_replica_hangs_the_page_gets_an_error_within_seconds() {
    let (_store, hung, frontend) = one_replica().await;
    hung.signal("STOP").await;
    let asked = Instant::now();
    let (status, _, body) = refusal(get(frontend.address, "/api/replicas").await).await;
    assert_eq!((status, &body["code"]), (502, &json!("no_replica")), "{body}");
    assert!(asked.elapsed() < SECONDS, "an answer took {:?}", asked.elapsed());
}

async fn a_short_session(address: SocketAddr) {
    TestClient::connect(address, "bruno").await.close().await;
}

#[tokio::test]
async fn full_replicas_do_not_count_as_dead() {
    let (addresses, stores) = (addresses(2), [TestStore::new(), TestStore::new()]);
    let mut replicas = Vec::new();
    for (address, store) in addresses.iter().zip(&stores) {
        let listen = address.to_string();
        replicas.push(TestProcess::start(&store.path(), &[("listen", &listen), ("max-sessions", "1")]).await);
    }
    let frontend = Frontend::before(&addresses).await;
    let _anna = TestClient::connect(frontend.address, "anna").await;
    let _bruno = TestClient::connect(frontend.address, "bruno").await;
    for _ in 0..10 {
        let (status, _, body) = refusal(upgrade(frontend.address, "?user=carla").send().await.unwrap()).await;
        assert_eq!((status, &body["code"]), (503, &json!("overloaded")), "{body}");
        assert_eq!(get(frontend.address, "/api/users").await.status().as_u16(), 200);
    }
    for mut replica in replicas {
        replica.kill().await;
    }
    let (status, retry_after, body) = refusal(upgrade(frontend.address, "?user=carla").send().await.unwrap()).await;
    assert_eq!((status, retry_after, &body["code"]), (502, Some(1), &json!("no_replica")), "{body}");
}

#[tokio::test]
async fn an_upgrade_during_the_start_of_the_only_replica_gets_its_refusal() {
    let (_store, mut replica, frontend) = one_replica().await;
    replica.kill().await;
    let (listen, unused) = (format!("--listen={}", replica.address), free_address());
    let _starting =
        start_program(&[&listen, "--ops-listen=127.0.0.1:0", &format!("--store=mysql://chat@{unused}/chat")]);
    eventually("the process is alive", async || {
        let alive = http().get(format!("http://{}/livez", replica.address)).send().await;
        alive.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let (status, retry_after, body) = refusal(upgrade(frontend.address, "?user=anna").send().await.unwrap()).await;
    assert_eq!((status, retry_after, &body["code"]), (503, Some(1), &json!("store_unavailable")), "{body}");
}

#[tokio::test]
async fn a_connection_is_not_reset_when_its_replica_dies() {
    let (_store, mut replica, frontend) = one_replica().await;
    let mut stream = TcpStream::connect(frontend.address).await.unwrap();
    let request = format!(
        "GET /ws?user=anna HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        frontend.address
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    replica.kill().await;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("the connection did not end cleanly");
    for _ in 0..20 {
        stream.write_all(&[0x89, 0x80, 0, 0, 0, 0]).await.expect("a write after the end was rejected");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_proxy_answers_over_ipv6_if_the_machine_has_ipv6() {
    let (_store, _replica, frontend) = one_replica().await;
    let by_ipv6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), frontend.address.port());
    let there = http().get(format!("http://{by_ipv6}/ping")).send().await.is_ok_and(|answer| answer.status() == 200);
    assert_eq!(there, Path::new("/proc/net/if_inet6").exists());
}

async fn get_with(address: SocketAddr, path: &str, name: &str, value: &str) -> Response {
    let asked = http().get(format!("http://{address}{path}")).header(name, value);
    asked.send().await.expect("an answer")
}

#[tokio::test]
async fn the_page_behind_the_proxy_is_small_and_cacheable() {
    let (_store, _replica, frontend) = one_replica().await;
    let html = get(frontend.address, "/").await.text().await.unwrap();
    let files: BTreeSet<&str> = quoted(&html, "v/").into_iter().collect();
    let app = files.iter().find(|path| path.ends_with("/js/app.js")).expect("the page did not name its first module");
    let words = app.replace("app.js", "words-en.js");
    let code = format!("api/join.svg?url=http://{}/join.html", frontend.address);
    let mut bytes = 0;
    for path in files.iter().copied().chain([words.as_str(), "", "api/users", &code]) {
        let answer = get_with(frontend.address, &format!("/{path}"), "accept-encoding", "gzip").await;
        assert_eq!((answer.status().as_u16(), header(&answer, "content-encoding").as_str()), (200, "gzip"), "{path}");
        if path.is_empty() || path.starts_with("v/") {
            let caching = if path.is_empty() { "no-cache" } else { "public, max-age=31536000, immutable" };
            assert_eq!(header(&answer, "cache-control"), caching, "{path}");
            assert!(header(&answer, "vary").eq_ignore_ascii_case("accept-encoding"), "{path} did not vary by encoding");
            assert!(header(&answer, "content-type").ends_with("; charset=utf-8"), "{path} had no charset");
        }
        bytes += answer.bytes().await.unwrap().len();
    }
    assert!(bytes < 60_000, "the page had {bytes} compressed bytes");
    let another = app.replace(app.split('/').nth(1).unwrap(), "0123456789abcdef");
    let answer = get(frontend.address, &format!("/{another}")).await;
    assert_eq!((answer.status().as_u16(), header(&answer, "cache-control").as_str()), (200, "no-cache"), "{another}");
}

#[tokio::test]
async fn the_proxy_answers_revalidations_of_the_page_and_rejects_writes() {
    let (_store, _replica, frontend) = one_replica().await;
    for encoding in ["identity", "gzip"] {
        let tag = header(&get_with(frontend.address, "/", "accept-encoding", encoding).await, "etag");
        let asked = http().get(format!("http://{}/", frontend.address)).header("accept-encoding", encoding);
        let answer = asked.header("if-none-match", &tag).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "cache-control").as_str()), (304, "no-cache"), "{tag}");
    }
    let answer = http().post(format!("http://{}/", frontend.address)).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), header(&answer, "allow").as_str()), (405, "GET, HEAD"));
}

#[tokio::test]
async fn during_development_the_page_loads_the_script_that_reloads_it_and_keeps_its_tag() {
    let (_store, _replica, frontend) = one_replica().await;
    let page = get(frontend.development, "/").await;
    assert_ne!(header(&page, "etag"), "", "the page had no tag, by which the script detects changes");
    let html = page.text().await.unwrap();
    let scripts = quoted(&html, "/development/");
    assert_eq!(scripts, ["/development/reload.js"]);
    assert_eq!(get(frontend.development, scripts[0]).await.status().as_u16(), 200);
}
