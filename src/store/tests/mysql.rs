//! What a database keeps that several replicas share, and that may go away.

mod outage;
#[path = "../../../tests/integration/support/proxy.rs"]
mod proxy;

use std::collections::{BTreeMap, HashSet};

use super::cluster::{cluster_of, new_replica};
use super::database::Database;
use super::*;
use crate::config::{MySqlUrl, TlsMode};

/// The server's tables as an older program, or a crash, may have left them.
async fn by_hand(database: &Database, statements: &'static str) {
    sqlx::raw_sql(statements).execute(&mut database.connect().await).await.unwrap();
}

/// The whole log, read as a replica follows it: every offset must come right after the one before.
async fn follow(store: &Store, until: Offset) -> Vec<Smile> {
    let mut seen: Vec<Smile> = Vec::new();
    while (seen.len() as u64) < until.0 {
        for smile in store.read_log(Offset(seen.len() as u64), 1000).await.unwrap().smiles {
            assert_eq!(smile.offset, Offset(seen.len() as u64 + 1));
            seen.push(smile);
        }
    }
    seen
}

/// What became of a smile of that sender and id, as its replica was told.
type Told = BTreeMap<(String, String), Appended>;

/// One replica's work: batches of smiles that only it sends, and of some that all of them send.
async fn write(store: Store, writer: usize, batches: usize) -> Vec<Told> {
    let sender = ["anna", "bruno", "carla", "dario"][writer];
    let mut told = Vec::new();
    for batch in 0..batches {
        let own = (0..20).map(|n| (sender, format!("{batch}-{n}")));
        let shared = (0..5).map(|n| ("elena", format!("shared-{batch}-{n}")));
        let smiles: Vec<_> = own.chain(shared).map(|(from, id)| smile(&store, from, "zoe", &id)).collect();
        let appended = store.append(&smiles, Timestamp::now()).await.unwrap();
        let key = |smile: &NewSmile| (smile.from.to_string(), smile.id.as_str().to_owned());
        told.push(smiles.iter().map(key).zip(appended).collect());
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_write_one_log() {
    let Some(database) = Database::mysql().await else { return };
    let (batches, smiles) = (40, Offset(4 * 40 * 20 + 40 * 5));
    let mut writers = Vec::new();
    for writer in 0..4 {
        writers.push(tokio::spawn(write(database.open().await, writer, batches)));
    }
    let mut readers = Vec::new();
    for _ in 0..2 {
        let store = database.open().await;
        readers.push(tokio::spawn(async move { follow(&store, smiles).await }));
    }
    let log = readers.pop().unwrap().await.unwrap();
    assert_eq!(readers.pop().unwrap().await.unwrap(), log, "every replica sees the same log");

    let offsets: BTreeMap<_, _> =
        log.iter().map(|smile| ((smile.from.to_string(), smile.id.as_str().to_owned()), smile.offset)).collect();
    assert_eq!(offsets.len(), log.len(), "each smile is there once");
    let mut stored = HashSet::new();
    for writer in writers {
        for (smile, appended) in writer.await.unwrap().into_iter().flatten() {
            assert_eq!(offsets[&smile], appended.offset());
            if matches!(appended, Appended::Stored(_)) {
                assert!(stored.insert(smile), "a smile is stored by one replica, and a duplicate at the others");
            }
        }
    }
    assert_eq!(stored.len(), log.len());
}

#[tokio::test]
async fn any_number_of_replicas_may_start_at_once() {
    let Some(database) = Database::mysql().await else { return };
    let stores = futures_util::future::join_all((0..8).map(|_| database.open())).await;
    let first = stores[0].log_state().await.unwrap();
    for store in &stores {
        assert_eq!(store.log_state().await.unwrap(), first, "one log, whoever made it");
        assert_eq!(store.users().len(), 64);
    }
}

#[tokio::test]
async fn a_migration_cut_in_half_is_repaired() {
    let Some(database) = Database::mysql().await else { return };
    let before = database.open().await;
    append(&before, &[("anna", "bruno", "a")]).await;
    let state = before.log_state().await.unwrap();
    before.close().await;
    by_hand(
        &database,
        "DROP TABLE replicas; DROP TABLE leases; DELETE FROM users WHERE id > 7;
         UPDATE _sqlx_migrations SET success = FALSE WHERE version IN (2, 4, 5, 6, 7, 9, 10, 11, 12)",
    )
    .await;
    let after = database.open().await;
    assert_eq!(after.users().len(), 64);
    assert_eq!(after.log_state().await.unwrap(), state);
    assert_eq!(append(&after, &[("anna", "bruno", "a")]).await, [Appended::Duplicate(Offset(1))]);
    assert_eq!(cluster_of(&after).replicas().await.unwrap(), []);
    after.close().await;

    // A crash may also come after a column was added, and before that was noted.
    by_hand(&database, "UPDATE _sqlx_migrations SET success = FALSE WHERE version IN (7, 9, 10, 12)").await;
    assert_eq!(cluster_of(&database.open().await).replicas().await.unwrap(), []);
}

#[tokio::test]
async fn a_replica_runs_beside_newer_tables() {
    let Some(database) = Database::mysql().await else { return };
    database.open().await.close().await;
    by_hand(
        &database,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'a newer one', TRUE, '', 0);
         ALTER TABLE smiles ADD COLUMN mood INT NULL; ALTER TABLE leases ADD COLUMN zone INT NULL",
    )
    .await;
    let store = database.open().await;
    assert_eq!(append(&store, &[("anna", "bruno", "a")]).await, [Appended::Stored(Offset(1))]);
    assert_eq!(ids(&store.read_log(Offset(0), 10).await.unwrap().smiles), ["a"]);
    cluster_of(&store).register(new_replica("be1", None)).await.unwrap();
    assert_eq!(cluster_of(&store).replicas().await.unwrap().len(), 1);
}

#[tokio::test]
async fn whoever_is_refused_is_told_why_and_no_secret() {
    let Some(database) = Database::mysql().await else { return };
    let StoreUrl::MySql(url) = database.url() else { unreachable!() };
    let password = Some("wrong-secret");
    let refused = Store::open(&database.url(), password).await.unwrap_err().to_string();
    assert!(refused.contains("Access denied") && !refused.contains("secret"), "{refused}");
    let missing = StoreUrl::MySql(MySqlUrl { database: "chat_test_missing".to_owned(), ..url });
    let missing = Store::open(&missing, None).await.unwrap_err().to_string();
    assert!(missing.contains("Unknown database"), "{missing}");
}

#[tokio::test]
async fn tls_is_insisted_on_as_far_as_is_asked() {
    let Some(database) = Database::mysql().await else { return };
    let StoreUrl::MySql(url) = database.url() else { unreachable!() };
    let open = async |tls, tls_authority: Option<&str>| {
        let tls_authority = tls_authority.map(Into::into);
        Store::open(&StoreUrl::MySql(MySqlUrl { tls, tls_authority, ..url.clone() }), None).await
    };
    assert!(open(TlsMode::Required, None).await.is_ok());
    let unknown = open(TlsMode::VerifyAuthority, None).await.unwrap_err().to_string();
    assert!(unknown.contains("certificate"), "MySQL signs its own: {unknown}");
    let missing = open(TlsMode::VerifyAuthority, Some("/nowhere.pem")).await.unwrap_err().to_string();
    assert!(missing.contains("cannot read the authority in /nowhere.pem"), "{missing}");
}

#[tokio::test]
async fn a_stream_is_not_read_before_its_end_can_be_seen() {
    let Some(database) = Database::mysql().await else { return };
    let store = database.open().await;
    append(&store, &[("anna", "bruno", "a")]).await;
    let anna = store.user("anna").unwrap().clone();
    let early = store.read_stream(&anna, Offset(0), Offset(2), 10).await;
    assert!(matches!(early, Err(StoreError::Unavailable(_))), "it never becomes visible: {early:?}");
    let reading = tokio::spawn({
        let store = store.clone();
        async move { store.read_stream(&anna, Offset(0), Offset(2), 10).await.unwrap() }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    append(&store, &[("bruno", "anna", "b")]).await;
    let page = reading.await.unwrap();
    assert_eq!((ids(&page.smiles), page.through), (vec!["a", "b"], Offset(2)));
}

#[tokio::test]
async fn several_replicas_trim_and_each_smile_is_removed_once() {
    let Some(database) = Database::mysql().await else { return };
    let stores = futures_util::future::join_all((0..4).map(|_| database.open())).await;
    let old: Vec<_> = (0..900).map(|n| smile(&stores[0], "anna", "bruno", &format!("old-{n}"))).collect();
    stores[0].append(&old, Timestamp::now().before(Duration::from_hours(48))).await.unwrap();
    append(&stores[0], &[("anna", "bruno", "new")]).await;
    let yesterday = Timestamp::now().before(Duration::from_hours(24));
    let trim = async |store: &Store| {
        let mut removed = 0;
        while store.log_state().await.unwrap().trimmed < Offset(900) {
            removed += store.trim(yesterday, 100).await.unwrap();
        }
        removed
    };
    let removed: u64 = futures_util::future::join_all(stores.iter().map(trim)).await.into_iter().sum();
    assert_eq!((removed, stores[3].log_state().await.unwrap().trimmed), (900, Offset(900)));
    assert_eq!(ids(&stores[1].read_log(Offset(900), 10).await.unwrap().smiles), ["new"]);
}
