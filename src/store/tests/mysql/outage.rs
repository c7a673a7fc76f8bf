//! The network to MySQL fails or is slow, and MySQL starts late.

use std::time::Instant;

use tokio::time::{sleep, timeout};

use super::proxy::{Network, Proxy};
use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A proxy to the server of a database, and the database's URL through it.
pub(crate) async fn way_to(database: &Database) -> (Proxy, StoreUrl) {
    let StoreUrl::MySql(server) = database.url() else { panic!("only a MySQL database has a server") };
    let proxy = Proxy::to((server.host.clone(), server.port)).await;
    let url = MySqlUrl { host: proxy.address.ip().to_string(), port: proxy.address.port(), ..server };
    (proxy, StoreUrl::MySql(url))
}

pub(crate) async fn open(url: &StoreUrl) -> Store {
    Store::open(url).await.unwrap()
}

pub(crate) async fn until_the_head_is(store: &Store, head: Offset) {
    let reached = async {
        while store.log_state().await.unwrap().head < head {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, reached).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found_by_appending_again() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let (store, other) = (open(&url).await, database.open().await);
    append(&store, &["a"]).await;
    for (ids, end) in [(["b", "c"], 3), (["d", "e"], 5)] {
        let batch = batch(&store, &ids).await;
        proxy.becomes(Network::NoAnswers);
        let (appended, ()) = tokio::join!(store.append(&batch), async {
            until_the_head_is(&other, Offset(end)).await;
            proxy.becomes(Network::Cut);
        });
        assert!(matches!(appended, Err(AppendError::InDoubt(_))), "the append was not in doubt: {appended:?}");
        let still_cut = store.append(&batch).await;
        assert!(matches!(still_cut, Err(AppendError::NotStored(_))), "the append was not refused: {still_cut:?}");
        proxy.becomes(Network::Open);
        assert_eq!(store.append(&batch).await.unwrap(), Append::Done);
    }
    assert_eq!(ids(&whole_log(&other).await), ["a", "b", "c", "d", "e"]);
}

#[tokio::test]
async fn a_batch_in_doubt_gives_way_to_one_that_was_accepted_meanwhile() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let (store, other) = (open(&url).await, database.open().await);
    append(&store, &["a"]).await;
    let batch = batch(&store, &["late"]).await;
    // The proxy holds the request back until the other replica has appended.
    proxy.becomes(Network::Silent);
    let appended = store.append(&batch).await;
    assert!(matches!(appended, Err(AppendError::InDoubt(_))), "the append was not in doubt: {appended:?}");
    append(&other, &["first"]).await;
    append(&other, &["next"]).await;
    proxy.becomes(Network::Open);
    assert_eq!(store.append(&batch).await.unwrap(), Append::Occupied);
    assert_eq!(ids(&whole_log(&other).await), ["a", "first", "next"]);
}

#[tokio::test]
async fn an_append_without_a_connection_is_refused_and_not_in_doubt() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    let batch = store.new_batch(None, Offset(0), &[smile(&store, "anna", "bruno", "a")], Timestamp::now());
    proxy.becomes(Network::Cut);
    let refused = timeout(SOON, store.append(&batch)).await.unwrap();
    assert!(matches!(refused, Err(AppendError::NotStored(_))), "the append was not refused: {refused:?}");
    proxy.becomes(Network::Open);
    assert_eq!(whole_log(&store).await, []);
}

/// The maximum number of probes while a statement waits up to its time limit (2 s), on a network that has already been
/// silent for that long.
const MAX_PROBES: usize = 2;

#[tokio::test]
async fn a_silent_network_is_detected_and_only_probes_connect_over_it() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &["a"]).await;
    let cluster = cluster_of(&store);
    let registration = cluster.register(new_replica("be1", None)).await.unwrap();
    store.log_state().await.unwrap();
    proxy.becomes(Network::Silent);
    let anna = store.user("anna").unwrap();
    let users = (anna, store.user("bruno").unwrap());
    let began = Instant::now();
    let (state, log, conversation, stream, claim, renewal) = tokio::join!(
        store.log_state(),
        store.read_log(Offset(0), 10),
        store.read_conversation(users, 0, 1),
        store.read_segments(anna, 0..1, Offset(0)),
        store.claim_index(1),
        cluster.renew(&registration, ReplicaStatus::default()),
    );
    assert!(state.is_err() && log.is_err() && conversation.is_err() && stream.is_err());
    assert!(claim.is_err() && renewal.is_err());
    assert!(began.elapsed() < SOON, "the statements failed only after {:?}", began.elapsed());
    let accepted = proxy.accepted();
    let (claim, renewal, head) =
        tokio::join!(store.claim_index(1), cluster.renew(&registration, ReplicaStatus::default()), store.log_state());
    assert!(claim.is_err() && renewal.is_err() && head.is_err());
    let probes = proxy.accepted() - accepted;
    assert!(probes <= MAX_PROBES, "{probes} connections were opened on a silent network");
    proxy.becomes(Network::Open);
    assert_eq!(store.log_state().await.unwrap().head, Offset(1));
}

