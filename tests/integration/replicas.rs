//! Several replicas on one MySQL database act as one chat, even while replicas crash.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::chatters::Chatters;
use crate::support::client::{TestClient, id, offset};
use crate::support::fleet::simulated_smiles;
use crate::support::ledger::Ledger;
use crate::support::mysql::TestDatabase;
use crate::support::process::{TestProcess, run_program};
use crate::support::{crash, eventually, get, get_json, http, refusal};

async fn replica(database: &TestDatabase, name: &str, listen: &str) -> TestProcess {
    TestProcess::on_mysql(&database.url(), &[("replica", name), ("listen", listen)]).await
}

async fn two_replicas(database: &TestDatabase) -> [TestProcess; 2] {
    [replica(database, "one", "127.0.0.1:0").await, replica(database, "two", "127.0.0.1:0").await]
}

/// The id and the state of every replica, as this replica lists them.
async fn states(replica: &TestProcess) -> Vec<(Value, Value)> {
    let list = get_json(replica.address, "/api/replicas").await;
    let replicas = list["replicas"].as_array().expect("a list");
    replicas.iter().map(|replica| (replica["id"].clone(), replica["state"].clone())).collect()
}

#[tokio::test]
async fn users_on_different_replicas_chat() {
    let Some(database) = TestDatabase::new().await else { return };
    let [one, two] = two_replicas(&database).await;
    let mut anna = TestClient::connect(one.address, "anna").await;
    let mut elsewhere = TestClient::connect(two.address, "anna").await;
    let mut bruno = TestClient::connect(two.address, "bruno").await;
    assert_eq!(anna.epoch(), bruno.epoch());

    for number in 1..=20 {
        let (sender, receiver, to) =
            if number % 2 == 0 { (&mut bruno, &mut anna, "anna") } else { (&mut anna, &mut bruno, "bruno") };
        let at = sender.persist(&format!("c{number}"), to).await;
        assert_eq!(at, number, "the log had a gap");
        let smile = receiver.expect("smile").await;
        assert_eq!((offset(&smile), id(&smile)), (at, format!("c{number}")));
        assert_eq!(offset(&elsewhere.expect("smile").await), at, "the user's other session received a different smile");
    }

    elsewhere.send_smile("c1", "bruno").await;
    assert_eq!(elsewhere.expect("ack").await, json!({"type": "ack", "id": "c1", "offset": 1, "duplicate": true}));
    assert_eq!(anna.persist("last", "bruno").await, 21);
    assert_eq!(id(&bruno.expect("smile").await), "last");
}

#[tokio::test]
async fn every_replica_lists_the_nodes_of_all_replicas() {
    let Some(database) = TestDatabase::new().await else { return };
    let url = database.url();
    let start = async |name: &str, options: &[(&str, &str)]| {
        let options: Vec<_> = [("replica", name)].iter().chain(options).copied().collect();
        TestProcess::on_mysql(&url, &options).await
    };
    let one = start("one", &[("node", "worker1")]).await;
    let two = start("two", &[("node", "worker2")]).await;
    let three = start("three", &[]).await;
    for replica in [&one, &two, &three] {
        eventually("all replicas are listed", async || states(replica).await.len() == 3).await;
        let list = get_json(replica.address, "/api/replicas").await;
        let replicas = list["replicas"].as_array().expect("a list");
        let nodes: Vec<_> = replicas.iter().map(|replica| replica.get("node")).collect();
        assert_eq!(nodes, [Some(&json!("worker1")), Some(&json!("worker2")), None], "{list}");
    }
}

#[tokio::test]
async fn a_client_of_a_killed_replica_resumes_on_another() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, two] = two_replicas(&database).await;
    let mut anna = TestClient::connect(one.address, "anna").await;
    let mut bruno = TestClient::connect(two.address, "bruno").await;
    let epoch = anna.epoch();
    let seen = anna.persist("c1", "bruno").await;
    one.kill().await;
    assert_eq!(id(&bruno.expect("smile").await), "c1");
    let missed = bruno.persist("c2", "anna").await;

    let mut anna = TestClient::resume(two.address, "anna", seen, &epoch).await;
    assert!(anna.recovered());
    assert_eq!(offset(&anna.expect("smile").await), missed);
    let lost = (json!(one.replica), json!("lost"));
    eventually("the dead replica is shown as lost", async || states(&two).await.contains(&lost)).await;
}

