//! The index after a failover to a server that lacks the last commits.

use super::*;
use crate::store::tests::PATIENCE;

/// The new server's log ends within a segment that this replica has published whole.
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
    let ended = tokio::time::timeout(PATIENCE, replica.ended()).await.expect("the replica ends");
    assert!(matches!(ended, Err(StoreError::Replaced)), "{ended:?}");
    assert_eq!(replica.store.indexed().await.unwrap(), 0);
}