#[tokio::test]
async fn an_append_over_a_cut_connection_is_in_doubt_and_reads_succeed() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &["a"]).await;
    let next = batch(&store, &["b"]).await;
    store.read_log(Offset(0), 10).await.unwrap();
    store.indexed().await.unwrap();
    proxy.becomes(Network::Cut);
    sleep(Duration::from_millis(50)).await;
    proxy.becomes(Network::Open);
    assert!(matches!(store.append(&next).await, Err(AppendError::InDoubt(_))));
    assert_eq!(store.append(&next).await.unwrap(), Append::Done);
    assert_eq!((store.log_state().await.unwrap().head, store.indexed().await.unwrap()), (Offset(2), 0));
    assert_eq!(ids(&whole_log(&store).await), ["a", "b"]);
}

#[tokio::test]
async fn opening_waits_for_a_server_that_is_not_up_yet() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    proxy.becomes(Network::Cut);
    let StoreUrl::MySql(server) = database.url() else { unreachable!() };
    let opening = tokio::spawn(async move { Store::open(&url).await });
    for network in [Network::Cut, Network::NoServer, Network::Open] {
        // No server listens on this port.
        proxy.leads_to((server.host.clone(), 1));
        proxy.becomes(network);
        sleep(Duration::from_millis(700)).await;
        assert!(!opening.is_finished(), "opening ended without a server ({network:?})");
    }
    proxy.leads_to((server.host, server.port));
    timeout(SOON, opening).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_replica_that_is_cut_off_while_it_starts_does_not_keep_others_from_starting() {
    let Some(database) = Database::mysql().await else { return };
    database.open().await;
    let (proxy, url) = way_to(&database).await;
    let holding = database.holding("LOCK TABLES _sqlx_migrations READ").await;
    let starting = tokio::spawn(async move { Store::open(&url).await });
    database.until_in_state("Waiting for table metadata lock", 1).await;
    proxy.becomes(Network::Silent);
    drop(holding);
    timeout(PATIENCE, database.open()).await.expect("another replica should start");
    // MySQL has ended the session of the first replica, which then tries again.
    proxy.becomes(Network::Open);
    timeout(PATIENCE, starting).await.expect("the first replica should start").unwrap().unwrap();
}

#[tokio::test]
async fn a_half_open_connection_is_abandoned() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &["a"]).await;
    let next = batch(&store, &["b"]).await;
    proxy.becomes(Network::HalfOpen);
    let appended = async { while store.append(&next).await.is_err() {} };
    timeout(SOON, appended).await.unwrap();
    assert_eq!(ids(&whole_log(&store).await), ["a", "b"]);
}

#[tokio::test]
async fn the_locks_of_a_replica_that_is_cut_off_while_it_writes_the_index_are_soon_released() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let (one, two) = (open(&url).await, database.open().await);
    assert!(one.claim_index(1).await.unwrap());
    let step = IndexStep {
        segment: 0,
        last: None,
        conversations: Vec::new(),
        blocks: vec![(BlockKey(1), vec![1; 16])],
        superseded: Vec::new(),
    };
    let holding = database.holding("LOCK TABLES index_ids READ").await;
    let cut = async {
        database.until_in_state("Waiting for table metadata lock", 1).await;
        proxy.becomes(Network::Silent);
        drop(holding);
    };
    let (written, ()) = tokio::join!(one.write_index(&step), cut);
    assert!(written.is_err());
    let claimed = async { while !matches!(two.claim_index(2).await, Ok(true)) {} };
    timeout(PATIENCE, claimed).await.expect("the other replica should write the index");
    two.write_index(&step).await.unwrap();
    assert_eq!(two.indexed().await.unwrap(), 1);
}

#[tokio::test]
async fn a_slow_network_delays_an_append_without_an_error() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    proxy.becomes(Network::Slow(Duration::from_millis(50)));
    let began = Instant::now();
    append(&store, &["a"]).await;
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(store.log_state().await.unwrap().head, Offset(1));
}

#[tokio::test]
async fn a_handshake_that_takes_longer_than_an_append_may_wait_is_completed() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    let batch = store.new_batch(None, Offset(0), &[smile(&store, "anna", "bruno", "a")], Timestamp::now());
    proxy.becomes(Network::Slow(Duration::from_millis(100)));
    let refused = store.append(&batch).await;
    assert!(matches!(refused, Err(AppendError::NotStored(_))), "the handshake was quick: {refused:?}");
    let appended = async { while store.append(&batch).await.is_err() {} };
    timeout(PATIENCE, appended).await.expect("the batch should be appended");
    assert_eq!(store.log_state().await.unwrap().head, Offset(1));
}

#[tokio::test]
async fn a_connection_that_is_discarded_during_its_ping_executes_no_statement() {
    let Some(database) = Database::mysql().await else { return };
    // The proxy is a task of this test, so no ping is answered before `discard` runs.
    let (_proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &["a"]).await;
    let next = batch(&store, &["b"]).await;
    let Store::MySql(mysql) = &store else { unreachable!() };
    // A connection that was used within the last second is reused without a ping.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let discard = async { mysql.connect_again() };
    let (appended, ()) = tokio::join!(biased; store.append(&next), discard);
    assert!(matches!(appended, Err(AppendError::InDoubt(_))), "the append ended with {appended:?}");
    assert_eq!(ids(&whole_log(&store).await), ["a"]);
    assert_eq!(store.append(&next).await.unwrap(), Append::Done);
}
