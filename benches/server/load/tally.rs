//! What the sessions of a load count together.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// What a load reports.
#[derive(Deserialize, Serialize)]
pub(crate) struct Outcome {
    /// Smiles sent.
    pub(crate) sent: u64,
    /// Bytes of their frames, without what the WebSocket adds.
    pub(crate) bytes: u64,
    /// Smiles acked.
    pub(crate) answers: u64,
    /// Smiles that came to sessions besides those acks.
    pub(crate) delivered: u64,
    /// Smiles that a server was too busy to take.
    pub(crate) refused: u64,
    /// From the first smile to the last ack.
    pub(crate) seconds: f64,
    /// From a smile to its ack.
    pub(crate) p50_millis: f64,
    /// From a smile to its ack.
    pub(crate) p99_millis: f64,
}

/// The counters that become the outcome.
pub(super) struct Tally {
    sent: u64,
    bytes: u64,
    delivered: u64,
    refused: u64,
    /// In microseconds.
    latencies: Histogram<u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3).expect("bounds in order");
        Self { sent: 0, bytes: 0, delivered: 0, refused: 0, latencies }
    }

    /// A smile of so many bytes is sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += 1;
        self.bytes += bytes as u64;
    }

    /// A smile is acked.
    pub(super) fn answered(&mut self, after: Duration) {
        self.latencies.saturating_record(after.as_micros().try_into().unwrap_or(u64::MAX));
    }

    /// So many smiles came to a session.
    pub(super) fn delivered(&mut self, smiles: u64) {
        self.delivered += smiles;
    }

    /// A smile is refused.
    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    /// What was counted in that time.
    pub(super) fn outcome(&self, elapsed: Duration) -> Outcome {
        let millis = |percent| self.latencies.value_at_quantile(percent) as f64 / 1_000.0;
        Outcome {
            sent: self.sent,
            bytes: self.bytes,
            answers: self.latencies.len(),
            delivered: self.delivered,
            refused: self.refused,
            seconds: elapsed.as_secs_f64(),
            p50_millis: millis(0.5),
            p99_millis: millis(0.99),
        }
    }
}
