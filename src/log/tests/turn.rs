//! Turns to append: the wait for a turn counts as store delay, a turn returns what other replicas have committed, and
//! the turn is released even if nothing is appended.

use std::cell::Cell;
use std::time::Instant;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};

use super::*;

/// Takes the turn of a database and keeps it, like a replica that freezes before its append.
const TAKE: &str = "SELECT GET_LOCK(CONCAT('smilingchat turn ', LEFT(SHA2(DATABASE(), 256), 32)), 1)";

/// Selects 1 if no replica has the turn, else 0.
const IS_FREE: &str =
    "SELECT CAST(IS_FREE_LOCK(CONCAT('smilingchat turn ', LEFT(SHA2(DATABASE(), 256), 32))) AS SIGNED)";

/// Selects how many sessions of this database wait for a turn.
const WAITERS: &str =
    "SELECT COUNT(*) FROM performance_schema.processlist WHERE DB = DATABASE() AND STATE = 'User lock'";

/// In seconds. A replica waits longer than this for a turn that it does not get.
const WAIT: f64 = 0.1;

const SENDERS: usize = 35;

/// Number of smiles from each sender. The queue could hold the smiles of all senders, but after a batch that took
/// longer than [`WAIT`], not all of them are admitted.
const SMILES: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_for_a_turn_counts_as_store_delay_so_smiles_are_shed() {
    let Some(database) = Database::mysql().await else { return };
    let (replica, other) = (Replica::start(database.open().await).await, Replica::start(database.open().await).await);
    let _turn = database.holding(TAKE).await;
    let one = |replica: &Replica, id| [smile(&replica.store, "anna", "bruno", id)];

    // A replica takes turns once one of its appends follows smiles of another replica: here, "mine" follows "theirs".
    assert_eq!(other.send(&one(&other, "theirs")).await, [Answer::Stored(Offset(1))]);
    replica.tail.wait_for(|tail| tail.cursor() == Offset(1)).await;
    assert_eq!(replica.send(&one(&replica, "mine")).await, [Answer::Stored(Offset(2))]);
    let seconds = || replica.metrics.append_seconds.get_sample_sum();
    let before = seconds();
    assert_eq!(replica.send(&one(&replica, "waits")).await, [Answer::Stored(Offset(3))]);
    let delayed = async {
        while seconds() < before + WAIT {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(5), delayed).await.expect("the duration of the append did not include the wait");

    let table = database.holding("LOCK TABLES log_batches READ").await;
    let many_of = |sender: usize| -> Vec<NewSmile> {
        let from = replica.store.users()[sender].name.as_str();
        (0..SMILES).map(|number| smile(&replica.store, from, "viola", &format!("{number}"))).collect()
    };
    let many: Vec<_> = (0..SENDERS).map(many_of).collect();
    // All smiles are sent before the table is released, so before the first batch can proceed.
    let sending = join_all(many.iter().map(|smiles| replica.send(smiles)));
    let (answers, ()) = tokio::join!(sending, async { drop(table) });
    let answers = answers.concat();
    let stored = answers.iter().filter(|answer| **answer != Answer::Refused).count();
    assert!(stored < answers.len(), "no smile was shed");
    assert_eq!(whole_log(&replica.store).await.len(), 3 + stored);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_without_an_append_is_released() {
    let Some(database) = Database::mysql().await else { return };
    let (replica, other) = (Replica::start(database.open().await).await, Replica::start(database.open().await).await);
    let one = |replica: &Replica, id| [smile(&replica.store, "anna", "bruno", id)];
    assert_eq!(other.send(&one(&other, "theirs")).await, [Answer::Stored(Offset(1))]);
    replica.tail.wait_for(|tail| tail.cursor() == Offset(1)).await;
    assert_eq!(replica.send(&one(&replica, "mine")).await, [Answer::Stored(Offset(2))]);
    // This batch has nothing to append.
    assert_eq!(replica.send(&one(&replica, "mine")).await, [Answer::Duplicate(Offset(2))]);
    let asked = Instant::now();
    while database.numbers(IS_FREE).await != [1] {
        assert!(asked.elapsed() < Duration::from_secs(10), "the turn was not released within 10 s");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_turn_returns_what_was_committed_during_the_wait_for_it() {
    let Some(database) = Database::mysql().await else { return };
    let (store, other) = (database.open().await, database.open().await);
    let Store::MySql(mysql) = &store else { unreachable!("the database should be MySQL") };
    let append = async |store: &Store, id: &str| append_all(store, &[smile(store, "anna", "bruno", id)]).await;
    append(&other, "theirs").await;
    append(&store, "mine").await;
    let begun = Instant::now();
    for attempt in 0.. {
        let turn = database.holding(TAKE).await;
        let head = store.log_state().await.unwrap().head;
        let last = store.batch_at(head).await.unwrap().unwrap().key;
        let ended = Cell::new(false);
        let wait = async {
            let missed = mysql.take_turn(Some(last)).await;
            ended.set(true);
            missed
        };
        let commit = async {
            while !ended.get() && database.numbers(WAITERS).await != [1] {}
            append(&other, &format!("{attempt}")).await;
            drop(turn);
        };
        let (missed, ()) = tokio::join!(wait, commit);
        mysql.end_turn().await;
        // On a slow machine, the wait may end before the commit. The store then takes no turns for 1 s.
        if !missed.is_empty() {
            assert_eq!(missed.iter().map(|batch| batch.key.first).collect::<Vec<_>>(), [head.next()]);
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "no turn returned the batch that was committed during the wait for it");
    }
}
