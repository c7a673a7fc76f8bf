//! Removing what is old, a little at a time, so that the log never waits for long.

use std::sync::Arc;
use std::time::Duration;

use crate::model::Timestamp;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Smiles removed in one transaction: a few milliseconds of the writer's time.
const STEP: u32 = 500;

/// Between two steps, so that appends come first.
const BETWEEN_STEPS: Duration = Duration::from_millis(50);

/// Between two looks for what has become old.
const BETWEEN_ROUNDS: Duration = Duration::from_mins(1);

/// Removes smiles older than `kept`, for ever.
pub async fn run(store: Store, kept: Duration, metrics: Arc<Metrics>) {
    loop {
        if let Err(error) = round(&store, kept, &metrics).await {
            tracing::warn!(%error, "old smiles could not be removed; tried again in a minute");
        }
        tokio::time::sleep(BETWEEN_ROUNDS).await;
    }
}

async fn round(store: &Store, kept: Duration, metrics: &Metrics) -> Result<(), StoreError> {
    loop {
        let removed = store.trim(Timestamp::now().before(kept), STEP).await?;
        metrics.smiles_trimmed.inc_by(removed);
        if removed < u64::from(STEP) {
            return Ok(());
        }
        tokio::time::sleep(BETWEEN_STEPS).await;
    }
}
