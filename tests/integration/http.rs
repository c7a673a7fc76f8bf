//! HTTP: the page, the API, the probes and the metrics.

use std::fs;
use std::net::SocketAddr;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::frontend::page;
use crate::support::replica::TestReplica;
use crate::support::{eventually, get, get_json, header, http, metric, quoted, refusal};

#[tokio::test]
async fn the_page_and_its_assets_are_served_with_their_headers() {
    let replica = TestReplica::start(&[]).await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/index.html", "text/html"),
        ("/style.css", "text/css"),
        ("/js/app.js", "text/javascript"),
        ("/favicon.svg", "image/svg+xml"),
    ] {
        let answer = get(replica.address, path).await;
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        assert!(header(&answer, "content-type").starts_with(kind), "{path}: {}", header(&answer, "content-type"));
        let policy = header(&answer, "content-security-policy");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "the policy lacked a directive: {policy}"
        );
        assert!(!policy.contains("unsafe"), "the policy allowed an unsafe source: {policy}");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
        assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
        let tag = header(&answer, "etag");
        assert!(!answer.text().await.unwrap().is_empty());
        let strong = tag.strip_prefix("W/").expect("the tag should be weak, because all encodings share it");
        for known in [&tag, strong, "*", &format!("\"another\", {tag}"), &format!("W/\"another\" ,{strong}")] {
            let asked = http().get(format!("http://{}{path}", replica.address)).header("if-none-match", known);
            let answer = asked.send().await.unwrap();
            assert_eq!((answer.status().as_u16(), header(&answer, "etag")), (304, tag.clone()), "{path} {known}");
            assert_eq!(header(&answer, "vary"), "accept-encoding", "{path} {known}");
        }
        let asked = http().get(format!("http://{}{path}", replica.address)).header("if-none-match", "\"another\"");
        assert_eq!(asked.send().await.unwrap().status().as_u16(), 200, "{path}");
    }
}

#[tokio::test]
async fn versioned_assets_are_cached_and_the_page_is_revalidated() {
    let replica = TestReplica::start(&[]).await;
    let answer = get(replica.address, "/").await;
    assert_eq!(header(&answer, "cache-control"), "no-cache");
    let page = answer.text().await.unwrap();
    let assets = quoted(&page, "v/");
    assert!(
        assets.len() > 20 && assets.iter().any(|path| path.ends_with("/js/app.js")),
        "the page lacked versioned assets: {assets:?}"
    );
    for path in &assets {
        let answer = get(replica.address, &format!("/{path}")).await;
        let caching = header(&answer, "cache-control");
        assert_eq!(
            (answer.status().as_u16(), caching.as_str()),
            (200, "public, max-age=31536000, immutable"),
            "{path}"
        );
    }
    // A replica also answers a path with another version or without a version, but browsers must revalidate the asset.
    for path in ["/v/0123456789abcdef/js/app.js", "/js/app.js"] {
        let answer = get(replica.address, path).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "cache-control")),
            (200, "no-cache".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_image_of_the_frontend_holds_the_same_page_as_a_replica() {
    let replica = TestReplica::start(&[]).await;
    let page = page().await;
    for name in ["index.html", "join.html"] {
        let html = fs::read_to_string(page.join(name)).unwrap();
        let assets = quoted(&html, "v/");
        assert!(
            assets.len() > 10 && quoted(&html, "js/").is_empty(),
            "{name} lacked versioned assets or named unversioned ones: {assets:?}"
        );
        let ours = get(replica.address, &format!("/{name}")).await.text().await.unwrap();
        let version = |html| quoted(html, "v/")[0].split('/').nth(1).unwrap();
        assert!(html.replace(version(&html), version(&ours)) == ours, "{name} differed from the replica's");
        for path in assets {
            let ours = get(replica.address, &format!("/{path}")).await.text().await.unwrap();
            assert!(fs::read_to_string(page.join(path)).unwrap() == ours, "{path} differed from the replica's");
            assert!(!ours.starts_with("//") && !ours.contains("/**"), "{path} had comments");
        }
    }
}

#[tokio::test]
async fn responses_use_an_encoding_that_the_client_accepts() {
    let replica = TestReplica::start(&[]).await;
    let asked = async |path: &str, accepted: &str| {
        let asked = http().get(format!("http://{}{path}", replica.address)).header("accept-encoding", accepted);
        let answer = asked.send().await.unwrap();
        let (encoding, vary) = (header(&answer, "content-encoding"), header(&answer, "vary"));
        assert!(vary.eq_ignore_ascii_case("accept-encoding"), "{path} varied by {vary:?}");
        (encoding, answer.bytes().await.unwrap().len())
    };
    for path in ["/", "/js/app.js", "/style.css", "/favicon.svg", "/api/users"] {
        let (_, whole) = asked(path, "identity").await;
        for (accepted, expected) in
            [("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.1", "gzip")]
        {
            let (encoding, length) = asked(path, accepted).await;
            assert_eq!(encoding, expected, "{path} for {accepted}");
            assert!(length < whole * 3 / 4, "{path} was compressed only from {whole} to {length} bytes");
        }
        assert_eq!(asked(path, "br;q=0").await.0, "", "{path}");
    }
}

#[tokio::test]
async fn unknown_paths_get_404() {
    let replica = TestReplica::start(&[]).await;
    for path in
        ["/nothing", "/js/", "/js/nothing.js", "/package.json", "/..%2fCargo.toml", "/%2e%2e/Cargo.toml", "/metrics"]
    {
        let (status, _, body) = refusal(get(replica.address, path).await).await;
        assert_eq!((status, &body["code"]), (404, &json!("not_found")), "{path}");
    }
}

#[tokio::test]
async fn unsupported_methods_get_405() {
    let replica = TestReplica::start(&[]).await;
    for (method, allowed, paths) in [
        (Method::POST, "GET,HEAD", &["/", "/ws", "/api/users", "/api/replicas", "/ping", "/livez", "/readyz"][..]),
        (Method::GET, "POST", &["/api/crash"]),
    ] {
        for path in paths {
            let asked = http().request(method.clone(), format!("http://{}{path}", replica.address));
            let answer = asked.send().await.unwrap();
            assert_eq!(header(&answer, "allow"), allowed, "{path}");
            let (status, _, body) = refusal(answer).await;
            assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")), "{path}");
        }
    }
    let missing = http().post(format!("http://{}/missing", replica.address)).send().await.unwrap();
    assert_eq!(refusal(missing).await.0, 404);
}

#[tokio::test]
async fn ping_names_the_replica_and_its_version() {
    let replica = TestReplica::start(&[("replica", "be1")]).await;
    let answer = get(replica.address, "/ping").await;
    assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, "application/json".to_owned()));
    let ping: Value = answer.json().await.unwrap();
    assert!(
        ping["replica"].as_str().is_some_and(|id| id.starts_with("be1.")),
        "the replica had the wrong name: {ping}"
    );
    assert_eq!(ping["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn every_user_can_open_a_session() {
    let replica = TestReplica::start(&[]).await;
    let users = get_json(replica.address, "/api/users").await;
    let users = users.as_array().unwrap();
    assert_eq!(users.len(), 256);
    let mut names: Vec<&str> = users.iter().map(|user| user["name"].as_str().unwrap()).collect();
    for user in users {
        assert!(user["face"].as_str().is_some_and(|face| !face.is_empty()), "a user had no face: {user}");
        TestClient::connect(replica.address, user["name"].as_str().unwrap()).await;
    }
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), users.len(), "two users had the same name");
}

