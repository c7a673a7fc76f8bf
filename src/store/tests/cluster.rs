//! The replicas that share a MySQL store, their leases, and crash requests.

use super::carry_over::fill_previous_version;
use super::database::Database;
use super::*;
use crate::protocol::CrashMode;

pub(super) fn cluster_of(store: &Store) -> Arc<MySql> {
    match store {
        Store::MySql(shared) => Arc::clone(shared),
        Store::Sqlite(_) => panic!("this is for MySQL"),
    }
}

pub(super) fn new_replica(name: &str, node: Option<&str>) -> NewReplica {
    let (name, node) = (name.to_owned(), node.map(str::to_owned));
    NewReplica { name, host: "here".to_owned(), node, capacity: 100, obeys: true }
}

async fn run(database: &Database, statements: &'static str) {
    sqlx::raw_sql(statements).execute(&mut database.connect().await).await.unwrap();
}

/// A cluster on a database of its own, and freshly registered replicas with these names.
async fn cluster<const COUNT: usize>(database: &Database, names: [&str; COUNT]) -> (Arc<MySql>, [Registration; COUNT]) {
    let cluster = cluster_of(&database.open().await);
    let mut registrations = Vec::new();
    for name in names {
        registrations.push(cluster.register(new_replica(name, None)).await.unwrap());
    }
    (cluster, registrations.try_into().unwrap())
}

async fn states(cluster: &MySql) -> Vec<(String, ReplicaState)> {
    cluster.replicas().await.unwrap().into_iter().map(|replica| (replica.id, replica.state)).collect()
}

#[tokio::test]
async fn a_replica_has_an_id_of_its_own_and_a_lease() {
    let Some(database) = Database::mysql().await else { return };
    let (cluster, [first]) = cluster(&database, ["be1"]).await;
    cluster.unregister(&first).await.unwrap();
    let second = cluster.register(new_replica("be1", None)).await.unwrap();
    assert_eq!((first.id(), second.id()), ("be1.1".to_owned(), "be1.2".to_owned()), "numbers are never reused");

    let third = cluster.register(new_replica("be1", None)).await.unwrap();
    let status =
        ReplicaStatus { sessions: 7, smiles_per_second: 4.5, draining: true, following: Some(Following::Polling) };
    cluster.renew(&third, status).await.unwrap();
    let replicas = cluster.replicas().await.unwrap();
    assert_eq!((replicas[0].id.as_str(), replicas[0].state), ("be1.2", ReplicaState::Ready), "the first one is first");
    assert_eq!((replicas[1].id.as_str(), replicas[1].state), ("be1.3", ReplicaState::Draining));
    assert_eq!((replicas[1].status.sessions, replicas[1].status.following), (7, Some(Following::Polling)));
}

#[tokio::test]
async fn numbers_continue_after_an_upgrade() {
    let Some(database) = Database::mysql().await else { return };
    fill_previous_version(&database, 0, 1).await;
    run(
        &database,
        "INSERT INTO replicas (number, name, host, version, capacity, started_at, renewed_at)
             VALUES (16, 'be1', 'here', '0', 100, 0, 0);
         DELETE FROM replicas",
    )
    .await;
    let (_, [next]) = cluster(&database, ["be1"]).await;
    assert_eq!(next.id(), "be1.17");
}

#[tokio::test]
async fn a_removed_replica_that_renews_is_restored_unchanged() {
    let Some(database) = Database::mysql().await else { return };
    let cluster = cluster_of(&database.open().await);
    let told = cluster.register(new_replica("be1", Some("worker1"))).await.unwrap();
    let untold = cluster.register(NewReplica { obeys: false, ..new_replica("be2", None) }).await.unwrap();
    let before = cluster.replicas().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for registration in [&told, &untold] {
        cluster.unregister(registration).await.unwrap();
    }
    assert_eq!(states(&cluster).await, []);
    for registration in [&told, &untold] {
        cluster.renew(registration, ReplicaStatus::default()).await.unwrap();
    }
    let after = cluster.replicas().await.unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.id, &before.replica), (&after.id, &after.replica));
        assert!(after.uptime_ms >= 300, "it was not restarted: {after:?}");
    }
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn a_lease_expires_by_the_database_clock() {
    let Some(database) = Database::mysql().await else { return };
    let (here, [alive, silent, gone]) = cluster(&database, ["alive", "silent", "gone"]).await;
    let there = cluster_of(&database.open().await);
    here.renew(&silent, ReplicaStatus { sessions: 7, ..ReplicaStatus::default() }).await.unwrap();
    run(
        &database,
        "UPDATE leases SET started_at = started_at - INTERVAL 1 HOUR;
         UPDATE leases SET renewed_at = renewed_at - INTERVAL 5001000 MICROSECOND WHERE name = 'silent';
         UPDATE leases SET renewed_at = renewed_at - INTERVAL 601 SECOND WHERE name = 'gone'",
    )
    .await;
    there.renew(&alive, ReplicaStatus::default()).await.unwrap();
    there.forget_lost().await.unwrap();
    assert_eq!(states(&there).await, [(alive.id(), ReplicaState::Ready), (silent.id(), ReplicaState::Lost)]);
    let silent = there.replicas().await.unwrap().pop().unwrap();
    assert_eq!(silent.status.sessions, 0, "a lost replica holds no sessions");
    assert!((5001..60_000).contains(&silent.heartbeat_age_ms), "{silent:?}");
    assert!((3_600_000..3_660_000).contains(&silent.uptime_ms), "{silent:?}");
    here.renew(&gone, ReplicaStatus::default()).await.unwrap();
    assert_eq!(there.replicas().await.unwrap().len(), 3, "a renewal restores it");
}

