//! `POST /api/crash`: the order of its checks, and each crash mode.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::ledger::{Ledger, StoredLog};
use crate::support::process::TestProcess;
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{crash, eventually, get, get_json, header, http, refusal, upgrade};

/// How long a request to a hanging replica must stay unanswered.
const SILENCE: Duration = Duration::from_secs(1);

const TOKEN: &str = "an unguessable token";

async fn post_crash(address: SocketAddr, body: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = crash(address).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

const JSON: (&str, &str) = ("content-type", "application/json");

async fn refused(address: SocketAddr, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let (status, _, answer) = refusal(post_crash(address, body, headers).await).await;
    assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "the message was missing: {answer}");
    (status, answer["code"].clone())
}

#[tokio::test]
async fn checks_run_in_the_order_of_the_protocol() {
    let store = TestStore::new();
    let token_file = store.path().with_extension("token");
    std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let token_file = token_file.to_str().unwrap();
    let off = TestReplica::start(&[("crash", "off"), ("crash-token-file", token_file)]).await;
    let on = TestReplica::on(&store, &[("crash-token-file", token_file)]).await;
    let foreign = ("origin", "https://evil.example");
    let bearer = format!("Bearer {TOKEN}");
    let with_token = ("authorization", bearer.as_str());

    assert_eq!(refused(off.address, "nonsense", &[foreign]).await.0, 403);
    assert_eq!(refused(off.address, "nonsense", &[]).await.0, 409);
    assert_eq!(refused(on.address, "{}", &[foreign, with_token, JSON]).await, (403, json!("forbidden_origin")));
    assert_eq!(refused(on.address, "nonsense", &[]).await.0, 401);
    for wrong in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", TOKEN, &format!("Bearer {TOKEN}x")] {
        assert_eq!(refused(on.address, "{}", &[("authorization", wrong), JSON]).await.0, 401, "not 401: {wrong:?}");
    }
    let without_token = post_crash(on.address, "{}", &[JSON]).await;
    assert_eq!(header(&without_token, "www-authenticate"), "Bearer");
    assert_eq!(refused(on.address, "nonsense", &[with_token]).await.0, 415);
    // A form on another site can send text/plain.
    for other in ["text/plain", "application/problem+json", "application/json5"] {
        let headers = [with_token, ("content-type", other)];
        assert_eq!(refused(on.address, r#"{"mode":"unready"}"#, &headers).await.0, 415, "{other} was not refused");
    }
    for wrong in [
        "",
        "nonsense",
        "[]",
        "[null,null]",
        "[\"nobody.1\",\"exit\"]",
        "null",
        "1",
        "{",
        "{\"mode\":\"explode\"}",
        "{\"mode\":1}",
        "{\"mode\":{\"unready\":null}}",
        "{\"replica\":1}",
        "{}{}",
    ] {
        assert_eq!(refused(on.address, wrong, &[with_token, JSON]).await, (400, json!("bad_request")), "{wrong}");
    }
    let huge = format!("{{{}}}", " ".repeat(1 << 20));
    assert_eq!(refused(on.address, &huge, &[with_token]).await.0, 415);
    let (status, _, answer) = refusal(post_crash(on.address, &huge, &[with_token, JSON]).await).await;
    assert_eq!((status, &answer["code"]), (400, &json!("bad_request")));
    assert!(answer["message"].as_str().is_some_and(|why| why.contains("1024 bytes")), "{answer}");
    let nobody = r#"{"replica":"nobody.1"}"#;
    assert_eq!(refused(on.address, nobody, &[with_token, JSON]).await.0, 404);
    assert_eq!(get(on.address, "/readyz").await.status().as_u16(), 200, "a refused request made the replica unready");

    let own = format!("http://{}", on.address);
    let accepted = post_crash(on.address, r#"{"mode":"unready"}"#, &[with_token, JSON, ("origin", &own)]).await;
    assert_eq!(accepted.status().as_u16(), 202);
}

#[tokio::test]
async fn exit_aborts_without_clean_up_and_acked_smiles_survive() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(process.address, "anna").await.recording(&ledger);
    anna.smile("c1", "bruno").await;
    let answer = post_crash(process.address, "{}", &[JSON]).await;
    assert_eq!(answer.status().as_u16(), 202);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"replica": process.replica, "mode": "exit"}), "the default mode was not `exit`");
    assert_ne!(process.exit().await.code(), Some(0));

    let dead = process.replica.clone();
    let process = TestProcess::start(&store.path(), &[]).await;
    let list = get_json(process.address, "/api/replicas").await;
    let ids: Vec<&Value> = list["replicas"].as_array().unwrap().iter().map(|replica| &replica["id"]).collect();
    assert_eq!(ids, [&json!(process.replica)]);
    assert_ne!(dead, process.replica);
    let body = json!({"replica": dead}).to_string();
    assert_eq!(refused(process.address, &body, &[JSON]).await.0, 404);
    let mut back = TestClient::resume(process.address, "bruno", 0, &anna.epoch()).await;
    assert_eq!(back.expect("smile").await["id"], "c1");
    ledger.assert_with(0, &StoredLog::in_sqlite(&store).await);
}

