//! Tests of the log with its tail and its index. The tests in this file run on every database.

mod carried_over;
mod ids;
mod index_writes;
mod lost_commits;
mod outage;
mod replica;
mod shared;
mod turn;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::replica::{Answer, Replica};
use super::appender::MAX_INDEX_LAG;
use crate::model::{NewSmile, Offset, Smile};
use crate::store::tests::database::Database;
use crate::store::tests::environment::seed;
use crate::store::tests::{PATIENCE, append_all, grow_old, on_every_database, smile, whole_log};
use crate::store::{SEGMENT, Store, StoreError};

on_every_database! {
    the_index_lags_until_the_indexer_runs,
    streams_are_complete_from_any_offset,
    frames_in_memory_share_no_buffer_with_replayed_frames,
    histories_are_complete_before_any_offset,
    retention_removes_smiles_from_every_read_path,
    indexing_continues_after_retention_overtakes_it,
    retention_ends_the_wait_for_the_index,
    stopping_the_appender_ends_the_wait_for_the_index,
    smiles_from_before_the_start_do_not_count_as_published,
}

fn random() -> StdRng {
    StdRng::seed_from_u64(seed())
}

const USERS: [&str; 5] = ["anna", "bruno", "carla", "dario", "elena"];

fn some_smiles(store: &Store, random: &mut StdRng, count: u64, prefix: &str) -> Vec<NewSmile> {
    let smile = |number| {
        let (from, to) = if random.random_bool(0.4) {
            (0, 1)
        } else {
            let from = random.random_range(0..USERS.len());
            (from, (from + random.random_range(1..USERS.len())) % USERS.len())
        };
        smile(store, USERS[from], USERS[to], &format!("{prefix}{number}"))
    };
    (0..count).map(smile).collect()
}

/// A replica whose log has `count` smiles. All full segments are indexed. Memory holds only the remaining smiles and
/// the batch with the last offset of the last full segment.
async fn indexed(database: &Database, random: &mut StdRng, count: u64) -> Replica {
    let replica = Replica::start(database.open().await).await;
    append_all(&replica.store, &some_smiles(&replica.store, random, count, "c")).await;
    replica.tail.read().await.unwrap();
    replica.until_indexed().await;
    replica.kill().await;
    let replica = Replica::start(database.open().await).await;
    assert_eq!(replica.tail.indexed(), Offset(count / SEGMENT * SEGMENT));
    replica
}

async fn the_index_lags_until_the_indexer_runs(database: &Database) {
    let mut random = random();
    let mut replica = Replica::without_indexer(database.open().await).await;
    let store = replica.store.clone();
    append_all(&store, &some_smiles(&store, &mut random, 2 * SEGMENT + 100, "c")).await;
    replica.tail.read().await.unwrap();
    assert_eq!((replica.tail.index_lag(), store.indexed().await.unwrap()), (2 * SEGMENT + 100, 0));
    replica.start_indexer();
    replica.until_indexed().await;
    assert_eq!((replica.tail.index_lag(), store.indexed().await.unwrap()), (100, 2));
}

fn of_user(log: &[Smile], user: &str) -> Vec<Smile> {
    log.iter().filter(|smile| smile.from.as_str() == user || smile.to.as_str() == user).cloned().collect()
}

