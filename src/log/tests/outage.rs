//! Faults of MySQL and of the network to it: smiles in flight, stale reads, and an index that cannot be written.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::log::appender::MAX_INDEX_LAG;
use crate::store::tests::environment::script;
use crate::store::tests::mysql::outage::{open, until_the_head_is, way_to};
use crate::store::tests::mysql::proxy::Network;

/// The folder of a MySQL server that one test starts and kills.
const MYSQL_TO_KILL: &str = "target/mysql-to-kill";

fn one(replica: &Replica, id: &str) -> [NewSmile; 1] {
    [smile(&replica.store, "anna", "bruno", id)]
}

/// Stores one smile and waits for MySQL's answer. The replica may publish the smile from the binary log before that
/// answer, and a fault at that moment would hit this smile instead of the next one.
async fn store_one(replica: &Replica, id: &str, offset: u64) {
    assert_eq!(replica.send(&one(replica, id)).await, [Answer::Stored(Offset(offset))]);
    let answered = async {
        while replica.metrics.smiles_stored.get() < offset {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), answered).await.expect("MySQL should answer");
}

#[tokio::test]
async fn a_smile_whose_commit_gets_no_answer_is_not_reported_as_a_duplicate() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let (replica, other) = (Replica::start(open(&url).await).await, Replica::start(database.open().await).await);
    for (before, id, offset) in [("before-a", "a", 2), ("before-b", "b", 4)] {
        // Ensures that the connection is open before the fault.
        replica.until_smiles_are_accepted().await;
        store_one(&replica, before, offset - 1).await;
        proxy.becomes(Network::NoAnswers);
        let smiles = one(&replica, id);
        let sending = replica.send(&smiles);
        let fault = async {
            until_the_head_is(&other.store, Offset(offset)).await;
            proxy.becomes(Network::Cut);
            sleep(Duration::from_millis(100)).await;
            proxy.becomes(Network::Open);
        };
        assert_eq!(tokio::join!(sending, fault).0, [Answer::Stored(Offset(offset))]);
        other.tail.read().await.unwrap();
        assert_eq!(other.send(&one(&other, id)).await, [Answer::Duplicate(Offset(offset))]);
    }
}

#[tokio::test]
async fn a_batch_in_doubt_that_loses_its_offset_is_appended_at_the_end() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let (replica, other) = (Replica::start(open(&url).await).await, Replica::start(database.open().await).await);
    store_one(&replica, "before", 1).await;
    proxy.becomes(Network::Silent);
    let smiles = [one(&replica, "mine"), one(&replica, "both")].concat();
    let sending = replica.send(&smiles);
    let taken = async {
        // The other replica takes the offset and stores one of the ids.
        other.tail.wait_for(|tail| tail.cursor() == Offset(1)).await;
        let theirs = [smile(&other.store, "carla", "zoe", "theirs"), smile(&other.store, "anna", "bruno", "both")];
        let answers = other.send(&theirs).await;
        proxy.becomes(Network::Open);
        answers
    };
    let (mine, theirs) = tokio::join!(sending, taken);
    let mut all: Vec<_> = theirs.iter().chain(&mine).map(|answer| answer.offset()).collect();
    let log = whole_log(&other.store).await;
    let ids: Vec<_> = log.iter().map(|smile| (smile.id.as_str(), smile.offset.0)).collect();
    assert_eq!(ids, [("before", 1), ("theirs", 2), ("both", 3), ("mine", 4)]);
    all.sort();
    assert_eq!(all, [Offset(2), Offset(3), Offset(3), Offset(4)], "the answers did not match the offsets in the log");
}

#[tokio::test]
async fn a_commit_that_the_binary_log_delivers_first_is_published_once() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let replica = Replica::start(open(&url).await).await;
    let tail = Arc::clone(&replica.tail);
    store_one(&replica, "before", 1).await;
    proxy.becomes(Network::NoAnswers);
    let smiles = one(&replica, "a");
    let sending = replica.send(&smiles);
    let publish = async {
        let other = database.open().await;
        until_the_head_is(&other, Offset(2)).await;
        let batch = other.batch_at(Offset(2)).await.unwrap().unwrap();
        tail.publish_stored(batch).unwrap();
        proxy.becomes(Network::Open);
    };
    assert_eq!(tokio::join!(sending, publish).0, [Answer::Stored(Offset(2))]);
    replica.until_smiles_are_accepted().await;
    assert_eq!(replica.send(&one(&replica, "b")).await, [Answer::Stored(Offset(3))]);
    assert_eq!((replica.metrics.smiles_published.get(), whole_log(&replica.store).await.len()), (3, 3));
}

#[tokio::test]
async fn a_smile_sent_during_a_cut_is_either_stored_or_refused() {
    let Some(database) = Database::mysql().await else { return };
    let (proxy, url) = way_to(&database).await;
    let replica = Replica::start(open(&url).await).await;
    store_one(&replica, "a", 1).await;
    proxy.becomes(Network::Cut);
    let smiles = one(&replica, "b");
    let lost = replica.send(&smiles);
    // A batch that was sent over the cut connection is in doubt. Its answer comes only once the network is open again.
    let back = async {
        sleep(Duration::from_millis(1500)).await;
        proxy.becomes(Network::Open);
    };
    let answers = tokio::join!(lost, back).0;
    let stored = whole_log(&replica.store).await.iter().any(|smile| smile.id.as_str() == "b");
    assert_eq!(stored, answers[0] != Answer::Refused);
}

