//! The scale of a run: quick, or full for docs/RESULTS.md.

use std::time::Duration;

pub(crate) struct Scale {
    pub(crate) round: Duration,
    /// Number of rounds. The median of the rounds is reported; for recovery, every round is reported.
    pub(crate) rounds: usize,
    /// Duration of a sustained run, and of each run that fills the long log.
    pub(crate) sustained: Duration,
    pub(crate) sessions: &'static [usize],
    /// Minimum number of smiles in the long log before it is measured.
    pub(crate) long_log: u64,
    /// Conversations in the recovery measurement. About half of their sessions lose their replica.
    pub(crate) conversations: usize,
    /// Duration of the measurement of idle replicas.
    pub(crate) idle: Duration,
}

impl Scale {
    pub(crate) const QUICK: Self = Self {
        round: Duration::from_secs(2),
        rounds: 1,
        sustained: Duration::from_secs(6),
        sessions: &[10, 100, 1_000],
        long_log: 200_000,
        conversations: 500,
        idle: Duration::from_secs(5),
    };

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
