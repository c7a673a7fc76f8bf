//! How much is measured: enough for a look, or all that docs/RESULTS.md states.

use std::time::Duration;

/// How long and how large the measurements are.
pub(crate) struct Scale {
    /// One run of the load.
    pub(crate) round: Duration,
    /// Runs of which the median counts.
    pub(crate) rounds: usize,
    /// One run that shows what lasts.
    pub(crate) sustained: Duration,
    /// Sessions that are open at the same time.
    pub(crate) sessions: &'static [usize],
    /// Smiles in the long log.
    pub(crate) long_log: u64,
    /// Conversations in a recovery, half of whose sessions lose their replica.
    pub(crate) conversations: usize,
    /// How long following is watched.
    pub(crate) idle: Duration,
}

impl Scale {
    /// For a look at every figure.
    pub(crate) const QUICK: Self = Self {
        round: Duration::from_secs(2),
        rounds: 1,
        sustained: Duration::from_secs(6),
        sessions: &[10, 100, 1_000],
        long_log: 200_000,
        conversations: 500,
        idle: Duration::from_secs(5),
    };

    /// For docs/RESULTS.md.
    pub(crate) const FULL: Self = Self {
        round: Duration::from_secs(5),
        rounds: 3,
        sustained: Duration::from_secs(30),
        sessions: &[10, 100, 1_000, 10_000],
        long_log: 10_000_000,
        conversations: 5_000,
        idle: Duration::from_secs(15),
    };
}
