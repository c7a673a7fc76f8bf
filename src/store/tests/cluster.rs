//! The replicas that share a MySQL store, their leases, and crash requests.

use strum::VariantArray;

use super::carry_over::fill_previous_version;
use super::database::Database;
use super::*;
use crate::protocol::CrashMode;

pub(super) fn cluster_of(store: &Store) -> Arc<MySql> {
    match store {
        Store::MySql(mysql) => Arc::clone(mysql),
        Store::Sqlite(_) => panic!("only MySQL has a cluster"),
    }
}

pub(super) fn new_replica(name: &str, node: Option<&str>) -> ReplicaInfo {
    let (name, node) = (name.to_owned(), node.map(str::to_owned));
    ReplicaInfo { name, host: "here".to_owned(), node, capacity: 100, obeys: true }
}

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
    assert_eq!((first.id(), second.id()), ("be1.1".to_owned(), "be1.2".to_owned()));

    let third = cluster.register(new_replica("be1", None)).await.unwrap();
    let status = ReplicaStatus {
        sessions: 7,
        smiles_per_second: 4.5,
        draining: true,
        behind: true,
        following: Some(Following::Polling),
    };
    cluster.renew(&third, status).await.unwrap();
    let replicas = cluster.replicas().await.unwrap();
    assert_eq!((replicas[0].id.as_str(), replicas[0].state), ("be1.2", ReplicaState::Ready));
    assert_eq!((replicas[1].id.as_str(), replicas[1].state), ("be1.3", ReplicaState::Draining));
    assert_eq!(replicas[1].status, status);
}

#[tokio::test]
async fn numbers_continue_after_an_upgrade() {
    let Some(database) = Database::mysql().await else { return };
    fill_previous_version(&database, 0, 1).await;
    database
        .run(
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
    let obeying = cluster.register(new_replica("be1", Some("worker1"))).await.unwrap();
    let refusing = cluster.register(ReplicaInfo { obeys: false, ..new_replica("be2", None) }).await.unwrap();
    let before = cluster.replicas().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    for registration in [&obeying, &refusing] {
        cluster.unregister(registration).await.unwrap();
    }
    assert_eq!(states(&cluster).await, []);
    for registration in [&obeying, &refusing] {
        cluster.renew(registration, ReplicaStatus::default()).await.unwrap();
    }
    let after = cluster.replicas().await.unwrap();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((&before.id, &before.info), (&after.id, &after.info));
        assert!(after.uptime_ms >= 300, "the uptime restarted: {after:?}");
    }
    assert_eq!(after.len(), 2);
}

#[tokio::test]
async fn a_lease_expires_by_the_database_clock() {
    let Some(database) = Database::mysql().await else { return };
    let (here, [alive, silent, gone]) = cluster(&database, ["alive", "silent", "gone"]).await;
    let there = cluster_of(&database.open().await);
    here.renew(&silent, ReplicaStatus { sessions: 7, ..ReplicaStatus::default() }).await.unwrap();
    database
        .run(
            "UPDATE leases SET started_at = started_at - INTERVAL 1 HOUR;
         UPDATE leases SET renewed_at = renewed_at - INTERVAL 5001000 MICROSECOND WHERE name = 'silent';
         UPDATE leases SET renewed_at = renewed_at - INTERVAL 601 SECOND WHERE name = 'gone'",
        )
        .await;
    there.renew(&alive, ReplicaStatus::default()).await.unwrap();
    there.forget_lost().await.unwrap();
    assert_eq!(states(&there).await, [(alive.id(), ReplicaState::Ready), (silent.id(), ReplicaState::Lost)]);
    let silent = there.replicas().await.unwrap().pop().unwrap();
    assert_eq!(silent.status.sessions, 0);
    assert!((5001..60_000).contains(&silent.heartbeat_age_ms), "the age of the heartbeat was wrong: {silent:?}");
    assert!((3_600_000..3_660_000).contains(&silent.uptime_ms), "the uptime was wrong: {silent:?}");
    here.renew(&gone, ReplicaStatus::default()).await.unwrap();
    assert_eq!(there.replicas().await.unwrap().len(), 3, "the renewal did not restore the replica");
}

