//! Outages of MySQL or of the network to it. Running replicas stay up, refuse new smiles within a second and recover by
//! themselves. A smile whose outcome is unknown gets its answer once the outage has ended. A replica that starts during
//! an outage waits for MySQL. A replica exits if its log was replaced.

use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::{Connection, MySqlConnection};

use crate::support::client::{TestClient, id, smile};
use crate::support::fleet::{Fleet, Member};
use crate::support::ledger::Ledger;
use crate::support::mysql::TestDatabase;
use crate::support::process::TestProcess;
use crate::support::proxy::{Network, Proxy};
use crate::support::{crash, eventually, get, get_json, metric, refusal, within};

/// Time limit for the refusal of a new smile, and for the list of replicas, during an outage.
const AT_ONCE: Duration = Duration::from_secs(1);

/// How long nginx waits for the answer to a request for `/api`.
const PROXY_TIMEOUT: Duration = Duration::from_secs(2);

async fn status(address: SocketAddr, path: &str) -> u16 {
    get(address, path).await.status().as_u16()
}

async fn mysql_goes_away(fault: Network) {
    let Some(database) = TestDatabase::new().await else { return };
    let network = Proxy::to(database.server()).await;
    let store = database.url_by(network.address);
    let replica = TestProcess::on_mysql(&store, &[]).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(replica.address, "anna").await.recording(&ledger);
    let mut bruno = TestClient::connect(replica.address, "bruno").await.recording(&ledger);
    anna.persist("before", "bruno").await;
    assert_eq!(id(&bruno.expect("smile").await), "before");
    // The binary log may deliver this smile before the append returns; a fault in between would put the batch in doubt.
    let stored = async || metric(replica.ops_address, "smilingchat_smiles_stored_total").await == Some(1.0);
    eventually("the append has returned", stored).await;

    network.becomes(fault);
    // The replica sends this smile over a connection that it used a moment ago and therefore does not check. The
    // outcome is unknown, and the smile gets no answer yet.
    anna.send_smile("in-doubt", "bruno").await;
    for _ in 0..10 {
        // The answer shows that the replica has read the smile.
        anna.expect_alive().await;
    }
    for number in 0..20 {
        let sent = Instant::now();
        bruno.send_smile(&format!("refused-{number}"), "anna").await;
        let error = bruno.expect("error").await;
        assert!(sent.elapsed() < AT_ONCE, "refused-{number} was refused after {:?}", sent.elapsed());
        assert_eq!((&error["id"], &error["temporary"]), (&json!(format!("refused-{number}")), &json!(true)), "{error}");
        assert!(error["retry_after_ms"].as_u64() > Some(0), "the error had no hint: {error}");
        if number > 0 {
            assert_eq!(error["code"], "store_unavailable");
        }
    }
    let began = Instant::now();
    let list = get_json(replica.address, "/api/replicas").await;
    assert!(began.elapsed() < AT_ONCE, "the list did not come from memory: it took {:?}", began.elapsed());
    assert_eq!(list["replicas"][0]["id"], list["self"]);
    for body in [json!({}), json!({"replica": "nobody.1"})] {
        let began = Instant::now();
        let (status, _, answer) = refusal(crash(replica.address).json(&body).send().await.unwrap()).await;
        assert_eq!((status, &answer["code"]), (503, &json!("store_unavailable")), "{body}: {answer}");
        assert!(began.elapsed() < PROXY_TIMEOUT, "{body}: the answer took {:?}", began.elapsed());
    }
    eventually("the replica is no longer ready", async || status(replica.ops_address, "/readyz").await == 503).await;
    assert_eq!(status(replica.ops_address, "/livez").await, 200);
    let state = async || get_json(replica.address, "/api/replicas").await["replicas"][0]["state"].clone();
    eventually("the lease expires", async || state().await == "lost").await;
    bruno.expect_alive().await;

    network.becomes(Network::Open);
    assert_eq!(anna.expect("ack").await["id"], "in-doubt", "the ack was for a different smile");
    assert_eq!(id(&bruno.expect("smile").await), "in-doubt");
    // The binary log may deliver the smile before the append returns, so the replica may still refuse smiles.
    eventually("smiles are accepted again", async || {
        bruno.send_smile("refused-0", "anna").await;
        bruno.next().await["type"] == "ack"
    })
    .await;
    assert_eq!(id(&anna.expect("smile").await), "refused-0");
    eventually("the replica is ready again", async || status(replica.ops_address, "/readyz").await == 200).await;
    eventually("the replica is shown as ready", async || state().await == "ready").await;
    ledger.assert_with(0, &database.log().await);
}

#[tokio::test]
async fn a_chat_continues_after_the_network_to_mysql_was_cut() {
    mysql_goes_away(Network::Cut).await;
}

