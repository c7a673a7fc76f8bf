//! The index after a failover to a server that lacks the last commits.

use super::*;
use crate::store::tests::PATIENCE;

on_every_database! {
    a_segment_that_the_index_has_lost_is_derived_again,
}

async fn until_whole(store: &Store) {
    let whole = async {
        while store.indexed().await.unwrap() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, whole).await.expect("the lost segment should be indexed again");
}

/// The new server's log is complete, but its index lacks a segment whose ids the replica no longer has in memory.
async fn a_segment_that_the_index_has_lost_is_derived_again(database: &Database) {
    let mut random = random();
    let replica = Replica::start(database.open().await).await;
    let smiles = some_smiles(&replica.store, &mut random, 2 * SEGMENT + 100, "c");
    append_all(&replica.store, &smiles).await;
    replica.tail.read().await.unwrap();
    replica.until_indexed().await;
    let log = whole_log(&replica.store).await;
    let lose = "BEGIN; DELETE FROM index_conversations WHERE segment = 1; DELETE FROM index_ids WHERE block >= 32;
        UPDATE log_state SET indexed = 1; COMMIT";
    database.run(lose).await;

    let repeated = usize::try_from(SEGMENT).unwrap() + 7;
    let answer = loop {
        match replica.send(&smiles[repeated..=repeated]).await[0] {
            Answer::Refused => tokio::time::sleep(Duration::from_millis(5)).await,
            answer => break answer,
        }
    };
    assert_eq!(answer, Answer::Duplicate(log[repeated].offset));
    until_whole(&replica.store).await;
    replica.kill().await;

    let reader = Replica::without_indexer(database.open().await).await;
    database.run(lose).await;
    let history = reader.index.history((reader.user("anna"), reader.user("bruno")), None, smiles.len()).await;
    assert!(matches!(history, Err(StoreError::Unavailable(_))), "the history was read although a segment was missing");
    reader.kill().await;

    let replica = Replica::start(database.open().await).await;
    for user in USERS {
        assert!(
            replica.stream(user, Offset(0), 200).await.unwrap() == of_user(&log, user),
            "the stream of {user} was wrong"
        );
    }
    for place in (0..smiles.len()).step_by(301) {
        let answer = replica.send(&smiles[place..=place]).await;
        assert_eq!(answer, [Answer::Duplicate(log[place].offset)]);
    }
}

/// The new server's log ends within a segment that this replica has published completely.
#[tokio::test]
async fn smiles_that_the_log_has_lost_are_not_indexed() {
    let Some(database) = Database::mysql().await else { return };
    let mut random = random();
    let mut replica = Replica::without_indexer(database.open().await).await;
    let smiles = some_smiles(&replica.store, &mut random, SEGMENT + 100, "c");
    append_all(&replica.store, &smiles).await;
    replica.tail.read().await.unwrap();
    database.run("DELETE FROM log_batches WHERE first > 3000").await;
    replica.start_indexer();
    let ended = tokio::time::timeout(PATIENCE, replica.ended()).await.expect("a task of the replica should end");
    assert!(matches!(ended, Err(StoreError::Replaced)), "a task of the replica ended with {ended:?}");
    assert_eq!(replica.store.indexed().await.unwrap(), 0);
}
