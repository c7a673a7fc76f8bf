//! A time in which the store takes no smiles, however many are refused in it: one line at its start, and one at its end.
//!
//! A store that comes back may stumble under what waited for it. That is no outage of its own unless it lasts.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// How long after an outage the next one is a stumble first.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long a stumble may last.
pub(super) const STUMBLE: Duration = Duration::from_secs(2);

/// The outage that lasts, if one does.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Option<Instant>,
    said: bool,
    /// When the last one that was said ended.
    ended_at: Option<Instant>,
    refused: usize,
}

impl Outage {
    /// The store did not take smiles.
    pub(super) fn begins(&mut self, why: &dyn Display) {
        let since = *self.since.get_or_insert_with(Instant::now);
        let stumbles = self.ended_at.is_some_and(|at| at.elapsed() < RECOVERY) && since.elapsed() < STUMBLE;
        if !self.said && !stumbles {
            tracing::error!(why = %why, "the store takes no smiles; they are refused until it does");
            self.said = true;
        }
    }

    /// So many smiles were refused.
    pub(super) fn refused(&mut self, smiles: usize) {
        self.refused += smiles;
    }

    /// The store took smiles.
    pub(super) fn ends(&mut self) {
        if let Some(since) = self.since.take()
            && std::mem::take(&mut self.said)
        {
            let (seconds, refused) = (since.elapsed().as_secs_f64(), std::mem::take(&mut self.refused));
            tracing::info!(seconds, refused, "the store takes smiles again");
            self.ended_at = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stumble_after_an_outage_is_said_when_it_lasts() {
        let mut outage = Outage::default();
        outage.begins(&"away");
        assert!(outage.said);
        outage.ends();
        outage.begins(&"busy");
        assert!(!outage.said);
        outage.since = Instant::now().checked_sub(STUMBLE);
        outage.begins(&"busy");
        assert!(outage.said);
    }
}
