//! Logs an outage of the store with two lines, one at its start and one at its end, however many smiles are refused.

use std::fmt::Display;
use std::time::Instant;

/// The current outage, if any.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    refused: usize,
}

impl Outage {
    /// Records that an append failed or hangs.
    pub(super) fn begins(&mut self, why: &dyn Display) {
        if self.since.is_none() {
            tracing::error!(why = %why, "the store accepts no smiles; refusing them until it does");
            self.since = Some(Instant::now());
        }
    }

    /// Counts refused smiles.
    pub(super) fn refused(&mut self, smiles: usize) {
        self.refused += smiles;
    }

    /// Records that an append succeeded.
    pub(super) fn ends(&mut self) {
        if let Some(since) = self.since.take() {
            let (seconds, refused) = (since.elapsed().as_secs_f64(), std::mem::take(&mut self.refused));
            tracing::info!(seconds, refused, "the store accepts smiles again");
        }
    }
}
