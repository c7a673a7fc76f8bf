//! A MySQL database that several replicas share: starts, repairs, accounts, TLS, hanging statements, retention and the
//! claim of the indexer.

pub(crate) mod outage;
#[path = "../../../tests/integration/support/proxy.rs"]
pub(crate) mod proxy;

use super::cluster::{cluster_of, new_replica};
use super::database::Database;
use super::*;
use crate::config::{MySqlUrl, TlsMode};

#[tokio::test]
async fn several_replicas_can_start_at_the_same_time() {
    let Some(database) = Database::mysql().await else { return };
    let stores = futures_util::future::join_all((0..8).map(|_| database.open())).await;
    let first = stores[0].log_state().await.unwrap();
    for store in &stores {
        assert_eq!(store.log_state().await.unwrap(), first);
        assert_eq!(store.users().len(), 256);
    }
}

#[tokio::test]
async fn migrations_that_a_crash_interrupted_are_run_again() {
    let Some(database) = Database::mysql().await else { return };
    let before = database.open().await;
    append(&before, &["a"]).await;
    let state = before.log_state().await.unwrap();
    before.close().await;
    let lost = "DROP TABLE leases; DELETE FROM users WHERE id > 7;
        UPDATE _sqlx_migrations SET success = FALSE
        WHERE version IN (2, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23)";
    database.run(lost).await;
    let after = database.open().await;
    assert_eq!(after.users().len(), 256);
    assert_eq!(after.log_state().await.unwrap(), state);
    assert_eq!(ids(&whole_log(&after).await), ["a"]);
    assert_eq!(cluster_of(&after).replicas().await.unwrap(), []);
}

#[tokio::test]
async fn a_replica_runs_with_newer_tables() {
    let Some(database) = Database::mysql().await else { return };
    database.open().await.close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            VALUES (9999, 'a newer one', TRUE, '', 0);
        ALTER TABLE log_batches ADD COLUMN mood INT NULL; ALTER TABLE log_state ADD COLUMN mood INT NULL;
        ALTER TABLE leases ADD COLUMN zone INT NULL";
    database.run(newer).await;
    let store = database.open().await;
    append(&store, &["a"]).await;
    assert_eq!(ids(&whole_log(&store).await), ["a"]);
    cluster_of(&store).register(new_replica("be1", None)).await.unwrap();
}

#[tokio::test]
async fn a_refusal_names_the_cause_and_no_secret() {
    let Some(database) = Database::mysql().await else { return };
    let StoreUrl::MySql(url) = database.url() else { unreachable!() };
    let wrong = MySqlUrl { password: Some("wrong-secret".to_owned()), ..url.clone() };
    let refused = Store::open(&StoreUrl::MySql(wrong)).await.err().unwrap().to_string();
    assert!(refused.contains("Access denied") && !refused.contains("secret"), "unexpected refusal: {refused}");
    let missing = StoreUrl::MySql(MySqlUrl { database: "chat_test_missing".to_owned(), ..url });
    let missing = Store::open(&missing).await.err().unwrap().to_string();
    assert!(missing.contains("Unknown database"), "unexpected error: {missing}");
}