#[tokio::test]
async fn a_stale_read_does_not_stop_the_replica() {
    let Some(database) = Database::mysql().await else { return };
    let store = database.open().await;
    let mut replica = Replica::start(store.clone()).await;
    store_one(&replica, "a", 1).await;
    replica.tail.read().await.unwrap();
    let Store::MySql(mysql) = &store else { unreachable!() };
    mysql.freeze_the_follower().await;
    store_one(&replica, "b", 2).await;
    assert_eq!(replica.tail.read().await.unwrap(), Offset(1), "the frozen follower saw the second smile");
    // The wait is longer than `SHORT_TIMEOUT`.
    let ended = timeout(Duration::from_secs(7), replica.ended()).await;
    assert!(ended.is_err(), "a task of the replica ended: {ended:?}");
    assert_eq!(replica.tail.read().await.unwrap(), Offset(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_index_is_stalled_every_smile_is_stored_or_shed() {
    let Some(database) = Database::mysql().await else { return };
    let replica = Replica::start(database.open().await).await;
    store_one(&replica, "before", 1).await;
    let holding = database.holding("LOCK TABLES index_conversations READ").await;
    let users = ["anna", "bruno", "carla", "dario", "elena", "fabio", "gaia", "hugo", "irene", "jonas"];
    let mut answers = Vec::new();
    for round in 0_u32.. {
        let from = |number: usize| (users[number % 10], users[(number + 1) % 10], format!("{round}-{number}"));
        let smiles: Vec<_> = (0..200).map(from).map(|(from, to, id)| smile(&replica.store, from, to, &id)).collect();
        // `send` fails if a smile gets no answer.
        answers.extend(replica.send(&smiles).await);
        if answers.last() == Some(&Answer::Refused) && replica.tail.index_lag() >= MAX_INDEX_LAG {
            break;
        }
        assert!(
            answers.len() < 100_000,
            "the last smile was not shed, or the index was only {} smiles behind",
            replica.tail.index_lag()
        );
    }
    assert!(
        replica.tail.index_lag() < MAX_INDEX_LAG + 1_000,
        "the index was {} smiles behind",
        replica.tail.index_lag()
    );
    drop(holding);
    replica.until_indexed().await;
    replica.until_smiles_are_accepted().await;
    let stored = answers.iter().filter(|answer| **answer != Answer::Refused).count();
    store_one(&replica, "after", stored as u64 + 2).await;
}

/// Returns the offsets of the stored smiles by id.
async fn send_until(stop: CancellationToken, replica: Replica, writer: usize) -> BTreeMap<String, Offset> {
    let mut stored = BTreeMap::new();
    for batch in 0_u32.. {
        if stop.is_cancelled() {
            break;
        }
        let ids: Vec<_> = (0..10).map(|number| format!("{writer}-{batch}-{number}")).collect();
        let smiles: Vec<_> = ids.iter().map(|id| smile(&replica.store, "anna", "bruno", id)).collect();
        for (id, answer) in ids.into_iter().zip(replica.send(&smiles).await) {
            match answer {
                Answer::Stored(offset) => drop(stored.insert(id, offset)),
                Answer::Refused => sleep(Duration::from_millis(5)).await,
                Answer::Duplicate(_) => panic!("{id} was sent once, but counted as a duplicate"),
            }
        }
    }
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_mysql_loses_no_acked_smile_and_stores_no_refused_one() {
    if Database::mysql().await.is_none() {
        return;
    }
    let database = Database::mysql_at(&script("start", MYSQL_TO_KILL).await).await;
    let stop = CancellationToken::new();
    let mut writers = Vec::new();
    for writer in 0..3 {
        let replica = Replica::start(database.open().await).await;
        writers.push(tokio::spawn(send_until(stop.clone(), replica, writer)));
    }
    let store = database.open().await;
    let head = async || store.log_state().await.map_or(Offset(0), |state| state.head);
    let flows = async || {
        let before = head().await;
        let more = async {
            while head().await < Offset(before.0.max(1) + 300) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(30), more).await.expect("the log should grow");
    };
    for end in ["kill", "stop", "kill"] {
        flows().await;
        script(end, MYSQL_TO_KILL).await;
        script("start", MYSQL_TO_KILL).await;
    }
    flows().await;
    stop.cancel();
    let mut acked = BTreeMap::new();
    for writer in writers {
        acked.extend(writer.await.unwrap());
    }
    let log = whole_log(&store).await;
    let log: BTreeMap<_, _> = log.into_iter().map(|smile| (smile.id.as_str().to_owned(), smile.offset)).collect();
    assert_eq!(log, acked);
    drop(database);
    script("stop", MYSQL_TO_KILL).await;
}