#[tokio::test]
async fn only_addresses_on_the_host_of_the_request_get_a_join_code() {
    let replica = TestReplica::start(&[]).await;
    let code = async |host: &str, url: &str| {
        let asked = http().get(format!("http://{}/api/join.svg?url={url}", replica.address));
        asked.header("host", host).send().await.unwrap()
    };
    let mut images = Vec::new();
    for (host, url) in [
        ("chat.example", "https://chat.example/join.html"),
        ("Chat.example:808", "http://chat.example:808/deep/join.html"),
        ("[::1]:8080", "http://[::1]:8080/join.html"),
    ] {
        let answer = code(host, url).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-type").as_str()),
            (200, "image/svg+xml"),
            "{url}"
        );
        images.push(answer.text().await.unwrap());
    }
    assert!(images.iter().all(|image| image.contains("<svg")) && images[0] != images[1]);
    let long = format!("https://chat.example/{}", "x".repeat(300));
    let wrong = ["", "join.html", "https://evil.example/", "https://chat.example:81/", "ftp://chat.example/", &long];
    for url in wrong {
        let (status, _, body) = refusal(code("chat.example", url).await).await;
        assert_eq!((status, &body["code"]), (400, &json!("bad_request")), "{url}");
    }
    let (status, _, body) = refusal(get(replica.address, "/api/join.svg").await).await;
    assert_eq!((status, &body["code"]), (400, &json!("bad_request")), "a request without a URL was not refused");
}

