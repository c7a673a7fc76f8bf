//! Removes old smiles, and the rows of replicas that were lost long ago. Smiles are removed in small steps, so that an
//! append waits at most for one short transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::index;
use crate::store::{Store, StoreError};
use crate::tail::Tail;
use crate::telemetry::Metrics;

/// Maximum number of batches removed in one transaction, which takes a few milliseconds.
const BATCHES_PER_STEP: u32 = 100;

/// Pause between two steps, during which appends proceed.
const STEP_PAUSE: Duration = Duration::from_millis(50);

/// Pause after the last step of a round, and after a failed step.
const ROUND_INTERVAL: Duration = Duration::from_mins(1);

/// Never returns.
pub(crate) async fn run(store: Store, tail: Arc<Tail>, metrics: Arc<Metrics>, kept: Duration) {
    loop {
        if let Store::MySql(mysql) = &store
            && let Err(error) = mysql.forget_lost().await
        {
            tracing::debug!(%error, "cannot remove the rows of lost replicas; trying again later");
        }
        let pause = match trim(&store, &tail, &metrics, kept).await {
            Ok(true) => STEP_PAUSE,
            Ok(false) => ROUND_INTERVAL,
            Err(error) => {
                tracing::warn!(%error, "cannot remove old smiles; trying again in a minute");
                ROUND_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Returns `false` if the log has no batch, or if the first batch is not older than `kept`.
async fn trim(store: &Store, tail: &Tail, metrics: &Metrics, kept: Duration) -> Result<bool, StoreError> {
    let Some((trimmed, smiles)) = store.trim(kept, BATCHES_PER_STEP).await? else { return Ok(false) };
    tail.trim(trimmed);
    metrics.smiles_trimmed.inc_by(smiles);
    index::forget(store, trimmed).await?;
    Ok(true)
}