async fn streams_are_complete_from_any_offset(database: &Database) {
    let mut random = random();
    let replica = indexed(database, &mut random, 2 * SEGMENT + 700).await;
    let log = whole_log(&replica.store).await;
    let borders = [0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT - 1, 2 * SEGMENT, 2 * SEGMENT + 1];
    let anywhere: Vec<u64> = (0..12).map(|_| random.random_range(0..=log.len() as u64)).collect();
    for after in borders.into_iter().chain(anywhere) {
        for user in ["anna", "elena", "zoe"] {
            let page = random.random_range(1..400);
            let expected: Vec<_> = of_user(&log, user).into_iter().filter(|smile| smile.offset.0 > after).collect();
            let read = replica.stream(user, Offset(after), page).await.unwrap();
            assert_eq!(read, expected, "the stream of {user} after {after}, {page} at a time, was wrong");
        }
    }
    let until = Offset(SEGMENT + 5);
    let page = replica.index.stream(replica.user("anna"), Offset(SEGMENT), until, 9).await.unwrap();
    assert!(page.through == until && page.smiles.iter().all(|found| found.smile.offset <= until));
    // Nobody sends smiles to zoe. Her stream is read before a client's patience ends, however long the log is.
    let page = replica.index.stream(replica.user("zoe"), Offset(1), Offset(2 * SEGMENT), 9).await.unwrap();
    assert_eq!((page.through, page.smiles.len()), (Offset(2 * SEGMENT), 0), "segments without smiles took more pages");
}

/// A frame keeps its whole buffer allocated, and the frames of smiles in memory stay there.
async fn frames_in_memory_share_no_buffer_with_replayed_frames(database: &Database) {
    let replica = indexed(database, &mut random(), SEGMENT + 100).await;
    let (anna, end) = (replica.user("anna"), replica.tail.cursor());
    let kept: Vec<_> = replica.tail.recent.lock().range(Offset(end.0 - 40), end).unwrap().cloned().collect();
    let mut buffers = BTreeSet::new();
    for live in &kept {
        let replayed = replica.index.stream(anna, Offset(0), end, 200).await.unwrap();
        assert_eq!(replayed.smiles.iter().filter(|publication| !publication.frame().is_empty()).count(), 200);
        buffers.insert(live.frame().as_ptr().addr() / (16 * 1024));
    }
    // 40 frames fill less than one buffer, but may begin near the end of another. Both may cross a multiple of 16 KiB.
    assert!(buffers.len() <= 4, "40 frames in memory keep {} buffers of 16 KiB", buffers.len());
}

async fn histories_are_complete_before_any_offset(database: &Database) {
    let mut random = random();
    // Most of the newest segment is in memory, where a history searches it in several pieces.
    let replica = indexed(database, &mut random, 3 * SEGMENT - 100).await;
    let log = whole_log(&replica.store).await;
    let borders = [1, 2, SEGMENT, SEGMENT + 1, SEGMENT + 2, 2 * SEGMENT, 2 * SEGMENT + 1, 2 * SEGMENT + 2];
    let anywhere: Vec<u64> = (0..12).map(|_| random.random_range(1..=log.len() as u64)).collect();
    for before in borders.into_iter().chain(anywhere).map(Some).chain([None]) {
        for (one, other) in [("anna", "bruno"), ("elena", "dario"), ("anna", "zoe")] {
            let page = random.random_range(1..=200);
            let below = |smile: &Smile| before.is_none_or(|before| smile.offset.0 < before);
            let expected: Vec<_> = of_user(&of_user(&log, one), other).into_iter().filter(below).collect();
            let read = replica.history((one, other), before.map(Offset), page).await;
            assert_eq!(read, expected, "{one} and {other}'s history before {before:?}, {page} at a time, was wrong");
        }
    }
}

