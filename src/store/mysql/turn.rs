//! Taking turns: how the replicas of one log keep out of each other's way when they append at the same time.
//!
//! Owns the politeness, not the order: that is the head row's, whoever goes ahead. Replicas that meet at the head row wait
//! for each other inside their transactions, with batches that are closed already. So they queue for a lock with a name
//! first, and each closes its batch when its turn has come: what arrives meanwhile goes with it. A replica that freezes
//! with the turn in its hand keeps the others waiting for a tenth of a second, once a second, until MySQL ends its silent
//! session.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::{FromRow, Row};

use super::{MySql, statements};
use crate::model::Offset;
use crate::store::Batch;

/// Asks for the turn, and waits for it; longer than some commits take one after the other, and shorter than anybody
/// notices. The turn belongs to the connection until the appending procedure lets it go.
const TAKE_TURN: &str = "
    SELECT /*+ MAX_EXECUTION_TIME(100) */ GET_LOCK(CONCAT('smilingchat turn ', LEFT(SHA2(DATABASE(), 256), 32)), 1)";

/// What other replicas have appended by then.
const READ_MISSED: &str = "SELECT token, payload FROM log_batches WHERE first >";

/// Batches that are read with the turn, at most. There are more only when this replica has fallen behind.
const MISSED: u32 = 16;

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
    /// A batch of `count` smiles was appended at `first`.
    pub(super) fn appended(&mut self, first: Offset, count: usize, now: Instant) {
        if first != self.end.next() {
            self.met_at = Some(now);
        }
        self.end = Offset(first.0 + count as u64 - 1);
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
    /// Waits for this replica's turn to append, if other replicas append, too. The turn ends with the next append that is
    /// done. Returns the batches after `after` that the log holds when the turn has come: what this replica appends then
    /// follows them. Politeness and nothing else: it ends soon, and appending without it is as safe.
    pub async fn take_turn(&self, after: Offset) -> Vec<Batch> {
        if !self.company().takes_turns(Instant::now()) {
            return Vec::new();
        }
        tokio::time::timeout(NO_ANSWER, self.ask_for_turn(after)).await.unwrap_or_else(|_| {
            tracing::debug!("the turn to append was not answered for");
            Vec::new()
        })
    }

    /// When this is dropped before its end, the connection is closed, and the turn given up with it.
    async fn ask_for_turn(&self, after: Offset) -> Vec<Batch> {
        // The one that the append will take.
        let Ok(mut lane) = self.inner.appending.take().await else { return Vec::new() };
        let text = format!("{TAKE_TURN}; {READ_MISSED} {after} ORDER BY first LIMIT {MISSED}");
        match statements(text).fetch_all(&mut lane.connection).await {
            Ok(rows) => {
                lane.keep();
                if rows.first().and_then(|row| row.try_get(0).ok()).flatten() != Some(1_i64) {
                    self.company().kept_waiting(Instant::now());
                }
                let batches = rows.iter().skip(1).map(|row| {
                    let (token, payload): (i64, Vec<u8>) = FromRow::from_row(row)?;
                    self.batch(token, &payload)
                });
                // One that cannot be read is read again by whatever follows the log, which says so.
                batches.map_while(Result::ok).collect()
            }
            // Out of time.
            Err(sqlx::Error::Database(_)) => {
                self.company().kept_waiting(Instant::now());
                lane.keep();
                Vec::new()
            }
            Err(error) => {
                tracing::debug!(%error, "the turn to append cannot be asked for");
                Vec::new()
            }
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
        company.appended(Offset(1), 3, start);
        company.appended(Offset(4), 2, start);
        assert!(!company.takes_turns(start), "nobody else has appended");
        company.appended(Offset(8), 1, start);
        company.appended(Offset(9), 1, start + WHILE / 2);
        assert!(company.takes_turns(start + WHILE / 2));
        assert!(!company.takes_turns(start + WHILE));
    }

    #[test]
    fn a_turn_that_is_not_given_is_not_asked_for_again_at_once() {
        let start = Instant::now();
        let mut company = Company::default();
        company.appended(Offset(6), 1, start);
        company.kept_waiting(start);
        company.appended(Offset(10), 1, start + WHILE / 2);
        assert!(!company.takes_turns(start + WHILE / 2));
        assert!(company.takes_turns(start + WHILE));
    }
}
