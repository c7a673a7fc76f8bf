//! A time in which the store takes no smiles, however many are refused in it: one line at its start, and one at its end.

use std::fmt::Display;
use std::time::Instant;

/// The outage that lasts, if one does.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    refused: usize,
}

impl Outage {
    /// The store did not take smiles.
    pub(super) fn begins(&mut self, why: &dyn Display) {
        if self.since.is_none() {
            tracing::error!(why = %why, "the store takes no smiles; they are refused until it does");
            self.since = Some(Instant::now());
        }
    }

    /// So many smiles were refused.
    pub(super) fn refused(&mut self, smiles: usize) {
        self.refused += smiles;
    }

    /// The store took smiles.
    pub(super) fn ends(&mut self) {
        if let Some(since) = self.since.take() {
            let (seconds, refused) = (since.elapsed().as_secs_f64(), std::mem::take(&mut self.refused));
            tracing::info!(seconds, refused, "the store takes smiles again");
        }
    }
}