#[tokio::test]
async fn a_chat_continues_after_mysql_was_silent() {
    mysql_goes_away(Network::Silent).await;
}

#[tokio::test]
async fn an_idle_replica_refuses_smiles_within_a_second_during_an_outage() {
    let Some(database) = TestDatabase::new().await else { return };
    for fault in [Network::Cut, Network::Silent] {
        let network = Proxy::to(database.server()).await;
        let store = database.url_by(network.address);
        let replica = TestProcess::on_mysql(&store, &[]).await;
        let mut anna = TestClient::connect(replica.address, "anna").await;
        anna.persist("before", "bruno").await;
        network.becomes(fault);
        eventually("the replica is no longer ready", async || status(replica.ops_address, "/readyz").await == 503)
            .await;
        for id in ["first", "second"] {
            let sent = Instant::now();
            anna.send_smile(id, "bruno").await;
            assert_eq!(anna.expect("error").await["code"], "store_unavailable");
            assert!(sent.elapsed() < AT_ONCE, "{fault:?}: {id} was refused after {:?}", sent.elapsed());
        }
    }
}

#[tokio::test]
async fn a_replica_exits_if_its_log_was_replaced() {
    for (statements, sends) in [
        ("UPDATE log_state SET epoch = 'f00d'", false),
        ("DELETE FROM log_batches WHERE first > 1", true),
        // Simulates a primary that lacked the last batches and has appended new ones.
        ("UPDATE log_batches SET token = token + 1", false),
        ("UPDATE log_batches SET token = token + 1", true),
        ("DROP DATABASE NAME; CREATE DATABASE NAME", false),
    ] {
        let Some(database) = TestDatabase::new().await else { return };
        let statements = statements.replace("NAME", database.name());
        let mut replica = TestProcess::on_mysql(&database.url(), &[]).await;
        let mut anna = TestClient::connect(replica.address, "anna").await;
        for number in 0..3 {
            anna.persist(&format!("c{number}"), "bruno").await;
        }
        database.run(&statements).await;
        if sends {
            let _ = anna.try_send(&smile("c3", "bruno").to_string()).await;
        }
        assert!(!replica.exit().await.success(), "the replica exited with 0 after: {statements}");
        eventually("the replica logs the reason", async || replica.log().contains("differs from the one at startup"))
            .await;
        if statements.starts_with("DROP") {
            let advice = "begin one by hand before the next start: see Backup in docs/OPERATING.md";
            eventually("the replica logs what to do", async || replica.log().contains(advice)).await;
        }
        let (head, epoch) = (anna.offset(), anna.epoch());
        let replica = TestProcess::on_mysql(&database.url(), &[]).await;
        let anna = TestClient::resume(replica.address, "anna", head, &epoch).await;
        assert!(!anna.recovered() && anna.epoch() != epoch, "the client resumed with an offset of the old log");
    }
}

#[tokio::test]
async fn a_replica_waits_for_mysql_and_reports_that_it_waits() {
    let Some(database) = TestDatabase::new().await else { return };
    let network = Proxy::to(database.server()).await;
    network.becomes(Network::Cut);
    let store = database.url_by(network.address);
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let listen = free.to_string();
    let starting = tokio::spawn(async move { TestProcess::on_mysql(&store, &[("listen", listen.as_str())]).await });
    let client = crate::support::http();
    let ask = async |path: &str| client.get(format!("http://{free}{path}")).send().await;
    eventually("the process is alive", async || ask("/livez").await.is_ok_and(|answer| answer.status() == 200)).await;
    let (code, body) = {
        let answer = ask("/readyz").await.expect("the replica should answer");
        (answer.status(), answer.text().await.expect("the body should be text"))
    };
    assert_eq!((code.as_u16(), body.trim()), (503, "starting: waiting for the store"));
    let (code, retry_after, body) = refusal(ask("/ws?user=anna").await.expect("the replica should answer")).await;
    assert_eq!((code, retry_after, &body["code"]), (503, Some(1), &json!("store_unavailable")));
    assert!(!starting.is_finished(), "the replica started without MySQL");

    network.becomes(Network::Open);
    let replica = within("the replica starts", starting).await.expect("the start should not panic");
    assert!(
        replica.log().contains("waiting for MySQL"),
        "the log did not say that the replica waited: {}",
        replica.log()
    );
    assert_eq!(status(replica.address, "/readyz").await, 200);
    TestClient::connect(replica.address, "anna").await.persist("c1", "bruno").await;
}