#[tokio::test]
async fn a_crash_request_to_one_replica_crashes_another() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, two] = two_replicas(&database).await;
    let post_crash = |body: Value| crash(two.address).json(&body).send();

    // A request that names no replica crashes the longest-running ready replica.
    let answer = post_crash(json!({})).await.expect("an answer");
    assert_eq!(answer.status(), 202);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer, json!({"replica": one.replica, "mode": "exit"}));
    assert!(!one.exit().await.success());
    let lost = (json!(one.replica), json!("lost"));
    eventually("the dead replica is shown as lost", async || states(&two).await.contains(&lost)).await;
    assert_eq!(post_crash(json!({"replica": one.replica})).await.expect("an answer").status(), 404);
}

#[tokio::test]
async fn each_crash_hits_a_different_replica_until_none_is_left() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, two] = two_replicas(&database).await;
    let mut three = replica(&database, "three", "127.0.0.1:0").await;
    let post_crash = async |body: Value| {
        let answer = crash(two.address).json(&body).send().await;
        let answer = answer.expect("an answer");
        (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"))
    };
    let (status, answer) = post_crash(json!({"mode": "hang"})).await;
    assert_eq!((status, &answer["replica"]), (202, &json!(one.replica)));
    // The first replica is not listed as lost yet, and the second replica receives the requests.
    let (status, answer) = post_crash(json!({"mode": "unready"})).await;
    assert_eq!((status, &answer["replica"]), (202, &json!(two.replica)));
    assert_eq!(get(two.ops_address, "/readyz").await.status(), 503, "the state did not change immediately");
    let (status, answer) = post_crash(json!({})).await;
    assert_eq!((status, &answer["replica"]), (202, &json!(three.replica)));
    assert!(!three.exit().await.success());
    let (status, answer) = post_crash(json!({})).await;
    assert_eq!((status, &answer["code"]), (404, &json!("unknown_replica")), "a replica was picked a second time");
    one.kill().await;
}

#[tokio::test]
async fn a_replica_that_is_behind_the_log_crashes_only_by_name() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, two] = two_replicas(&database).await;
    // This row represents a batch of a newer version. It has the current time, because retention removes old batches.
    let unknown = "INSERT INTO log_batches (first, smiles, token, appended_at, payload)
        VALUES (1, 1, 7, UNIX_TIMESTAMP() * 1000, 'newer')";
    database.run(unknown).await;
    let count = format!("SELECT COUNT(*) FROM {}.leases WHERE behind", database.name());
    eventually("both leases say that the replicas are behind", async || database.ask(&count).await == 2).await;
    let post_crash = async |body: Value| {
        let answer = crash(two.address).json(&body).send().await;
        answer.expect("an answer").status().as_u16()
    };
    for mode in ["exit", "hang", "unready"] {
        assert_eq!(post_crash(json!({"mode": mode})).await, 404, "{mode}");
    }
    assert_eq!(post_crash(json!({"replica": one.replica})).await, 202);
    assert!(!one.exit().await.success());
}

