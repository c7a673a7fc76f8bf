//! The crash button: who may press it, in which order that is checked, and what each kind of death looks like.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::client::TestClient;
use crate::support::process::TestProcess;
use crate::support::replica::{TestReplica, TestStore};
use crate::support::{eventually, get, get_json, http, refusal, upgrade};

/// How long a replica that hangs is given to answer after all.
const SILENCE: Duration = Duration::from_secs(1);

/// The token of the replicas that want one.
const TOKEN: &str = "a token that nobody guesses";

/// `POST /api/crash` with this body and these headers.
async fn press(address: SocketAddr, body: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = http().post(format!("http://{address}/api/crash")).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// The status and the code of a refusal.
async fn refused(address: SocketAddr, body: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let (status, _, answer) = refusal(press(address, body, headers).await).await;
    assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
    (status, answer["code"].clone())
}

#[tokio::test]
async fn refusals_come_in_the_order_of_the_contract() {
    let store = TestStore::new();
    let token_file = store.path().with_extension("token");
    std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
    let token_file = token_file.to_str().unwrap();
    let off = TestReplica::start(&[("crash", "off"), ("crash-token-file", token_file)]).await;
    let on = TestReplica::on(&store, &[("crash-token-file", token_file)]).await;
    let foreign = ("origin", "https://evil.example");
    let bearer = format!("Bearer {TOKEN}");
    let knows = ("authorization", bearer.as_str());

    assert_eq!(refused(off.address, "nonsense", &[foreign]).await.0, 403);
    assert_eq!(refused(off.address, "nonsense", &[]).await.0, 409);
    assert_eq!(refused(on.address, "{}", &[foreign, knows, JSON]).await, (403, json!("forbidden_origin")));
    assert_eq!(refused(on.address, "nonsense", &[]).await.0, 401);
    for wrong in ["", "Bearer", "Bearer ", "Bearer wrong", "Basic YTpi", TOKEN, &format!("Bearer {TOKEN}x")] {
        assert_eq!(refused(on.address, "{}", &[("authorization", wrong), JSON]).await.0, 401, "{wrong}");
    }
    assert_eq!(refused(on.address, "nonsense", &[knows]).await.0, 415);
    let plain = ("content-type", "text/plain");
    assert_eq!(refused(on.address, "{}", &[knows, plain]).await.0, 415, "a form of another site could send that");
    for wrong in
        ["", "nonsense", "[]", "null", "1", "{", "{\"mode\":\"explode\"}", "{\"mode\":1}", "{\"replica\":1}", "{}{}"]
    {
        assert_eq!(refused(on.address, wrong, &[knows, JSON]).await, (400, json!("bad_request")), "{wrong}");
    }
    let huge = format!("{{{}}}", " ".repeat(1 << 20));
    assert_eq!(refused(on.address, &huge, &[knows, JSON]).await.0, 400, "a body has a bound");
    let nobody = r#"{"replica":"nobody.1"}"#;
    assert_eq!(refused(on.address, nobody, &[knows, JSON]).await.0, 404);
    assert_eq!(get(on.address, "/readyz").await.status().as_u16(), 200, "nobody was hurt");

    let own = format!("http://{}", on.address);
    let accepted = press(on.address, r#"{"mode":"unready"}"#, &[knows, JSON, ("origin", &own)]).await;
    assert_eq!(accepted.status().as_u16(), 202);
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let replica = TestReplica::start(&[]).await;
    let (status, _, body) = refusal(get(replica.address, "/api/crash").await).await;
    assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")));
}

#[tokio::test]
async fn exit_is_a_death_without_clean_up_and_what_was_acked_survives_it() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    let mut anna = TestClient::connect(process.address, "anna").await;
    anna.smile("c1", "bruno").await;
    let answer = press(process.address, "{}", &[JSON]).await;
    assert_eq!(answer.status().as_u16(), 202);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body, json!({"replica": process.replica, "mode": "exit"}), "exit is what happens unless told otherwise");
    assert_ne!(process.exit().await.code(), Some(0));

    let dead = process.replica.clone();
    let process = TestProcess::start(&store.path(), &[]).await;
    let list = get_json(process.address, "/api/replicas").await;
    let ids: Vec<&Value> = list["replicas"].as_array().unwrap().iter().map(|replica| &replica["id"]).collect();
    assert_eq!(ids, [&json!(process.replica)], "a replica on SQLite is alone");
    assert_ne!(dead, process.replica, "an id is never used twice");
    let body = json!({"replica": dead}).to_string();
    assert_eq!(refused(process.address, &body, &[JSON]).await.0, 404, "a lost replica cannot crash again");
    let mut back = TestClient::resume(process.address, "bruno", 0, &anna.epoch()).await;
    assert_eq!(back.expect("smile").await["id"], "c1");
}

#[tokio::test]
async fn a_replica_that_is_named_crashes_with_or_without_a_charset() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    let body = json!({"replica": process.replica, "mode": "exit"}).to_string();
    let answer = press(process.address, &body, &[("content-type", "application/json; charset=utf-8")]).await;
    assert_eq!(answer.status().as_u16(), 202);
    assert_ne!(process.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_replica_that_hangs_lives_and_answers_nothing_until_it_is_killed() {
    let store = TestStore::new();
    let mut process = TestProcess::start(&store.path(), &[]).await;
    let answer = press(process.address, r#"{"mode":"hang"}"#, &[JSON]).await;
    assert_eq!(answer.json::<Value>().await.unwrap(), json!({"replica": process.replica, "mode": "hang"}));
    for address in [process.address, process.ops_address] {
        let silent = async || {
            let request = http().get(format!("http://{address}/livez")).timeout(SILENCE);
            request.send().await.is_err()
        };
        eventually("liveness is silent", silent).await;
    }
    process.signal("TERM").await;
    let still_silent = http().get(format!("http://{}/livez", process.address)).timeout(SILENCE).send().await;
    assert!(still_silent.is_err());
    assert!(process.runs(), "it lives, and SIGTERM does nothing");
    process.kill().await;
    TestProcess::start(&store.path(), &[]).await;
}

#[tokio::test]
async fn an_unready_replica_takes_no_session_and_keeps_those_it_has() {
    let replica = TestReplica::start(&[]).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    let answer = press(replica.address, r#"{"mode":"unready"}"#, &[JSON]).await;
    assert_eq!(answer.json::<Value>().await.unwrap()["mode"], "unready");
    let readyz = get(replica.address, "/readyz").await;
    assert_eq!(readyz.status().as_u16(), 503);
    assert!(readyz.text().await.unwrap().contains("unready"), "with the reason");
    assert_eq!(get(replica.ops_address, "/readyz").await.status().as_u16(), 503);
    assert_eq!(get_json(replica.address, "/api/replicas").await["replicas"][0]["state"], "draining", "at once");
    assert_eq!(get(replica.address, "/livez").await.status().as_u16(), 200);
    assert_eq!(refused(replica.address, "{}", &[JSON]).await, (404, json!("unknown_replica")), "no other is ready");
    let (status, retry_after, body) = refusal(upgrade(replica.address, "?user=carla").send().await.unwrap()).await;
    assert_eq!(status, 503, "{body}");
    assert!(retry_after.is_some_and(|seconds| seconds >= 1));
    anna.smile("c1", "bruno").await;
    bruno.expect("smile").await;
    let store = replica.store.clone();
    replica.stop().await;
    let replica = TestReplica::on(&store, &[]).await;
    assert_eq!(get(replica.address, "/readyz").await.status().as_u16(), 200, "a restart mends it");
}
