//! Deduplication: a stored id is found in memory or in the index, before the filters are loaded, while segments are
//! indexed and after merges.

use std::collections::HashMap;

use super::*;
use crate::config::StoreUrl;
use crate::model::{SmileId, UserName};
use crate::store::tests::PATIENCE;

on_every_database! {
    a_repeat_gets_the_original_offset_at_any_age,
    a_duplicate_is_found_after_a_merge,
    smiles_are_answered_before_the_filters_are_loaded,
    ids_are_found_while_their_segment_moves_from_memory_into_the_index,
}

/// The expected log.
#[derive(Default)]
struct Known {
    offsets: HashMap<(UserName, SmileId), Offset>,
    order: Vec<NewSmile>,
    head: Offset,
}

impl Known {
    fn add(&mut self, smile: &NewSmile) {
        self.head = self.head.next();
        self.offsets.insert((smile.from.clone(), smile.id.clone()), self.head);
        self.order.push(smile.clone());
    }

    fn find(&self, smile: &NewSmile) -> Option<Offset> {
        self.offsets.get(&(smile.from.clone(), smile.id.clone())).copied()
    }

    /// All smiles must have the same sender.
    async fn send(&mut self, replica: &Replica, smiles: &[NewSmile]) {
        let expected: Vec<Answer> = smiles
            .iter()
            .map(|smile| {
                self.find(smile).map_or_else(
                    || {
                        self.add(smile);
                        Answer::Stored(self.head)
                    },
                    Answer::Duplicate,
                )
            })
            .collect();
        // Without this read, a smile of the other replica could be published while its repeat is in flight, and would
        // count as the answer to the repeat.
        replica.tail.read().await.unwrap();
        let answers = replica.send(smiles).await;
        for ((answer, expected), smile) in answers.into_iter().zip(expected).zip(smiles) {
            assert_eq!(answer, expected, "wrong answer to {} by {}, head {}", smile.id.as_str(), smile.from, self.head);
        }
    }

    fn repeat(&self, random: &mut StdRng) -> NewSmile {
        let stored = self.order.len();
        let gap = match random.random_range(0..4) {
            0 => random.random_range(1..=stored.min(50)),
            1 => random.random_range(1..=stored.min(3000)),
            _ => random.random_range(1..=stored),
        };
        self.order[stored - gap].clone()
    }
}

async fn a_repeat_gets_the_original_offset_at_any_age(database: &Database) {
    let mut random = random();
    let mut known = Known::default();
    for round in 0..3_u64 {
        let replica = Replica::start(database.open().await).await;
        let other = match database {
            Database::MySql(_) => Some(Replica::start(database.open().await).await),
            Database::Sqlite(_) => None,
        };
        // These smiles bypass the replica's queue.
        let grown = some_smiles(&replica.store, &mut random, SEGMENT + 300, &format!("grown{round}-"));
        append_all(&replica.store, &grown).await;
        for smile in &grown {
            known.add(smile);
        }
        replica.tail.read().await.unwrap();
        for step in 0..40 {
            if step == 20 {
                replica.until_indexed().await;
            }
            let sender = USERS[random.random_range(0..USERS.len())];
            let mut smiles: Vec<NewSmile> = Vec::new();
            for number in 0..random.random_range(1..60) {
                let repeat = known.repeat(&mut random);
                smiles.push(match random.random_range(0..4) {
                    0 | 1 => smile(&replica.store, sender, "zoe", &format!("{round}-{step}-{number}")),
                    2 if !smiles.is_empty() => smiles[random.random_range(0..smiles.len())].clone(),
                    _ => smile(&replica.store, sender, "zoe", repeat.id.as_str()),
                });
            }
            let replica = other.as_ref().filter(|_| random.random_bool(0.5)).unwrap_or(&replica);
            known.send(replica, &smiles).await;
        }
        let log = whole_log(&replica.store).await;
        assert_eq!(log.len(), known.offsets.len(), "a smile was missing, or was stored twice");
        assert!(log.iter().all(|smile| known.offsets[&(smile.from.clone(), smile.id.clone())] == smile.offset));
        for replica in other.into_iter().chain([replica]) {
            replica.kill().await;
        }
    }
}

