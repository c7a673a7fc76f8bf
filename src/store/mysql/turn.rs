//! Taking turns: how the replicas of one log keep out of each other's way when they append at the same time.
//!
//! Owns the politeness, not the order: that is the head row's, whoever goes ahead. Replicas that meet at the head row wait
//! for each other inside their transactions, with batches that are closed already. So they queue for a lock with a name
//! first, and each closes its batch when its turn has come: what arrives meanwhile goes with it. A replica that freezes
//! with the turn in its hand keeps the others waiting for a tenth of a second, once a second, until MySQL ends its silent
//! session.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::MySql;
use crate::model::Offset;

/// Asks for the turn, and waits for it; longer than some commits take one after the other, and shorter than anybody
/// notices. The turn belongs to the connection until the appending procedure lets it go.
const TAKE_TURN: &str = "
    SELECT /*+ MAX_EXECUTION_TIME(100) */ GET_LOCK(CONCAT('smilingchat turn ', LEFT(SHA2(DATABASE(), 256), 32)), 1)";

/// MySQL ends the wait for a turn by itself; when it has not answered by then, it is away.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// How long after another replica's append it is expected to append again, and how long nobody asks for a turn that was
/// not given.
const WHILE: Duration = Duration::from_secs(1);

/// What this replica knows of the others' appending, from its own.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Where its last batch ended.
    end: Offset,
    /// When it last found smiles of others after that.
    met_at: Option<Instant>,
    /// When it last waited for its turn in vain.
    kept_waiting_at: Option<Instant>,
}

impl Company {
    /// A batch of `count` smiles was stored right after `head`.
    pub(super) fn stored(&mut self, head: Offset, count: usize, now: Instant) {
        if head != self.end {
            self.met_at = Some(now);
        }
        self.end = Offset(head.0 + count as u64);
    }

    fn kept_waiting(&mut self, now: Instant) {
        self.kept_waiting_at = Some(now);
    }

    /// Whether it makes sense to ask for a turn.
    fn takes_turns(&self, now: Instant) -> bool {
        let lately = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < WHILE);
        lately(self.met_at) && !lately(self.kept_waiting_at)
    }
}

impl MySql {
    /// Waits for this replica's turn to append, if others are appending, too. The turn ends with the next append.
    pub(in crate::store) async fn wait_for_turn(&self) {
        if !self.company().takes_turns(Instant::now()) {
            return;
        }
        if tokio::time::timeout(NO_ANSWER, self.ask_for_turn()).await.is_err() {
            tracing::debug!("the turn to append was not answered for");
        }
    }

    /// When this is dropped before its end, the connection is closed, and the turn given up with it.
    async fn ask_for_turn(&self) {
        // The one that the append will take.
        let Ok(mut lane) = self.inner.appending.take().await else { return };
        let turn: Result<Option<i64>, _> = sqlx::query_scalar(TAKE_TURN).fetch_one(&mut lane.connection).await;
        match turn {
            Ok(Some(1)) => lane.keep(),
            // Out of time: MySQL says so in one of two ways.
            Ok(_) | Err(sqlx::Error::Database(_)) => {
                self.company().kept_waiting(Instant::now());
                lane.keep();
            }
            Err(error) => tracing::debug!(%error, "the turn to append cannot be asked for"),
        }
    }

    pub(super) fn company(&self) -> MutexGuard<'_, Company> {
        self.inner.company.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_in_company() {
        let start = Instant::now();
        let mut company = Company::default();
        company.stored(Offset(0), 3, start);
        company.stored(Offset(3), 2, start);
        assert!(!company.takes_turns(start), "nobody else has appended");
        company.stored(Offset(7), 1, start);
        company.stored(Offset(8), 1, start + WHILE / 2);
        assert!(company.takes_turns(start + WHILE / 2));
        assert!(!company.takes_turns(start + WHILE));
    }

    #[test]
    fn a_turn_that_is_not_given_is_not_asked_for_again_at_once() {
        let start = Instant::now();
        let mut company = Company::default();
        company.stored(Offset(5), 1, start);
        company.kept_waiting(start);
        company.stored(Offset(9), 1, start + WHILE / 2);
        assert!(!company.takes_turns(start + WHILE / 2));
        assert!(company.takes_turns(start + WHILE));
    }
}
