//! Failover of MySQL: its address switches to another server, as in a managed service or a group. If the new server has
//! every smile, none is lost or duplicated. Acks then resume within two seconds of the switch, unless the old server
//! still accepts writes. If the new server lacks smiles, a new epoch begins.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::{Mutex, MutexGuard};

use crate::support::chatters::Chatters;
use crate::support::client::{TestClient, offset, smile};
use crate::support::environment::seed;
use crate::support::fleet::{Fleet, simulated_smiles};
use crate::support::group::Group;
use crate::support::ledger::{Ledger, StoredLog};
use crate::support::mysql::{TestDatabase, address, sessions};
use crate::support::pair::Pair;
use crate::support::process::{TestProcess, run_program};
use crate::support::proxy::Network;
use crate::support::{eventually, within};

/// Time limit for each replica's first ack after the address points to a writable server.
const ACKED_AGAIN: Duration = Duration::from_secs(1);

/// Time limit for all replicas to follow the new primary's binary log and to disconnect from the old primary.
const FOLLOWED_AGAIN: Duration = Duration::from_secs(10);

/// Duration of the load in seconds, longer than the switches take.
const SECONDS: u32 = 20;

/// All tests that start a [`Pair`] use the same two servers, so they run one at a time.
static PAIR: Mutex<()> = Mutex::const_new(());

/// Sends a smile, and repeats it after each temporary error until it is acked.
async fn acked(client: &mut TestClient, id: &str, to: &str) -> u64 {
    client.send_smile(id, to).await;
    loop {
        let answer = client.next().await;
        match answer["type"].as_str() {
            // A smile from another session.
            Some("smile") => {}
            // The answer to an earlier smile.
            _ if answer["id"] != id => {}
            Some("ack") => return offset(&answer),
            _ if answer["temporary"] == true => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                client.send_smile(id, to).await;
            }
            _ => panic!("{id} was refused permanently: {answer}"),
        }
    }
}

/// One client on each replica.
struct Witnesses {
    clients: Vec<TestClient>,
    switches: usize,
}

impl Witnesses {
    async fn of(fleet: &Fleet, ledger: &Ledger) -> Self {
        let clients = fleet.addresses().into_iter().map(|replica| TestClient::connect(replica, "viola"));
        let clients = join_all(clients).await.into_iter().map(|client| client.recording(ledger)).collect();
        Self { clients, switches: 0 }
    }

    /// Moves the address of MySQL to this primary. Each replica must ack a smile within [`ACKED_AGAIN`], and follow the
    /// binary log within [`FOLLOWED_AGAIN`].
    async fn move_to(&mut self, primary: &str, fleet: &Fleet) {
        for member in &fleet.members {
            member.network.leads_to(address(&primary.parse().expect("the URL of the primary should be valid")));
            member.network.becomes(Network::Open);
        }
        let moved = Instant::now();
        let switch = self.switches;
        self.switches += 1;
        let smiles = self.clients.iter_mut().enumerate().map(async |(place, client)| {
            let id = format!("witness-{switch}-{place}");
            acked(client, &id, "tina").await;
            assert!(moved.elapsed() < ACKED_AGAIN, "{id} was acked only after {:?}", moved.elapsed());
        });
        join_all(smiles).await;
        fleet.until_followed(primary).await;
        assert!(moved.elapsed() < FOLLOWED_AGAIN, "the binary log was followed again only after {:?}", moved.elapsed());
    }
}

