//! The counters that all sessions of the load share.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    /// Smiles acked or echoed.
    pub(crate) answers: u64,
    /// Smiles delivered to sessions or in answers to polls, not counting acks.
    pub(crate) delivered: u64,
    /// Smiles that a server refused temporarily.
    pub(crate) refused: u64,
    /// Time from the start of sending until every sender has finished, or until the time limit for the last answers.
    pub(crate) seconds: f64,
    pub(crate) p50_millis: f64,
    pub(crate) p99_millis: f64,
}

pub(super) struct Tally {
    sent: u64,
    delivered: u64,
    refused: u64,
    /// In microseconds.
    latencies: Histogram<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let latencies = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds should be valid");
        Self { sent: 0, delivered: 0, refused: 0, latencies }
    }

    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    pub(super) fn answered(&mut self, after: Duration) {
        self.latencies.saturating_record(after.as_micros().try_into().unwrap_or(u64::MAX));
    }

    pub(super) fn delivered(&mut self, smiles: u64) {
        self.delivered += smiles;
    }

    pub(super) fn refused(&mut self) {
        self.refused += 1;
    }

    pub(super) fn outcome(&self, elapsed: Duration) -> Outcome {
        let millis = |percent| self.latencies.value_at_quantile(percent) as f64 / 1_000.0;
        Outcome {
            sent: self.sent,
            answers: self.latencies.len(),
            delivered: self.delivered,
            refused: self.refused,
            seconds: elapsed.as_secs_f64(),
            p50_millis: millis(0.5),
            p99_millis: millis(0.99),
        }
    }
}
