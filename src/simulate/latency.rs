//! A histogram of durations, with three significant digits from a microsecond to an hour.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

const LONGEST: Duration = Duration::from_hours(1);
const DIGITS: u8 = 3;

/// In microseconds.
#[derive(Debug)]
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, microseconds(LONGEST), DIGITS).expect("the bounds should be in range"))
    }

    /// A duration of more than an hour counts as an hour.
    pub(super) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(microseconds(duration));
    }

    pub(super) fn percentiles(&self) -> Percentiles {
        let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
        let at = |quantile| milliseconds(self.0.value_at_quantile(quantile));
        Percentiles { count: self.0.len(), p50: at(0.5), p90: at(0.9), p99: at(0.99), max: milliseconds(self.0.max()) }
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The percentiles of a set of durations, in milliseconds; all 0 if the set is empty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Percentiles {
    /// The number of durations.
    pub count: u64,
    /// The median.
    pub p50: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The longest duration.
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_precise_to_three_digits() {
        let mut latency = Latency::new();
        for milliseconds in 1..=1000 {
            latency.record(Duration::from_millis(milliseconds));
        }
        let percentiles = latency.percentiles();
        assert_eq!(percentiles.count, 1000);
        for (found, expected) in
            [(percentiles.p50, 500.0), (percentiles.p90, 900.0), (percentiles.p99, 990.0), (percentiles.max, 1000.0)]
        {
            assert!((found - expected).abs() <= expected / 500.0, "found {found} ms, expected {expected} ms");
        }
    }

    #[test]
    fn an_empty_histogram_and_extreme_durations_cause_no_panic() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentiles(), Percentiles { count: 0, p50: 0.0, p90: 0.0, p99: 0.0, max: 0.0 });
        latency.record(Duration::MAX);
        latency.record(Duration::ZERO);
        assert_eq!(latency.percentiles().count, 2);
    }
}
