//! Removes old smiles, in small steps so that appends never wait long, and replicas that were lost long ago.

use std::sync::Arc;
use std::time::Duration;

use crate::index;
use crate::store::{Membership, Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// Batches removed in one transaction, which takes a few milliseconds.
const BATCHES_PER_STEP: u32 = 200;

/// Pause between two steps, for the appends.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Interval between two rounds.
const ROUND_INTERVAL: Duration = Duration::from_mins(1);

/// Removes smiles that are older than `kept`, and replicas that were lost long ago, forever.
pub(crate) async fn run(store: Store, tail: Tail, kept: Duration, metrics: Arc<Metrics>) {
    loop {
        if let Err(error) = round(&store, &tail, kept, &metrics).await {
            tracing::warn!(%error, "cannot remove old smiles and lost replicas; trying again in a minute");
        }
        tokio::time::sleep(ROUND_INTERVAL).await;
    }
}

async fn round(store: &Store, tail: &Tail, kept: Duration, metrics: &Metrics) -> Result<(), StoreError> {
    while let Some((trimmed, smiles)) = store.trim(kept, BATCHES_PER_STEP).await? {
        tail.trim(trimmed);
        index::forget(store, trimmed).await?;
        metrics.smiles_trimmed.inc_by(smiles);
        tokio::time::sleep(STEP_PAUSE).await;
    }
    if let Membership::Shared(cluster) = store.membership() {
        cluster.forget_lost().await?;
    }
    Ok(())
}
