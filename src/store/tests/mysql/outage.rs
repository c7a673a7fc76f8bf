//! MySQL, or the way to it, goes away and comes back.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::proxy::{Network, Proxy};
use super::*;

const SOON: Duration = Duration::from_secs(5);

/// A way to the server of a database, and the database's URL by that way.
async fn way_to(database: &Database) -> (Proxy, StoreUrl) {
    let StoreUrl::MySql(server) = database.url() else { panic!("this is for MySQL") };
    let proxy = Proxy::to((server.host.clone(), server.port)).await;
    let url = MySqlUrl { host: proxy.address.ip().to_string(), port: proxy.address.port(), ..server };
    (proxy, StoreUrl::MySql(url))
}

async fn open(url: &StoreUrl) -> Store {
    Store::open(url, None).await.unwrap()
}

async fn until_the_head_is(store: &Store, head: Offset) {
    let reached = async {
        while store.log_state().await.unwrap().head < head {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, reached).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_is_found() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let (store, other) = (open(&url).await, database.open().await);
    append(&store, &[("anna", "bruno", "before")]).await;
    append(&other, &[("bruno", "anna", "theirs")]).await;

    proxy.becomes(Network::NoAnswers);
    let appending = tokio::spawn({
        let store = store.clone();
        async move { append(&store, &[("anna", "bruno", "a"), ("anna", "bruno", "b"), ("anna", "bruno", "a")]).await }
    });
    until_the_head_is(&other, Offset(4)).await;
    proxy.becomes(Network::Cut);
    sleep(Duration::from_millis(300)).await;
    assert!(!appending.is_finished(), "as long as it is not known, nothing is said");
    proxy.becomes(Network::Open);
    let appended = timeout(SOON, appending).await.unwrap().unwrap();
    assert_eq!(
        appended,
        [Appended::Stored(Offset(3)), Appended::Stored(Offset(4)), Appended::Duplicate(Offset(3))],
        "it is the first try's work, not a duplicate"
    );
    assert_eq!(append(&store, &[("bruno", "anna", "theirs")]).await, [Appended::Duplicate(Offset(2))]);
    assert_eq!(append(&store, &[("anna", "bruno", "after")]).await, [Appended::Stored(Offset(5))]);
}

#[tokio::test]
async fn what_never_reached_mysql_is_refused_or_stored_later() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    let smiles = [smile(&store, "anna", "bruno", "a")];
    proxy.becomes(Network::Cut);
    let refused = timeout(SOON, store.append(&smiles, Timestamp::now())).await.unwrap();
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "without a connection nothing can have been stored");

    proxy.becomes(Network::Open);
    append(&store, &[("anna", "bruno", "b")]).await;
    proxy.becomes(Network::Cut);
    let appending = tokio::spawn({
        let store = store.clone();
        async move { append(&store, &[("anna", "bruno", "c")]).await }
    });
    sleep(Duration::from_millis(200)).await;
    proxy.becomes(Network::Open);
    assert_eq!(timeout(SOON, appending).await.unwrap().unwrap(), [Appended::Stored(Offset(2))]);
    assert_eq!(ids(&store.read_log(Offset(0), 10).await.unwrap().smiles), ["b", "c"]);
}

#[tokio::test]
async fn a_silent_network_is_noticed() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &[("anna", "bruno", "a")]).await;
    let cluster = cluster_of(&store);
    let registration = cluster.register(new_replica("be1", None)).await.unwrap();
    store.log_state().await.unwrap();
    proxy.becomes(Network::Silent);
    let users = (store.user("anna").unwrap(), store.user("bruno").unwrap());
    let began = Instant::now();
    let (state, log, conversation, renewal) = tokio::join!(
        store.log_state(),
        store.read_log(Offset(0), 10),
        store.read_conversation(users, None, 10),
        cluster.renew(&registration, ReplicaStatus::default()),
    );
    assert!(state.is_err() && log.is_err() && conversation.is_err() && renewal.is_err());
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    proxy.becomes(Network::Open);
    assert_eq!(store.log_state().await.unwrap().head, Offset(1));
}