/// Starts the pair once no other test uses it. Returns `None` if tests with MySQL are skipped.
async fn start_pair() -> Option<(MutexGuard<'static, ()>, Pair)> {
    TestDatabase::new().await?;
    let alone = PAIR.lock().await;
    Some((alone, Pair::start().await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_to_another_primary_and_back_loses_nothing() {
    let Some((_alone, pair)) = start_pair().await else { return };
    let seed = seed();
    let database = TestDatabase::at(pair.url(0)).await;
    let name = database.name().to_owned();
    let mut fleet = Fleet::start(3, database).await;
    let ledger = Ledger::default();
    let mut witnesses = Witnesses::of(&fleet, &ledger).await;
    let (chatters, simulation) = (Chatters::start(&fleet.addresses(), &ledger), fleet.simulate(SECONDS, seed));
    let switches = async {
        for (round, kept) in [true, true, false, false].into_iter().enumerate() {
            fleet.until_smiles_flow(100).await;
            let (from, to) = (round % 2, 1 - round % 2);
            pair.hands_over(from).await;
            if !kept {
                fleet.members.iter().for_each(|member| member.network.becomes(Network::NoServer));
                // Give the replicas time to notice the outage.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            let moved = Instant::now();
            witnesses.move_to(pair.url(to), &fleet).await;
            let old = pair.url(from);
            eventually("no connection to the old primary remains", async || sessions(old, &name).await == 0).await;
            assert!(moved.elapsed() < FOLLOWED_AGAIN, "the old primary was left only after {:?}", moved.elapsed());
        }
    };
    let (simulated, ()) = tokio::join!(simulation, switches);
    chatters.end().await;
    fleet.assert_same_log().await;
    pair.until_replicated().await;
    for server in [0, 1] {
        ledger.assert_with(simulated_smiles(&simulated), &StoredLog::in_mysql(pair.url(server), &name).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_loses_its_primary_loses_nothing() {
    if TestDatabase::new().await.is_none() {
        return;
    }
    let Some(group) = Group::start().await else { return };
    let seed = seed();
    let database = TestDatabase::at(group.url(0)).await;
    let name = database.name().to_owned();
    let mut fleet = Fleet::start(2, database).await;
    let ledger = Ledger::default();
    let mut witnesses = Witnesses::of(&fleet, &ledger).await;
    let (chatters, simulation) = (Chatters::start(&fleet.addresses(), &ledger), fleet.simulate(SECONDS, seed));
    let switches = async {
        fleet.until_smiles_flow(100).await;
        group.switches_to(1).await;
        witnesses.move_to(group.url(1), &fleet).await;
        eventually("no connection to the old primary remains", async || sessions(group.url(0), &name).await == 0).await;

        fleet.until_smiles_flow(100).await;
        group.loses_primary(1).await;
        witnesses.move_to(group.url(0), &fleet).await;
        group.restarts(1).await;
    };
    let (simulated, ()) = tokio::join!(simulation, switches);
    chatters.end().await;
    fleet.assert_same_log().await;
    group.until_replicated().await;
    for server in 0..3 {
        ledger.assert_with(simulated_smiles(&simulated), &StoredLog::in_mysql(group.url(server), &name).await);
    }
    drop(fleet);
    group.ends().await;
}

#[tokio::test]
async fn session_settings_of_the_server_are_overridden_or_refused() {
    let Some((_alone, pair)) = start_pair().await else { return };
    let database = TestDatabase::at(pair.url(0)).await;
    // MySQL skips `init_connect` for privileged accounts. Error 1175 is a refusal because of `sql_safe_updates`. With
    // the limit of one row, the store would have one user only.
    let store = database.url_of_a_restricted_user().await;
    pair.run(0, "SET GLOBAL init_connect = 'SET sql_safe_updates = 1, completion_type = 1, sql_select_limit = 1'")
        .await;
    let chaining = format!(
        "SELECT CAST(COUNT(*) AS CHAR) FROM performance_schema.threads
        JOIN performance_schema.variables_by_thread USING (thread_id)
        WHERE processlist_db = '{}' AND variable_name = 'completion_type' AND variable_value <> 'NO_CHAIN'",
        database.name()
    );
    for id in ["first", "second"] {
        let mut replica = TestProcess::on_mysql(&store, &[]).await;
        TestClient::connect(replica.address, "anna").await.persist(id, "bruno").await;
        // The connection for the binary log does not change the setting, but soon closes.
        eventually("no session chains its transactions", async || pair.ask(0, &chaining).await == "0").await;
        replica.signal("TERM").await;
        assert!(
            replica.exit().await.success() && !replica.log().contains("1175"),
            "the drain failed, or MySQL refused a statement: {}",
            replica.log()
        );
    }
    pair.run(0, "SET GLOBAL init_connect = ''; SET GLOBAL binlog_format = STATEMENT").await;
    let refused = run_program(&["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", &format!("--store={store}")]).await;
    pair.run(0, "SET GLOBAL binlog_format = ROW").await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("binlog_format is STATEMENT; set it to ROW"),
        "the wrong binlog_format was not refused: {said}"
    );
}

/// The maximum number of log lines about an outage: its start, the reopening of connections, and its end.
const LINES_OF_AN_OUTAGE: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_transactions_cause_few_log_lines() {
    let Some((_alone, pair)) = start_pair().await else { return };
    let mut fleet = Fleet::start(1, TestDatabase::at(pair.url(0)).await).await;
    let mut anna = TestClient::connect(fleet.members[0].listen, "anna").await;
    acked(&mut anna, "before", "bruno").await;
    fleet.until_followed(pair.url(0)).await;
    let lines = fleet.lines();
    pair.run(0, "SET GLOBAL transaction_read_only = ON").await;
    // Existing MySQL sessions keep the old setting, so they must end.
    fleet.members[0].network.becomes(Network::Cut);
    eventually("all MySQL sessions end", async || fleet.database.sessions().await == 0).await;
    fleet.members[0].network.becomes(Network::Open);
    for number in 0..20 {
        anna.send_smile(&format!("refused-{number}"), "bruno").await;
        eventually("the smile is refused temporarily", async || anna.next().await["temporary"] == true).await;
    }
    pair.run(0, "SET GLOBAL transaction_read_only = OFF").await;
    acked(&mut anna, "after", "bruno").await;
    let said = fleet.lines()[0] - lines[0];
    assert!(said <= LINES_OF_AN_OUTAGE, "the outage caused {said} log lines: {}", fleet.members[0].process().log());
}

/// Time limit for all replicas to disconnect from a primary that keeps running after the address has moved.
const LEFT: Duration = Duration::from_secs(6);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_leave_an_old_primary_that_still_accepts_writes() {
    let Some((_alone, pair)) = start_pair().await else { return };
    let mut fleet = Fleet::start(2, TestDatabase::at(pair.url(0)).await).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(fleet.members[0].listen, "anna").await.recording(&ledger);
    acked(&mut anna, "before", "bruno").await;
    pair.until_replicated().await;
    pair.takes_over(1).await;
    for member in &fleet.members {
        member.network.leads_to(pair.address(1));
    }
    let moved = Instant::now();
    eventually("no connection to the old primary remains", async || fleet.database.sessions().await == 0).await;
    assert!(moved.elapsed() < LEFT, "the old primary was left only after {:?}", moved.elapsed());
    acked(&mut anna, "after", "bruno").await;
    ledger.assert_with(0, &StoredLog::in_mysql(pair.url(1), fleet.database.name()).await);
    for member in &mut fleet.members {
        assert!(member.process().runs(), "a replica exited: {}", member.process().log());
    }
}

/// Time limit for acks after the address has moved away from a silent primary.
const LEFT_IN_SILENCE: Duration = Duration::from_secs(2);

/// The maximum number of lines that a replica logs about the move: the address points to another server, and the store
/// accepts smiles again. A replica that noticed no outage before the move may log one more line.
const LINES_OF_A_MOVE: usize = 2;

/// The address moves as soon as the new primary accepts writes, or only after the replicas have noticed the outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_leave_a_silent_old_primary_within_two_seconds() {
    for noticed in [true, false] {
        let Some((_alone, pair)) = start_pair().await else { return };
        let mut fleet = Fleet::start(2, TestDatabase::at(pair.url(0)).await).await;
        let ledger = Ledger::default();
        let mut clients = Vec::new();
        for (replica, user) in fleet.addresses().into_iter().zip(["anna", "carla"]) {
            let mut client = TestClient::connect(replica, user).await.recording(&ledger);
            acked(&mut client, "before", "bruno").await;
            clients.push(client);
        }
        fleet.until_followed(pair.url(0)).await;
        pair.until_replicated().await;
        let frozen = Pair::freezes(0);
        pair.takes_over(1).await;
        for client in &mut clients {
            client.send_smile("held", "bruno").await;
        }
        for member in fleet.members.iter_mut().filter(|_| noticed) {
            eventually("the replica notices the outage", async || member.process().log().contains("accepts no smiles"))
                .await;
        }
        let lines = fleet.lines();
        for member in &fleet.members {
            member.network.leads_to(pair.address(1));
        }
        let moved = Instant::now();
        for client in &mut clients {
            for id in ["held", "after"] {
                acked(client, id, "bruno").await;
                assert!(
                    moved.elapsed() < LEFT_IN_SILENCE,
                    "{id} was acked only after {:?}, noticed: {noticed}",
                    moved.elapsed()
                );
            }
        }
        eprintln!("noticed: {noticed}, all acked after {:?}", moved.elapsed());
        fleet.until_followed(pair.url(1)).await;
        let said: Vec<usize> = fleet.lines().iter().zip(lines).map(|(now, before)| now - before).collect();
        let log = fleet.members[0].process().log();
        assert!(
            said.iter().all(|lines| *lines <= LINES_OF_A_MOVE + usize::from(!noticed)),
            "the replicas logged too many lines, {said:?}: {log}"
        );
        drop(frozen);
        eventually("no connection to the old primary remains", async || fleet.database.sessions().await == 0).await;
        ledger.assert_in(&StoredLog::in_mysql(pair.url(1), fleet.database.name()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_smile_is_acked_only_when_a_semi_synchronous_replica_has_it() {
    let Some((_alone, pair)) = start_pair().await else { return };
    pair.make_semi_synchronous().await;
    let mut fleet = Fleet::start(2, TestDatabase::at(pair.url(0)).await).await;
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(fleet.members[0].listen, "anna").await.recording(&ledger);
    let mut bruno = TestClient::connect(fleet.members[1].listen, "bruno").await;
    acked(&mut anna, "before", "bruno").await;
    assert_eq!(bruno.expect("smile").await["id"], "before");
    let (normal, lines) = (fleet.database.sessions().await, fleet.lines());

    // From here on, commits of smiles and of lease renewals hang in MySQL.
    pair.run(1, "STOP REPLICA").await;
    anna.send_smile("held", "bruno").await;
    for member in &fleet.members {
        let status = async || crate::support::get(member.ops_address(), "/readyz").await.status();
        eventually("the replica is not ready", async || status().await == 503).await;
    }
    anna.expect_alive().await;
    bruno.expect_alive().await;
    let hanging = fleet.database.sessions().await;
    assert!(hanging < 2 * normal, "{hanging} connections were open, normally {normal}");

    pair.run(1, "START REPLICA").await;
    assert_eq!(anna.expect("ack").await["id"], "held");
    assert_eq!(bruno.expect("smile").await["id"], "held");
    acked(&mut anna, "after", "bruno").await;
    let said: Vec<usize> = fleet.lines().iter().zip(lines).map(|(now, before)| now - before).collect();
    assert!(
        said.iter().all(|lines| *lines <= 10),
        "the replicas logged too many lines, {said:?}: {}",
        fleet.members[0].process().log()
    );
    pair.until_replicated().await;
    for server in [0, 1] {
        ledger.assert_with(0, &StoredLog::in_mysql(pair.url(server), fleet.database.name()).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failover_to_a_server_that_lacks_the_last_smiles_begins_a_new_epoch() {
    let Some((_alone, pair)) = start_pair().await else { return };
    let database = TestDatabase::at(pair.url(0)).await;
    let name = database.name().to_owned();
    let mut fleet = Fleet::start(2, database).await;
    let (one, two) = (fleet.members[0].listen, fleet.members[1].listen);
    let ledger = Ledger::default();
    let mut anna = TestClient::connect(one, "anna").await.recording(&ledger);
    let epoch = anna.epoch();
    let kept = acked(&mut anna, "kept", "bruno").await;
    let mut anna = anna.recording(&Ledger::default());
    pair.until_replicated().await;
    pair.run(1, "STOP REPLICA").await;
    let mut last = kept;
    for number in 0..50 {
        last = acked(&mut anna, &format!("lost-{number}"), "bruno").await;
    }
    for member in &fleet.members {
        member.network.becomes(Network::Cut);
        member.network.leads_to(pair.address(1));
    }
    pair.takes_over(1).await;
    for member in &fleet.members {
        member.network.becomes(Network::Open);
    }
    // Before the replicas notice the failover, send more smiles than the new primary lacks.
    for number in 0..60 {
        let _ = anna.try_send(&smile(&format!("new-{number:02}"), "bruno").to_string()).await;
    }
    for member in &mut fleet.members {
        assert!(!member.process().exit().await.success());
        member.start().await;
    }
    for member in [one, two] {
        let anna = TestClient::resume(member, "anna", last, &epoch).await;
        assert!(!anna.recovered() && anna.epoch() != epoch, "the session belonged to the old log: {}", anna.welcome);
    }
    let mut bruno = TestClient::connect(two, "bruno").await;
    let mut anna = TestClient::connect(one, "anna").await.recording(&ledger);
    let mut offsets = Vec::new();
    for number in 0..60 {
        offsets.push(acked(&mut anna, &format!("new-{number:02}"), "bruno").await);
    }
    let last = offsets[59];
    let received: Vec<Value> = within("Bruno receives every smile", async {
        let mut received: Vec<Value> = Vec::new();
        while received.last().is_none_or(|smile| offset(smile) < last) {
            received.push(bruno.expect("smile").await);
        }
        received
    })
    .await;
    offsets.retain(|offset| *offset > bruno.offset());
    assert_eq!(received.iter().map(offset).collect::<Vec<_>>(), offsets);
    ledger.assert_with(0, &StoredLog::in_mysql(pair.url(1), &name).await);
}
