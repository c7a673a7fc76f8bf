//! Logs two lines per outage of the store, one when the outage starts and one when it ends, however many smiles are
//! refused.
//!
//! A store that has just recovered may fail briefly under the load that built up during the outage. Therefore, a
//! failure soon after an outage is logged only if it lasts.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// For this long after the end of a logged outage, a failure is logged only once it has lasted for [`BRIEF`].
const RECOVERY: Duration = Duration::from_secs(30);

const BRIEF: Duration = Duration::from_secs(2);

/// The current outage, if there is one, and the end of the last logged outage.
#[derive(Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    logged: bool,
    ended_at: Option<Instant>,
}

impl Outage {
    /// Records that an append failed or hangs, or that the appender has waited too long for the index.
    pub(super) fn begins(&mut self, why: &dyn Display) {
        let since = *self.since.get_or_insert_with(Instant::now);
        let brief = self.ended_at.is_some_and(|at| at.elapsed() < RECOVERY) && since.elapsed() < BRIEF;
        if !self.logged && !brief {
            tracing::error!(why = %why, "the store accepts no smiles; refusing them until it does");
            self.logged = true;
        }
    }

    /// Records that smiles were appended.
    pub(super) fn ends(&mut self) {
        if let Some(since) = self.since.take()
            && std::mem::take(&mut self.logged)
        {
            tracing::info!(seconds = since.elapsed().as_secs_f64(), "the store accepts smiles again");
            self.ended_at = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_soon_after_an_outage_is_logged_only_if_it_lasts() {
        let mut outage = Outage::default();
        outage.begins(&"away");
        assert!(outage.logged);
        outage.ends();
        outage.begins(&"busy");
        assert!(!outage.logged);
        outage.ends();
        outage.begins(&"busy");
        outage.since = Instant::now().checked_sub(BRIEF);
        outage.begins(&"busy");
        assert!(outage.logged);
    }
}
