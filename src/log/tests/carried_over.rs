//! Smiles from the tables of an earlier version: duplicates, streams and histories.

use super::*;
use crate::store::tests::carry_over::fill_previous_version;

on_every_database! {
    carried_over_smiles_are_readable_and_deduplicated,
}

async fn carried_over_smiles_are_readable_and_deduplicated(database: &Database) {
    let mut random = random();
    // The log has more smiles than a replica keeps in memory at startup, and is trimmed within a segment.
    let log = fill_previous_version(database, SEGMENT + 500, 72_000).await;
    let replica = Replica::start(database.open().await).await;
    replica.until_indexed().await;
    for _ in 0..30 {
        let stored = &log[random.random_range(0..log.len())];
        let (from, to) = (stored.from.as_str(), stored.to.as_str());
        let again = smile(&replica.store, from, to, stored.id.as_str());
        assert_eq!(replica.send(&[again]).await, [Answer::Duplicate(stored.offset)]);
    }
    for after in [SEGMENT + 500, SEGMENT * 2, 30_000, 71_000] {
        let expected: Vec<_> = of_user(&log, "anna").into_iter().filter(|smile| smile.offset.0 > after).collect();
        assert!(
            replica.stream("anna", Offset(after), 200).await.unwrap() == expected,
            "the stream after {after} was wrong"
        );
    }
    assert!(matches!(replica.stream("anna", Offset(SEGMENT + 499), 200).await, Err(StoreError::Trimmed)));
    assert!(replica.history(("anna", "viola"), None, 200).await == of_user(&of_user(&log, "anna"), "viola"));
    let new = smile(&replica.store, "anna", "bruno", "new");
    assert_eq!(replica.send(&[new]).await, [Answer::Stored(Offset(72_001))]);
}