#[tokio::test]
async fn a_replica_with_crashing_off_refuses_requests_through_other_replicas() {
    let Some(database) = TestDatabase::new().await else { return };
    let store = database.url();
    let token = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(token.path(), "a token").expect("a token");
    let with_token = [("crash-token-file", token.path().to_str().expect("a path"))];
    let mut two = TestProcess::on_mysql(&store, &with_token).await;
    // This replica starts last, so the other replica may not list it yet.
    let mut one = TestProcess::on_mysql(&store, &[("replica", "one"), ("crash", "off")]).await;
    let post_crash = async |body: &str, token: &str| {
        let request = crash(two.address).body(body.to_owned());
        let request = request.header("authorization", token).header("content-type", "application/json");
        refusal(request.send().await.expect("an answer")).await.0
    };
    let named = json!({"replica": one.replica, "mode": "explode"}).to_string();
    assert_eq!(post_crash(&named, "").await, 409, "the token or the body was checked first");
    assert_eq!(post_crash(&json!({"replica": two.replica}).to_string(), "").await, 401);
    assert_eq!(post_crash(r#"{"replica":"nobody.1"}"#, "").await, 401);
    assert_eq!(post_crash(r#"{"replica":"nobody.1"}"#, "Bearer a token").await, 404);

    let answer = crash(two.address).json(&json!({})).bearer_auth("a token");
    let answer: Value = answer.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(answer["replica"], json!(two.replica), "the replica with crashing off was picked");
    assert!(!two.exit().await.success());
    assert!(one.runs());
}

#[tokio::test]
async fn a_replica_lost_long_ago_is_removed_from_the_list() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, _two] = two_replicas(&database).await;
    one.kill().await;
    database.run("UPDATE leases SET renewed_at = renewed_at - INTERVAL 1 HOUR WHERE name = 'one'").await;
    let three = replica(&database, "three", "127.0.0.1:0").await;
    eventually("the lost replica is no longer listed", async || states(&three).await.len() == 2).await;
}

#[tokio::test]
async fn the_list_has_ages_and_lost_replicas_hold_no_sessions() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, two] = two_replicas(&database).await;
    let _anna = TestClient::connect(one.address, "anna").await;
    let of_one = async || get_json(two.address, "/api/replicas").await["replicas"][0].clone();
    eventually("the session is listed", async || of_one().await["sessions"] == 1).await;
    database.run("UPDATE leases SET started_at = started_at - INTERVAL 1 HOUR").await;
    eventually("the list shows the uptime", async || of_one().await["uptime_ms"].as_u64() >= Some(3_600_000)).await;
    for _ in 0..20 {
        assert!(
            of_one().await["heartbeat_age_ms"].as_u64() <= Some(2500),
            "the heartbeat was too old: {}",
            of_one().await
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    one.kill().await;
    eventually("the replica is lost", async || of_one().await["state"] == "lost").await;
    assert_eq!(of_one().await["sessions"], 0);
    assert!(of_one().await["heartbeat_age_ms"].as_u64() > Some(5000));
}

#[tokio::test]
async fn another_replica_can_be_made_unready_and_then_made_to_hang() {
    let Some(database) = TestDatabase::new().await else { return };
    let [one, two] = two_replicas(&database).await;
    let post_crash = async |mode: &str| {
        let body = json!({"replica": one.replica, "mode": mode});
        let answer = crash(two.address).json(&body).send().await;
        assert_eq!(answer.expect("an answer").status(), 202);
    };
    let mut anna = TestClient::connect(one.address, "anna").await;
    post_crash("unready").await;
    eventually("the replica is not ready", async || get(one.ops_address, "/readyz").await.status() == 503).await;
    assert_eq!(get(one.ops_address, "/livez").await.status(), 200);
    anna.persist("c1", "bruno").await;
    assert!(TestClient::open(one.address, "?user=bruno").await.is_err(), "the unready replica accepted a new session");
    let draining = (json!(one.replica), json!("draining"));
    eventually("the other replica lists it as draining", async || states(&two).await.contains(&draining)).await;

    post_crash("hang").await;
    let lost = (json!(one.replica), json!("lost"));
    eventually("the hanging replica is shown as lost", async || states(&two).await.contains(&lost)).await;
    let livez = http().get(format!("http://{}/livez", one.ops_address)).timeout(Duration::from_millis(500));
    assert!(livez.send().await.is_err(), "the hanging replica answered /livez");
}

#[tokio::test]
async fn a_kill_under_load_loses_no_smile() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, two] = two_replicas(&database).await;
    let urls = format!("--url=ws://{}/ws,ws://{}/ws", one.address, two.address);
    let arguments = [urls.as_str(), "--conversations=12", "--duration=6", "--json"];
    let arguments = ["simulate"].into_iter().chain(arguments).collect::<Vec<_>>();
    let ledger = Ledger::default();
    let chatters = Chatters::start(&[one.address, two.address], &ledger);
    let simulation = run_program(&arguments);
    let kills = async {
        for round in 1..=2 {
            let head = async || get_json(two.address, "/api/replicas").await["head"].as_u64().unwrap();
            let before = head().await;
            eventually("the log grows by more than 60 smiles", async || head().await > before + 60).await;
            one.kill().await;
            one = replica(&database, &format!("one-again-{round}"), &one.address.to_string()).await;
        }
    };
    let (output, ()) = tokio::join!(simulation, kills);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report as JSON");
    assert!(output.status.success(), "the simulation failed: {report}");
    assert_eq!((&report["lost"], &report["duplicated"], &report["reordered"]), (&json!(0), &json!(0), &json!(0)));
    assert!(report["reconnects"].as_u64().unwrap() > 0, "no session reconnected: {report}");
    assert_eq!(report["acked"], report["sent"], "{report}");
    chatters.end().await;
    ledger.assert_with(simulated_smiles(&report), &database.log().await);
}