#[tokio::test]
async fn connections_that_ended_while_idle_cost_no_answer() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &[("anna", "bruno", "a")]).await;
    store.log_state().await.unwrap();
    store.read_log(Offset(0), 10).await.unwrap();
    proxy.becomes(Network::Cut);
    sleep(Duration::from_millis(50)).await;
    proxy.becomes(Network::Open);
    assert_eq!(store.log_state().await.unwrap().head, Offset(1));
    assert_eq!(ids(&store.read_log(Offset(0), 10).await.unwrap().smiles), ["a"]);
    assert_eq!(append(&store, &[("anna", "bruno", "b")]).await, [Appended::Stored(Offset(2))]);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    proxy.becomes(Network::Cut);
    let opening = tokio::spawn(async move { Store::open(&url, None).await });
    sleep(Duration::from_millis(700)).await;
    assert!(!opening.is_finished());
    proxy.becomes(Network::Open);
    timeout(SOON, opening).await.unwrap().unwrap().unwrap();
}

/// `scripts/mysql` with a server of its own, that no other test uses.
async fn server(command: &'static str) -> String {
    let run = move || {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/mysql");
        let done = Command::new(script).args([command, "target/mysql-to-kill"]).output().unwrap();
        assert!(done.status.success(), "scripts/mysql {command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// Appends as fast as it goes, never repeats a smile, and tells where each of them is.
async fn write_until(stop: CancellationToken, store: Store, writer: usize) -> BTreeMap<String, Offset> {
    let mut stored = BTreeMap::new();
    for batch in 0_u32.. {
        if stop.is_cancelled() {
            break;
        }
        let ids: Vec<_> = (0..10).map(|n| format!("{writer}-{batch}-{n}")).collect();
        let smiles: Vec<_> = ids.iter().map(|id| smile(&store, "anna", "bruno", id)).collect();
        match store.append(&smiles, Timestamp::now()).await {
            Ok(appended) => stored.extend(ids.into_iter().zip(appended).map(|(id, appended)| {
                assert_eq!(appended, Appended::Stored(appended.offset()), "nothing was sent twice");
                (id, appended.offset())
            })),
            Err(StoreError::Unavailable(_)) => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
    }
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mysql_that_ends_loses_nothing_and_keeps_nothing_it_refused() {
    if Database::mysql().await.is_none() {
        return;
    }
    let database = Database::mysql_at(&server("start").await).await;
    let stop = CancellationToken::new();
    let mut writers = Vec::new();
    for writer in 0..3 {
        writers.push(tokio::spawn(write_until(stop.clone(), database.open().await, writer)));
    }
    let (store, idle) = (database.open().await, database.open().await);
    for (id, end) in [("refused-1", "kill"), ("refused-2", "stop"), ("refused-3", "kill"), ("refused-4", "stop")] {
        until_the_head_is(&store, Offset(store.log_state().await.unwrap().head.0 + 500)).await;
        server(end).await;
        let refused = idle.append(&[smile(&idle, "carla", "dario", id)], Timestamp::now()).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
        server("start").await;
    }
    until_the_head_is(&store, Offset(store.log_state().await.unwrap().head.0 + 500)).await;
    stop.cancel();
    let mut told = BTreeMap::new();
    for writer in writers {
        told.extend(writer.await.unwrap());
    }
    let log = follow(&store, store.log_state().await.unwrap().head).await;
    let log: BTreeMap<_, _> = log.into_iter().map(|smile| (smile.id.as_str().to_owned(), smile.offset)).collect();
    assert_eq!(log, told, "exactly what was answered, and where; nothing that was refused");
    drop(database);
    server("stop").await;
}

#[tokio::test]
async fn a_connection_that_is_half_open_is_given_up() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    append(&store, &[("anna", "bruno", "a")]).await;
    store.log_state().await.unwrap();
    proxy.becomes(Network::HalfOpen);
    let appended = timeout(SOON, append(&store, &[("anna", "bruno", "b")])).await.unwrap();
    assert_eq!(appended, [Appended::Stored(Offset(2))]);
    assert_eq!(store.log_state().await.unwrap().head, Offset(2));
}

#[tokio::test]
async fn a_slow_network_is_only_slow() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let store = open(&url).await;
    proxy.becomes(Network::Slow(Duration::from_millis(50)));
    let began = Instant::now();
    assert_eq!(append(&store, &[("anna", "bruno", "a")]).await, [Appended::Stored(Offset(1))]);
    assert!(began.elapsed() >= Duration::from_millis(100));
    assert_eq!(store.log_state().await.unwrap().head, Offset(1));
}