#[tokio::test]
async fn opening_waits_for_an_account_that_is_created_late() {
    let Some(database) = Database::mysql().await else { return };
    let StoreUrl::MySql(url) = database.url() else { unreachable!() };
    let name = url.database.clone();
    let late = MySqlUrl { user: name.clone(), password: Some("late".to_owned()), ..url };
    let opening = tokio::spawn(async move { Store::open(&StoreUrl::MySql(late)).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!opening.is_finished());
    database.run(&format!("CREATE USER {name} IDENTIFIED BY 'late'; GRANT ALL ON {name}.* TO {name}")).await;
    opening.await.unwrap().unwrap();
    database.run(&format!("DROP USER {name}")).await;
}

#[tokio::test]
async fn a_changed_password_file_is_read_again() {
    let Some(database) = Database::mysql().await else { return };
    let StoreUrl::MySql(url) = database.url() else { unreachable!() };
    let name = url.database.clone();
    database.run(&format!("CREATE USER {name} IDENTIFIED BY 'one'; GRANT ALL ON {name}.* TO {name}")).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "one\n").unwrap();
    let url = MySqlUrl { user: name.clone(), password_file: Some(file.path().to_owned()), ..url };
    let store = Store::open(&StoreUrl::MySql(url)).await.unwrap();
    database.run(&format!("ALTER USER {name} IDENTIFIED BY 'two'")).await;
    std::fs::write(&file, "two\n").unwrap();
    let Store::MySql(mysql) = &store else { unreachable!() };
    mysql.connect_again();
    store.log_state().await.unwrap();
    database.run(&format!("DROP USER {name}")).await;
}

#[tokio::test]
async fn statements_that_hang_in_mysql_do_not_pile_up() {
    let Some(database) = Database::mysql().await else { return };
    let store = database.open().await;
    append(&store, &["a"]).await;
    let next = batch(&store, &["b"]).await;
    let cluster = cluster_of(&store);
    let registration = cluster.register(new_replica("be1", None)).await.unwrap();
    store.claim_index(1).await.unwrap();
    let mut witness = database.connect().await;
    let count = "SELECT CAST(COUNT(*) AS SIGNED) FROM performance_schema.threads WHERE processlist_db = DATABASE()";
    let mut sessions = async || sqlx::query_scalar::<_, i64>(count).fetch_one(&mut witness).await.unwrap();
    let normal = sessions().await;
    let holding = database.holding("LOCK TABLES log_batches READ, log_state READ, leases READ").await;
    for _ in 0..4 {
        let (appended, claimed, renewed) = tokio::join!(
            store.append(&next),
            store.claim_index(1),
            cluster.renew(&registration, ReplicaStatus::default())
        );
        assert!(matches!(appended, Err(AppendError::NotStored(_))), "the append ended with {appended:?}");
        assert!(claimed.is_err() && renewed.is_err());
        assert!(sessions().await < 2 * normal, "MySQL had {} sessions instead of about {normal}", sessions().await);
    }
    drop(holding);
    let appended = async { while store.append(&next).await.is_err() {} };
    tokio::time::timeout(PATIENCE, appended).await.expect("the batch should be appended");
    assert_eq!(ids(&whole_log(&store).await), ["a", "b"]);
}

/// With `performance_schema_show_processlist`, `SHOW PROCESSLIST` returns unsigned ids.
#[tokio::test]
async fn abandoned_statements_that_have_ended_are_forgotten_however_mysql_lists_its_sessions() {
    let Some(database) = Database::mysql().await else { return };
    let cluster = cluster_of(&database.open().await);
    let registration = cluster.register(new_replica("be1", None)).await.unwrap();
    database.run("CREATE TRIGGER slow BEFORE INSERT ON leases FOR EACH ROW DO SLEEP(4)").await;
    for abandoned in 1..=2 {
        tokio::select! {
            _ = cluster.renew(&registration, ReplicaStatus::default()) => panic!("the renewal was not slow"),
            () = database.until_in_state("User sleep", abandoned) => {}
        }
    }
    database.run("SET GLOBAL performance_schema_show_processlist = ON; DROP TRIGGER slow").await;
    let renewed = async { while cluster.renew(&registration, ReplicaStatus::default()).await.is_err() {} };
    let renewed = tokio::time::timeout(PATIENCE, renewed).await;
    database.run("SET GLOBAL performance_schema_show_processlist = OFF").await;
    renewed.expect("the lease should be renewed");
}