#[tokio::test]
async fn the_simulator_crashes_one_replica_after_another_and_reports_each_recovery() {
    let Some(database) = TestDatabase::new().await else { return };
    let [mut one, mut two] = two_replicas(&database).await;
    let urls = format!("--url=ws://{}/ws,ws://{}/ws", one.address, two.address);
    let arguments = ["simulate", &urls, "--conversations=12", "--duration=5", "--crash-every=2", "--json"];
    // Restarts each crashed replica, as an orchestrator does. Each request crashes the longest-running ready replica.
    let restarts = async {
        let mut victims = Vec::new();
        for running in [&mut one, &mut two] {
            assert!(!running.exit().await.success());
            let again = replica(&database, "again", &running.address.to_string()).await;
            victims.push(std::mem::replace(running, again).replica);
        }
        victims
    };
    let (output, victims) = tokio::join!(run_program(&arguments), restarts);
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report as JSON");
    assert!(output.status.success(), "the simulation failed: {report}");
    let crashes = report["crashes"].as_array().expect("a list");
    assert!(
        crashes.iter().map(|crash| &crash["replica"]).eq(&victims),
        "the crashes were not those of {victims:?}: {report}"
    );
    for crash in crashes {
        assert!(
            crash["sessions"].as_u64() > Some(0) && crash["recovered"] == crash["sessions"],
            "no session was lost, or a lost session was not recovered: {report}"
        );
        assert!(crash["recovery_ms"].as_f64() > Some(0.0), "a crash had no recovery time: {report}");
    }
    assert!(
        report["sessions_per_replica"][&one.replica].as_u64() > Some(0),
        "the first restarted replica never had a session: {report}"
    );
    assert_eq!(report["refused_crashes"], json!({}), "{report}");
}

#[tokio::test]
async fn the_simulator_reports_why_no_replica_crashed() {
    let folder = tempfile::tempdir().expect("a directory");
    let server = TestProcess::start(&folder.path().join("chat.db"), &[("crash", "off")]).await;
    let url = format!("--url=ws://{}/ws", server.address);
    let arguments = ["simulate", &url, "--conversations=1", "--duration=2", "--crash-every=1", "--json"];
    let output = run_program(&arguments).await;
    let report: Value = serde_json::from_slice(&output.stdout).expect("the report as JSON");
    assert!(output.status.success(), "the simulation failed: {report}");
    let reason = "crash requests are disabled on this replica (--crash off)";
    let cause = format!("POST http://{}/api/crash: 409 Conflict: {reason}", server.address);
    assert!(report["refused_crashes"][&cause].as_u64() > Some(0), "the cause was not in the report: {report}");
    assert_eq!(report["crashes"], json!([]));
}