/// The maximum number of lines that a replica logs about one outage and its end.
const LINES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_causes_few_log_lines_and_few_connections() {
    const LOCK: &str = "LOCK TABLES log_batches WRITE, log_state WRITE, leases WRITE";
    for (name, fault) in [("cut", Some(Network::Cut)), ("silence", Some(Network::Silent)), ("locked tables", None)] {
        let Some(database) = TestDatabase::new().await else { return };
        let mut fleet = Fleet::start(2, database).await;
        let (mut clients, ledger) = (Vec::new(), Ledger::default());
        let users = ["anna", "bruno", "carla", "dario", "elena", "fabio", "greta", "hanna"];
        for (user, member) in users.into_iter().zip(fleet.members.iter().cycle()) {
            let mut client = TestClient::connect(member.listen, user).await.recording(&ledger);
            client.persist(user, "viola").await;
            clients.push((member.listen, user, client));
        }
        let (normal, lines) = (fleet.database.sessions().await, fleet.lines());
        let mut lock = MySqlConnection::connect(&fleet.database.url()).await.unwrap();
        match fault {
            Some(network) => fleet.members.iter().for_each(|member| member.network.becomes(network)),
            None => drop(sqlx::raw_sql(LOCK).execute(&mut lock).await.unwrap()),
        }
        let mut most = 0;
        let is_ready = async |member: &Member| status(member.ops_address(), "/readyz").await == 200;
        // While at least one replica is ready, open sessions request histories and further sessions try to resume.
        while is_ready(&fleet.members[0]).await || is_ready(&fleet.members[1]).await {
            for (address, user, client) in &mut clients {
                client.send(json!({"type": "history", "with": "viola", "limit": 10})).await;
                let query = format!("?user={user}&after={}&epoch={}", client.offset(), client.epoch());
                let _ = TestClient::open(*address, &query).await;
            }
            most = most.max(fleet.database.sessions().await);
        }
        lock.close().await.unwrap();
        fleet.members.iter().for_each(|member| member.network.becomes(Network::Open));
        for member in &fleet.members {
            eventually("the replica is ready again", async || is_ready(member).await).await;
            eventually("smiles are accepted again", async || {
                let mut client = TestClient::connect(member.listen, "viola").await.recording(&ledger);
                client.send_smile("after", "anna").await;
                client.next().await["type"] == "ack"
            })
            .await;
        }
        fleet.until_followed(&fleet.database.url()).await;
        most = most.max(fleet.database.sessions().await);
        // `lock` is one more connection.
        assert!(most < 2 * normal + 1, "{name}: MySQL had {most} sessions, but normally has {normal}");
        let said: Vec<usize> = fleet.lines().iter().zip(lines).map(|(now, before)| now - before).collect();
        assert!(
            said.iter().all(|said| *said <= LINES),
            "{name}: the replicas logged too many lines, {said:?}: {}",
            fleet.members[0].process().log()
        );
        ledger.assert_with(0, &fleet.database.log().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_that_hang_do_not_use_up_the_connections_of_mysql() {
    let Some(database) = TestDatabase::new().await else { return };
    let name = database.name().to_owned();
    let fleet = Fleet::start(2, database).await;
    let mut gate = MySqlConnection::connect(&fleet.database.url()).await.unwrap();
    let normal = fleet.database.sessions().await;
    // A trigger makes each renewal of a lease wait for a locked row, and no timeout of MySQL ends the wait within this
    // test.
    fleet.database.run("CREATE TABLE gate (one INT PRIMARY KEY); INSERT INTO gate VALUES (1)").await;
    sqlx::raw_sql("BEGIN; SELECT * FROM gate FOR UPDATE").execute(&mut gate).await.unwrap();
    let hangs = "CREATE TRIGGER hangs BEFORE INSERT ON leases FOR EACH ROW
        BEGIN SET innodb_lock_wait_timeout = 600; DO (SELECT one FROM gate FOR UPDATE); END";
    fleet.database.run(hangs).await;
    let hanging = format!(
        "SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_db = '{name}'
         AND processlist_command IN ('Query', 'Execute') AND processlist_time > 2"
    );
    let hanging = async || fleet.database.ask(&hanging).await;
    eventually("two renewals of each replica hang", async || hanging().await >= 4).await;
    let (since, mut most) = (Instant::now(), 0);
    // Without a bound on renewals, each replica would begin at least three more in this time.
    while since.elapsed() < Duration::from_secs(10) {
        most = most.max(fleet.database.sessions().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let hanging = hanging().await;

    assert!(hanging == 4 && most < 2 * normal, "{hanging} renewals hung; MySQL had {most} sessions, normally {normal}");
    gate.close().await.unwrap();
    for member in &fleet.members {
        let is_ready = async || status(member.ops_address(), "/readyz").await == 200;
        eventually("the replica is ready again", is_ready).await;
    }
}