async fn a_duplicate_is_found_after_a_merge(database: &Database) {
    let mut random = random();
    let mut known = Known::default();
    let store = database.open().await;
    // The log is long enough for one complete merge, and has more smiles than a replica keeps in memory at startup.
    let smiles = some_smiles(&store, &mut random, 65 * SEGMENT + 10, "c");
    append_all(&store, &smiles).await;
    for smile in &smiles {
        known.add(smile);
    }
    let replica = Replica::start(store).await;
    replica.until_indexed().await;
    for _ in 0..20 {
        let repeats: Vec<_> = (0..50).map(|_| known.repeat(&mut random)).collect();
        for sender in USERS {
            let of_sender: Vec<_> = repeats.iter().filter(|smile| smile.from.as_str() == sender).cloned().collect();
            known.send(&replica, &of_sender).await;
        }
    }
    let new = some_smiles(&replica.store, &mut random, 100, "new");
    assert!(replica.send(&new).await.into_iter().all(|answer| matches!(answer, Answer::Stored(_))));
}

/// Loading the filters of a long log takes seconds. No smile waits for that.
async fn smiles_are_answered_before_the_filters_are_loaded(database: &Database) {
    let mut random = random();
    let mut known = Known::default();
    let store = database.open().await;
    let smiles = some_smiles(&store, &mut random, 3 * SEGMENT, "c");
    append_all(&store, &smiles).await;
    for smile in &smiles {
        known.add(smile);
    }
    let replica = Replica::without_indexer(store).await;
    assert!(replica.tail.indexed() >= Offset(SEGMENT), "the index ended at {}", replica.tail.indexed());
    let new = some_smiles(&replica.store, &mut random, 20, "new");
    for repeated in smiles.iter().step_by(150).chain(&new).chain(&new) {
        known.send(&replica, std::slice::from_ref(repeated)).await;
    }
}

#[tokio::test]
async fn the_indexer_ends_when_the_file_is_deleted_before_the_filters_are_loaded() {
    let database = Database::sqlite();
    let mut replica = Replica::without_indexer(database.open().await).await;
    let StoreUrl::Sqlite(path) = database.url() else { unreachable!("the database should be a file") };
    std::fs::remove_file(path).unwrap();
    replica.start_indexer();
    let ended = tokio::time::timeout(PATIENCE, replica.ended()).await.expect("the indexer should end");
    assert!(matches!(ended, Err(StoreError::Replaced)), "the indexer ended with {ended:?}");
}

/// While a segment moves from memory into the index, each of its ids is in memory, in the filters or in both.
async fn ids_are_found_while_their_segment_moves_from_memory_into_the_index(database: &Database) {
    let mut random = random();
    let mut replica = Replica::without_indexer(database.open().await).await;
    let smiles = some_smiles(&replica.store, &mut random, 2 * SEGMENT, "c");
    append_all(&replica.store, &smiles).await;
    replica.tail.read().await.unwrap();
    replica.start_indexer();
    let sample: Vec<_> = smiles.iter().step_by(500).cloned().collect();
    let hashes: Vec<_> = sample.iter().map(|smile| replica.store.id_hash(&smile.from, &smile.id)).collect();
    let mut moments = std::collections::BTreeSet::new();
    while replica.tail.index_lag() > 0 {
        let indexed = replica.tail.indexed();
        moments.insert(indexed);
        let known = replica.index.look_up(&hashes).await.unwrap().known;
        for (place, hash) in hashes.iter().enumerate() {
            let offset = Offset(place as u64 * 500 + 1);
            assert_eq!(
                known.get(hash),
                Some(&offset),
                "an id was missing or had a wrong offset; the index ended at {indexed} or later"
            );
        }
        tokio::task::yield_now().await;
    }
    assert!(
        moments.iter().any(|moment| moment.0 % SEGMENT != 0),
        "no look-up ran while the index ended within a segment: {moments:?}"
    );
}