#[tokio::test]
async fn a_replica_that_renewed_before_the_clock_was_set_back_is_lost() {
    let Some(database) = Database::mysql().await else { return };
    let (cluster, [lost, _forgotten]) = cluster(&database, ["lost", "forgotten"]).await;
    database
        .run(
            "UPDATE leases SET renewed_at = renewed_at + INTERVAL 9 MINUTE WHERE name = 'lost';
         UPDATE leases SET renewed_at = renewed_at + INTERVAL 1 HOUR WHERE name = 'forgotten'",
        )
        .await;
    cluster.forget_lost().await.unwrap();
    assert_eq!(states(&cluster).await, [(lost.id(), ReplicaState::Lost)]);
    assert_eq!(cluster.request_crash(None, CrashMode::Exit).await.unwrap(), None);
}

async fn all_that_can_crash(cluster: &MySql, mode: CrashMode) -> Vec<String> {
    let mut asked = Vec::new();
    while let Some(id) = cluster.request_crash(None, mode).await.unwrap() {
        asked.push(id);
    }
    asked
}

#[tokio::test]
async fn each_request_without_a_name_hits_the_longest_running_replica_that_is_ready_and_has_no_request() {
    for mode in CrashMode::VARIANTS.iter().copied() {
        let Some(database) = Database::mysql().await else { return };
        let names = ["leaving", "behind", "silent", "lost", "asked", "one", "two"];
        let (cluster, registrations) = cluster(&database, names).await;
        let [leaving, behind, silent, lost, asked, one, two] = &registrations;
        cluster.register(ReplicaInfo { obeys: false, ..new_replica("spared", None) }).await.unwrap();
        cluster.renew(leaving, ReplicaStatus { draining: true, ..ReplicaStatus::default() }).await.unwrap();
        cluster.renew(behind, ReplicaStatus { behind: true, ..ReplicaStatus::default() }).await.unwrap();
        cluster.request_crash(Some(&asked.id()), CrashMode::Hang).await.unwrap();
        let ages = "UPDATE leases SET renewed_at = renewed_at - INTERVAL 2501000 MICROSECOND WHERE name = 'silent';
            UPDATE leases SET renewed_at = renewed_at - INTERVAL 5001000 MICROSECOND WHERE name = 'lost'";
        database.run(ages).await;
        assert_eq!(all_that_can_crash(&cluster, mode).await, [one.id(), two.id()], "{mode:?} hit the wrong replicas");
        let crashes: Vec<_> = cluster.replicas().await.unwrap().into_iter().map(|replica| replica.crash).collect();
        let (mode, hang) = (Some(mode), Some(CrashMode::Hang));
        assert_eq!(crashes, [None, None, None, None, hang, mode, mode, None]);
        // A renewal does not revoke a request, and makes the other obeying replicas candidates for a crash.
        for registration in &registrations {
            cluster.renew(registration, ReplicaStatus::default()).await.unwrap();
        }
        let rest = [leaving, behind, silent, lost].map(Registration::id);
        assert_eq!(all_that_can_crash(&cluster, mode.unwrap()).await, rest, "{mode:?} hit the wrong replicas");
    }
}

#[tokio::test]
async fn a_request_hits_the_named_replica_unless_the_replica_is_lost_or_refuses() {
    let Some(database) = Database::mysql().await else { return };
    let (cluster, [lost, one]) = cluster(&database, ["lost", "one"]).await;
    let spared = cluster.register(ReplicaInfo { obeys: false, ..new_replica("spared", None) }).await.unwrap();
    database.run("UPDATE leases SET renewed_at = renewed_at - INTERVAL 5001000 MICROSECOND WHERE name = 'lost'").await;
    cluster.renew(&one, ReplicaStatus { draining: true, behind: true, ..ReplicaStatus::default() }).await.unwrap();
    for mode in [CrashMode::Unready, CrashMode::Hang] {
        assert_eq!(cluster.request_crash(Some(&one.id()), mode).await.unwrap(), Some(one.id()));
        let replicas = cluster.replicas().await.unwrap();
        assert_eq!(replicas.iter().find(|replica| replica.id == one.id()).unwrap().crash, Some(mode));
    }
    for unknown in [lost.id(), spared.id(), "one".to_owned(), "one.1".to_owned(), "2".to_owned(), "😀.2".to_owned()] {
        assert_eq!(
            cluster.request_crash(Some(&unknown), CrashMode::Exit).await.unwrap(),
            None,
            "a crash of {unknown} was requested"
        );
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
