//! Several replicas that append to one log.

use std::collections::{BTreeMap, HashSet};

use super::*;

/// Sender and id.
type Key = (String, String);

fn key(from: &str, id: &str) -> Key {
    (from.to_owned(), id.to_owned())
}

/// Sends smiles through one replica: some that only this replica gets, and some that every replica gets.
async fn work(replica: Replica, place: usize, rounds: usize) -> (Replica, Vec<(Key, Answer)>) {
    let sender = ["anna", "bruno", "carla", "dario"][place];
    let mut acked = Vec::new();
    for round in 0..rounds {
        let own = (0..20).map(|number| (sender, format!("{round}-{number}")));
        let shared = (0..5).map(|number| ("elena", format!("shared-{round}-{number}")));
        let smiles: Vec<_> = own.chain(shared).map(|(from, id)| smile(&replica.store, from, "zoe", &id)).collect();
        for (smile, answer) in smiles.iter().zip(replica.send(&smiles).await) {
            acked.push((key(smile.from.as_str(), smile.id.as_str()), answer));
        }
    }
    (replica, acked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_write_one_log() {
    let Some(database) = Database::mysql().await else { return };
    let rounds = 40;
    let mut replicas = Vec::new();
    for _ in 0..4 {
        replicas.push(Replica::start(database.open().await).await);
    }
    let working: Vec<_> =
        replicas.into_iter().enumerate().map(|(place, replica)| tokio::spawn(work(replica, place, rounds))).collect();
    let (mut replicas, mut acked) = (Vec::new(), Vec::new());
    for work in working {
        let (replica, answers) = work.await.unwrap();
        replicas.push(replica);
        acked.extend(answers);
    }
    let log = whole_log(&replicas[0].store).await;
    assert_eq!(log.len(), rounds * (4 * 20 + 5));
    let offsets: BTreeMap<Key, Offset> =
        log.iter().map(|smile| (key(smile.from.as_str(), smile.id.as_str()), smile.offset)).collect();
    assert_eq!(offsets.len(), log.len(), "the log held a smile twice");
    for (smile, answer) in &acked {
        assert_eq!(offsets[smile], answer.offset());
    }
    for replica in &replicas {
        replica.tail.read().await.unwrap();
        for user in USERS.into_iter().chain(["zoe"]) {
            assert_eq!(replica.stream(user, Offset(0), 200).await.unwrap(), of_user(&log, user));
        }
    }
    let stored = acked.iter().filter(|(_, answer)| matches!(answer, Answer::Stored(_)));
    let stored: HashSet<&Key> = stored.map(|(smile, _)| smile).collect();
    assert_eq!(stored.len(), log.len(), "every answer to one of the smiles was a duplicate");
}

#[tokio::test]
async fn two_replicas_append_to_an_empty_log_at_the_same_time_and_both_keep_running() {
    let Some(database) = Database::mysql().await else { return };
    let (mut one, mut two) = (Replica::start(database.open().await).await, Replica::start(database.open().await).await);
    let first = |replica: &Replica, from| [smile(&replica.store, from, "zoe", "first")];
    let (ones, twos) = (first(&one, "anna"), first(&two, "bruno"));
    let both = async { tokio::join!(one.send(&ones), two.send(&twos)) };
    let (of_one, of_two) = both.await;
    let mut offsets = [of_one[0].offset(), of_two[0].offset()];
    offsets.sort();
    assert_eq!(offsets, [Offset(1), Offset(2)]);
    let soon = Duration::from_millis(50);
    assert!(
        tokio::time::timeout(soon, one.ended()).await.is_err()
            && tokio::time::timeout(soon, two.ended()).await.is_err(),
        "a task of a replica ended"
    );
}

#[tokio::test]
async fn any_surviving_replica_writes_the_index() {
    let Some(database) = Database::mysql().await else { return };
    let mut random = random();
    let (one, two) = (Replica::start(database.open().await).await, Replica::start(database.open().await).await);
    let smiles = some_smiles(&one.store, &mut random, 4 * SEGMENT + 50, "c");
    let (before, after) = smiles.split_at(smiles.len() / 2);
    append_all(&one.store, before).await;
    for replica in [&one, &two] {
        replica.tail.read().await.unwrap();
        replica.until_indexed().await;
    }
    let log = whole_log(&one.store).await;
    let survivor = if random.random_bool(0.5) {
        one.kill().await;
        two
    } else {
        two.kill().await;
        one
    };
    append_all(&survivor.store, after).await;
    survivor.tail.read().await.unwrap();
    survivor.until_indexed().await;
    assert_eq!(survivor.store.indexed().await.unwrap(), 4);
    let sample: Vec<_> = log.iter().step_by(97).collect();
    for stored in sample {
        let again = smile(&survivor.store, stored.from.as_str(), "zoe", stored.id.as_str());
        assert_eq!(survivor.send(&[again]).await, [Answer::Duplicate(stored.offset)]);
    }
}