async fn retention_removes_smiles_from_every_read_path(database: &Database) {
    let mut random = random();
    let replica = indexed(database, &mut random, 2 * SEGMENT + 700).await;
    let log = whole_log(&replica.store).await;
    grow_old(database, 6000).await;
    let mut trimmed = Offset(0);
    while let Some((through, _)) = replica.store.trim(Duration::from_hours(24), 3).await.unwrap() {
        trimmed = through;
        replica.tail.trim(trimmed);
        crate::index::forget(&replica.store, trimmed).await.unwrap();
    }
    assert!(
        trimmed > Offset(SEGMENT) && trimmed < Offset(2 * SEGMENT),
        "retention did not stop within the second segment: {trimmed}"
    );
    let first = log.iter().find(|smile| smile.from.as_str() == "anna").unwrap();
    let again = smile(&replica.store, "anna", "bruno", first.id.as_str());
    let check = async |replica: &Replica| {
        for after in [Offset(0), Offset(SEGMENT), Offset(trimmed.0 - 1)] {
            let stream = replica.stream("anna", after, 200).await;
            assert!(matches!(stream, Err(StoreError::Trimmed)), "the stream after {after} was not refused: {stream:?}");
        }
        let young: Vec<_> = of_user(&log, "anna").into_iter().filter(|smile| smile.offset > trimmed).collect();
        let head = Offset(log.len() as u64);
        let mut stream = replica.stream("anna", trimmed, 200).await.unwrap();
        stream.retain(|smile| smile.offset <= head);
        assert_eq!(stream, young);
        let mut history = replica.history(("anna", "bruno"), None, 200).await;
        history.retain(|smile| smile.offset <= head);
        assert_eq!(history, of_user(&young, "bruno"));
    };
    check(&replica).await;
    assert_eq!(
        replica.send(std::slice::from_ref(&again)).await,
        [Answer::Stored(Offset(2 * SEGMENT + 701))],
        "the removed smile still counted as stored"
    );
    replica.kill().await;
    let replica = Replica::start(database.open().await).await;
    check(&replica).await;
    assert_eq!(replica.send(&[again]).await, [Answer::Duplicate(Offset(2 * SEGMENT + 701))]);
}

async fn indexing_continues_after_retention_overtakes_it(database: &Database) {
    let mut random = random();
    let store = database.open().await;
    append_all(&store, &some_smiles(&store, &mut random, 3 * SEGMENT, "c")).await;
    grow_old(database, 8999).await;
    let (trimmed, _) = store.trim(Duration::from_hours(24), 99).await.unwrap().unwrap();
    assert!(trimmed > Offset(2 * SEGMENT), "retention did not trim past the second segment: {trimmed}");
    let replica = Replica::start(store).await;
    replica.until_indexed().await;
    let log = whole_log(&replica.store).await;
    assert_eq!(replica.stream("anna", trimmed, 200).await.unwrap(), of_user(&log, "anna"));
}

async fn retention_ends_the_wait_for_the_index(database: &Database) {
    let mut random = random();
    let replica = Replica::without_indexer(database.open().await).await;
    append_all(&replica.store, &some_smiles(&replica.store, &mut random, 100, "c")).await;
    let head = replica.tail.read().await.unwrap();
    // The appender waits in the same way, until the lag is below `MAX_INDEX_LAG`.
    let mut wait = std::pin::pin!(replica.tail.wait_for(|tail| tail.index_lag() == 0));
    assert!(futures_util::poll!(&mut wait).is_pending(), "the index was not behind");
    replica.tail.trim(head);
    tokio::time::timeout(PATIENCE, wait).await.expect("the wait should end");
}

async fn stopping_the_appender_ends_the_wait_for_the_index(database: &Database) {
    let mut replica = Replica::without_indexer(database.open().await).await;
    let store = replica.store.clone();
    append_all(&store, &some_smiles(&store, &mut random(), MAX_INDEX_LAG, "c")).await;
    replica.tail.read().await.unwrap();
    let last = [smile(&store, "anna", "bruno", "last")];
    let (answers, ()) = tokio::join!(replica.send(&last), async { replica.stop.cancel() });
    tokio::time::timeout(PATIENCE, replica.ended()).await.expect("the appender should end").unwrap();
    assert_eq!(answers, [Answer::Stored(Offset(MAX_INDEX_LAG + 1))]);
}

async fn smiles_from_before_the_start_do_not_count_as_published(database: &Database) {
    let mut random = random();
    let store = database.open().await;
    append_all(&store, &some_smiles(&store, &mut random, 100, "before")).await;
    let replica = Replica::start(store).await;
    assert_eq!((replica.tail.cursor(), replica.metrics.smiles_published.get()), (Offset(100), 0));
    append_all(&replica.store, &some_smiles(&replica.store, &mut random, 10, "after")).await;
    replica.tail.read().await.unwrap();
    assert_eq!(replica.metrics.smiles_published.get(), 10);
}