#[tokio::test]
async fn crash_requests_go_to_the_longest_running_replica_first_and_never_twice() {
    let Some(database) = Database::mysql().await else { return };
    let (cluster, [leaving, silent, one, two]) = cluster(&database, ["leaving", "silent", "one", "two"]).await;
    cluster.register(NewReplica { obeys: false, ..new_replica("spared", None) }).await.unwrap();
    cluster.renew(&leaving, ReplicaStatus { draining: true, ..ReplicaStatus::default() }).await.unwrap();
    run(&database, "UPDATE leases SET renewed_at = renewed_at - INTERVAL 2501000 MICROSECOND WHERE name = 'silent'")
        .await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(cluster.request_crash(None, CrashMode::Hang).await.unwrap());
    }
    assert_eq!(asked, [Some(one.id()), Some(two.id()), None]);
    let crashes: Vec<_> = cluster.replicas().await.unwrap().into_iter().map(|replica| replica.crash).collect();
    assert_eq!(crashes, [None, None, Some(CrashMode::Hang), Some(CrashMode::Hang), None]);
    cluster.renew(&one, ReplicaStatus::default()).await.unwrap();
    assert_eq!(
        cluster.request_crash(None, CrashMode::Exit).await.unwrap(),
        None,
        "a renewal does not revoke a request"
    );
    cluster.renew(&silent, ReplicaStatus::default()).await.unwrap();
    assert_eq!(
        cluster.request_crash(None, CrashMode::Exit).await.unwrap(),
        Some(silent.id()),
        "it has renewed its lease"
    );
}

#[tokio::test]
async fn a_named_replica_crashes_unless_it_is_lost_or_refuses() {
    let Some(database) = Database::mysql().await else { return };
    let (cluster, [lost, one]) = cluster(&database, ["lost", "one"]).await;
    let spared = cluster.register(NewReplica { obeys: false, ..new_replica("spared", None) }).await.unwrap();
    run(&database, "UPDATE leases SET renewed_at = renewed_at - INTERVAL 5001000 MICROSECOND WHERE name = 'lost'")
        .await;
    cluster.renew(&one, ReplicaStatus { draining: true, ..ReplicaStatus::default() }).await.unwrap();
    for mode in [CrashMode::Unready, CrashMode::Hang] {
        assert_eq!(cluster.request_crash(Some(&one.id()), mode).await.unwrap(), Some(one.id()));
        let replicas = cluster.replicas().await.unwrap();
        assert_eq!(replicas.iter().find(|replica| replica.id == one.id()).unwrap().crash, Some(mode));
    }
    for nobody in [lost.id(), spared.id(), "one".to_owned(), "one.1".to_owned(), "2".to_owned(), "😀.2".to_owned()] {
        assert_eq!(cluster.request_crash(Some(&nobody), CrashMode::Exit).await.unwrap(), None, "{nobody}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_crash_requests_hit_different_replicas() {
    let Some(database) = Database::mysql().await else { return };
    for _ in 0..5 {
        let (cluster, registrations) = cluster(&database, ["a", "b", "c", "d", "e", "f", "g", "h"]).await;
        let stores = futures_util::future::join_all((0..8).map(|_| database.open())).await;
        let clusters: Vec<_> = stores.iter().map(cluster_of).collect();
        let requests = clusters.iter().map(|cluster| cluster.request_crash(None, CrashMode::Exit));
        let asked = futures_util::future::join_all(requests).await;
        let asked: BTreeSet<_> = asked.into_iter().map(|asked| asked.unwrap().unwrap()).collect();
        assert_eq!(asked, registrations.iter().map(Registration::id).collect());
        assert_eq!(cluster.request_crash(None, CrashMode::Exit).await.unwrap(), None);
    }
}