#[tokio::test]
async fn tls_is_enforced_as_configured() {
    let Some(database) = Database::mysql().await else { return };
    let StoreUrl::MySql(url) = database.url() else { unreachable!() };
    let open = async |tls, tls_authority: Option<&str>| {
        let tls_authority = tls_authority.map(Into::into);
        Store::open(&StoreUrl::MySql(MySqlUrl { tls, tls_authority, ..url.clone() })).await
    };
    assert!(open(TlsMode::Required, None).await.is_ok());
    let unknown = open(TlsMode::VerifyCa, None).await.err().unwrap().to_string();
    assert!(unknown.contains("certificate"), "the error did not name the certificate: {unknown}");
    let missing = open(TlsMode::VerifyCa, Some("/nowhere.pem")).await.err().unwrap().to_string();
    assert!(missing.contains("cannot read the certificate authority in /nowhere.pem"), "unexpected error: {missing}");
}

#[tokio::test]
async fn several_replicas_trim_and_nothing_young_is_removed() {
    let Some(database) = Database::mysql().await else { return };
    let stores = futures_util::future::join_all((0..4).map(|_| database.open())).await;
    for number in 0..60 {
        append(&stores[0], &[&format!("old-{number}"), &format!("old-{number}-")]).await;
    }
    grow_old(&database, 120).await;
    append(&stores[0], &["young"]).await;
    let trim = async |store: &Store| {
        while store.trim(Duration::from_hours(24), 7).await.unwrap().is_some() {}
    };
    futures_util::future::join_all(stores.iter().map(trim)).await;
    assert_eq!(stores[3].log_state().await.unwrap().trimmed, Offset(120));
    assert_eq!(ids(&whole_log(&stores[1]).await), ["young"]);
}

#[tokio::test]
async fn the_database_clock_decides_what_is_old() {
    let Some(database) = Database::mysql().await else { return };
    let store = database.open().await;
    let Store::MySql(mysql) = &store else { unreachable!() };
    let (day, year) = (Duration::from_hours(24), 365 * 86_400);
    mysql.shift_clock(-year).await;
    append(&store, &["old"]).await;
    append(&store, &["young"]).await;
    grow_old(&database, 1).await;
    assert_eq!(store.trim(day, 9).await.unwrap(), Some((Offset(1), 1)));
    assert_eq!(store.trim(day, 9).await.unwrap(), None);
    mysql.shift_clock(-year + 86_401).await;
    assert_eq!(store.trim(day, 9).await.unwrap(), Some((Offset(2), 1)));
}

#[tokio::test]
async fn one_replica_at_a_time_writes_the_index() {
    let Some(database) = Database::mysql().await else { return };
    let (one, two) = (database.open().await, database.open().await);
    assert!(one.claim_index(1).await.unwrap() && !two.claim_index(2).await.unwrap());
    assert!(one.claim_index(1).await.unwrap(), "the holder lost its claim");
    database.run("UPDATE log_state SET indexer_until = indexer_until - 5001").await;
    assert!(two.claim_index(2).await.unwrap() && !one.claim_index(1).await.unwrap(), "a silent holder kept its claim");
    database.run("UPDATE log_state SET indexer_until = indexer_until + 3600000").await;
    assert!(one.claim_index(1).await.unwrap(), "a claim was valid for an hour after the clock had been set back");
}

#[tokio::test]
async fn a_segment_that_another_replica_has_written_is_not_overwritten() {
    let Some(database) = Database::mysql().await else { return };
    let store = database.open().await;
    let key = BlockKey(1);
    let step = |segment, content| IndexStep {
        segment,
        last: None,
        conversations: Vec::new(),
        blocks: vec![(key, vec![content; 16])],
        superseded: Vec::new(),
    };
    store.write_index(&step(0, 1)).await.unwrap();
    for late in [step(0, 2), step(2, 3)] {
        store.write_index(&late).await.unwrap();
        let (indexed, blocks) = store.read_blocks(&[key]).await.unwrap();
        assert_eq!((indexed, &blocks[&key]), (1, &vec![1; 16]));
    }
}