#[tokio::test]
async fn a_crash_request_that_names_the_replica_and_a_charset_is_accepted() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    let body = json!({"replica": process.replica, "mode": "exit"}).to_string();
    let answer = post_crash(process.address, &body, &[("content-type", "application/json; charset=utf-8")]).await;
    assert_eq!(answer.status().as_u16(), 202);
    assert_ne!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_hanging_replica_answers_nothing_until_it_is_killed() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    let answer = post_crash(process.address, r#"{"mode":"hang"}"#, &[JSON]).await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"replica": process.replica, "mode": "hang"}));
    for address in [process.address, process.ops_address] {
        let silent = async || {
            let request = http().get(format!("http://{address}/livez")).timeout(SILENCE);
            request.send().await.is_err()
        };
        eventually("/livez does not answer", silent).await;
    }
    process.signal("TERM").await;
    let still_silent = http().get(format!("http://{}/livez", process.address)).timeout(SILENCE).send().await;
    assert!(still_silent.is_err());
    assert!(process.runs(), "SIGTERM ended the hanging process");
    process.kill().await;
    TestProcess::start(&store.path(), &[]).await;
}

#[tokio::test]
async fn an_unready_replica_refuses_new_sessions_and_keeps_its_open_sessions() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    let answer = post_crash(replica.address, r#"{"mode":"unready"}"#, &[JSON]).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["mode"], "unready");
    let readyz = get(replica.address, "/readyz").await;
    assert_eq!(readyz.status().as_u16(), 503);
    assert!(readyz.text().await.unwrap().contains("unready"));
    assert_eq!(get(replica.ops_address, "/readyz").await.status().as_u16(), 503);
    assert_eq!(
        get_json(replica.address, "/api/replicas").await["replicas"][0]["state"],
        "draining",
        "the state did not change immediately"
    );
    assert_eq!(get(replica.address, "/livez").await.status().as_u16(), 200);
    assert_eq!(
        refused(replica.address, "{}", &[JSON]).await,
        (404, json!("unknown_replica")),
        "a request that named no replica crashed a replica that was not ready"
    );
    let (status, retry_after, body) = refusal(upgrade(replica.address, "?user=carla").send().await.unwrap()).await;
    assert_eq!(status, 503, "the session was not refused: {body}");
    assert!(retry_after.is_some_and(|seconds| seconds >= 1));
    anna.smile("c1", "bruno").await;
    bruno.expect("smile").await;
    let store = replica.store.clone();
    replica.stop().await;
    let replica = TestReplica::on(&store, &[]).await;
    assert_eq!(get(replica.address, "/readyz").await.status().as_u16(), 200);
}
