//! Removes old smiles and replicas that were lost long ago. Smiles go in small steps, so appends never wait long.

use std::sync::Arc;
use std::time::Duration;

use crate::index;
use crate::store::{Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// Batches removed in one transaction, which takes a few milliseconds.
const BATCHES_PER_STEP: u32 = 100;

/// Pause between two steps, for the appends.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Interval between two rounds.
const ROUND_INTERVAL: Duration = Duration::from_mins(1);

/// Removes smiles that are older than `kept`, and replicas that were lost long ago. Never returns.
pub(crate) async fn run(store: Store, tail: Arc<Tail>, kept: Duration, metrics: Arc<Metrics>) {
    tokio::join!(remove_smiles(&store, &tail, kept, &metrics), remove_lost_replicas(&store));
}

async fn remove_smiles(store: &Store, tail: &Tail, kept: Duration, metrics: &Metrics) {
    loop {
        if let Err(error) = trim(store, tail, kept, metrics).await {
            tracing::warn!(%error, "cannot remove old smiles; trying again in a minute");
        }
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
}

async fn remove_lost_replicas(store: &Store) {
    let Store::MySql(store) = store else { return };
    loop {
        if let Err(error) = store.forget_lost().await {
            tracing::debug!(%error, "cannot remove lost replicas; trying again in a minute");
        }
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
}

async fn trim(store: &Store, tail: &Tail, kept: Duration, metrics: &Metrics) -> Result<(), StoreError> {
    while let Some((trimmed, smiles)) = store.trim(kept, BATCHES_PER_STEP).await? {
        tail.trim(trimmed);
        index::forget(store, trimmed).await?;
        metrics.smiles_trimmed.inc_by(smiles);
        tokio::time::sleep(STEP_PAUSE).await;
    }
    Ok(())
}