#[tokio::test]
async fn the_list_of_replicas_describes_the_log_and_the_replica() {
    let replica = TestReplica::start(&[("replica", "be1"), ("capacity", "77")]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let head = anna.smile("c1", "bruno").await;
    let list = get_json(replica.address, "/api/replicas").await;
    assert_eq!((&list["epoch"], list["head"].as_u64()), (&anna.welcome["epoch"], Some(head)));
    assert_eq!(list["self"], anna.welcome["replica"]);
    assert_eq!(list["replicas"].as_array().unwrap().len(), 1);
    let own = &list["replicas"][0];
    assert_eq!((&own["id"], &own["name"], &own["state"]), (&list["self"], &json!("be1"), &json!("ready")));
    assert_eq!((&own["sessions"], &own["capacity"]), (&json!(1), &json!(77)));
    assert_eq!(own["version"], env!("CARGO_PKG_VERSION"));
    assert!(own["host"].as_str().is_some_and(|host| !host.is_empty()), "the replica had no host: {own}");
    assert!(own["heartbeat_age_ms"].as_u64().is_some_and(|age| age < 5000), "the heartbeat was too old: {own}");
    assert!(own["uptime_ms"].as_u64().is_some_and(|age| age < 60_000), "the uptime was too long: {own}");
    assert!(own["smiles_per_second"].is_number(), "the replica had no rate: {own}");
    let started_at = own["started_at"].as_str().unwrap();
    assert!(started_at.len() == 24 && started_at.ends_with('Z'), "the time had the wrong format: {started_at}");
    eventually("the list shows a rate above 0", async || {
        anna.smile(&format!("r{}", rand::random::<u64>()), "bruno").await;
        let list = get_json(replica.address, "/api/replicas").await;
        list["replicas"][0]["smiles_per_second"].as_f64().is_some_and(|rate| rate > 0.0)
    })
    .await;
}

#[tokio::test]
async fn the_list_of_replicas_has_platform_node_and_links() {
    let links = "Visualizer=http://localhost:8090,Grafana=https://grafana.example/d/1?a=b";
    let options = [("platform", "swarm"), ("node", "worker1"), ("links", links)];
    let replica = TestReplica::start(&options).await;
    let list = get_json(replica.address, "/api/replicas").await;
    assert_eq!((&list["platform"], &list["replicas"][0]["node"]), (&json!("swarm"), &json!("worker1")));
    let expected = json!([
        {"name": "Visualizer", "url": "http://localhost:8090/"},
        {"name": "Grafana", "url": "https://grafana.example/d/1?a=b"},
    ]);
    assert_eq!(list["links"], expected);
}

#[tokio::test]
async fn probes_answer_on_both_listeners() {
    let replica = TestReplica::start(&[]).await;
    for address in [replica.address, replica.ops_address] {
        for path in ["/livez", "/readyz"] {
            assert_eq!(get(address, path).await.status().as_u16(), 200, "{path}");
        }
    }
}

async fn metrics(address: SocketAddr) -> String {
    let answer = get(address, "/metrics").await;
    assert_eq!(answer.status().as_u16(), 200);
    assert!(header(&answer, "content-type").starts_with("text/plain; version=0.0.4"));
    answer.text().await.expect("the metrics should be text")
}

#[tokio::test]
async fn metrics_start_at_zero_and_the_operations_listener_serves_no_api() {
    let replica = TestReplica::start(&[]).await;
    let text = metrics(replica.ops_address).await;
    for code in ["overloaded", "rate_limited", "store_unavailable", "bad_request", "not_a_smile", "unknown_user"] {
        assert!(
            text.contains(&format!("smilingchat_errors_total{{code=\"{code}\"}} 0\n")),
            "the counter of {code} errors was missing or not 0"
        );
    }
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1011, 1012, 1013, 4000, 4001, 4002] {
        assert!(
            text.contains(&format!("smilingchat_closes_total{{code=\"{code}\"}} 0\n")),
            "the counter of closes with {code} was missing or not 0"
        );
    }
    for start in ["fresh", "recovered", "not_recovered"] {
        assert!(
            text.contains(&format!("smilingchat_sessions_opened_total{{start=\"{start}\"}} 0\n")),
            "the counter of {start} sessions was missing or not 0"
        );
    }
    for name in ["sessions", "smiles_stored_total", "smiles_duplicate_total", "smiles_published_total", "lagged_total"]
    {
        assert!(text.contains(&format!("\nsmilingchat_{name} 0\n")), "{name} was missing or not 0");
    }
    let (status, _, body) = refusal(get(replica.ops_address, "/api/users").await).await;
    assert_eq!((status, &body["code"]), (404, &json!("not_found")), "the operations listener served the API");
}

#[tokio::test]
async fn metrics_count_sessions_and_smiles() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    anna.smile("c1", "bruno").await;
    bruno.expect("smile").await;
    anna.send_smile("c1", "bruno").await;
    anna.expect("ack").await;
    anna.send_text("nonsense").await;
    anna.expect_error("bad_request").await;
    anna.send_smile("c2", "nobody").await;
    anna.expect_error("unknown_user").await;
    for (name, value) in [
        ("smilingchat_sessions", 2.0),
        ("smilingchat_sessions_opened_total{start=\"fresh\"}", 2.0),
        ("smilingchat_smiles_stored_total", 1.0),
        ("smilingchat_smiles_duplicate_total", 1.0),
        ("smilingchat_smiles_published_total", 1.0),
        ("smilingchat_errors_total{code=\"bad_request\"}", 1.0),
        ("smilingchat_errors_total{code=\"unknown_user\"}", 1.0),
        ("smilingchat_ack_seconds_count", 2.0),
        ("smilingchat_delivery_seconds_count", 1.0),
        ("smilingchat_append_seconds_count", 2.0),
    ] {
        assert_eq!(metric(replica.ops_address, name).await, Some(value), "{name}");
    }
    bruno.close().await;
    eventually("the number of sessions drops to 1", async || {
        metric(replica.ops_address, "smilingchat_sessions").await == Some(1.0)
    })
    .await;
    eventually("the replica reports that it is ready", async || {
        metric(replica.ops_address, "smilingchat_ready").await == Some(1.0)
    })
    .await;
}
