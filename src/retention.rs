//! Removing what is old, a little at a time, so that the log never waits for long.

use std::sync::Arc;
use std::time::Duration;

use crate::index;
use crate::store::{Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// Batches removed in one transaction: a few milliseconds of the writer's time.
const STEP: u32 = 200;

/// Between two steps, so that appends come first.
const BETWEEN_STEPS: Duration = Duration::from_millis(50);

/// Between two looks for what has become old.
const BETWEEN_ROUNDS: Duration = Duration::from_mins(1);

/// Removes smiles older than `kept`, for ever.
pub async fn run(store: Store, tail: Tail, kept: Duration, metrics: Arc<Metrics>) {
    loop {
        if let Err(error) = round(&store, &tail, kept, &metrics).await {
            tracing::warn!(%error, "old smiles could not be removed; tried again in a minute");
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
}

async fn round(store: &Store, tail: &Tail, kept: Duration, metrics: &Metrics) -> Result<(), StoreError> {
    while let Some((trimmed, smiles)) = store.trim(kept, STEP).await? {
        tail.trim(trimmed);
        index::forget(store, trimmed).await?;
        metrics.smiles_trimmed.inc_by(smiles);
        tokio::time::sleep(BETWEEN_STEPS).await;
    }
    Ok(())
}
