//! Turns: a named lock, under which one replica at a time appends.
//!
//! Turns are an optimisation; the primary key of the log decides the order. Without them, replicas collide at the end
//! of the log with batches that are already closed. With turns, a replica closes its batch once it holds the lock, so
//! smiles that arrive during the wait join that batch. A replica that freezes while it holds the lock delays each peer
//! by 150 ms, once a second, until MySQL closes the idle session of the frozen replica after two minutes.

use std::time::{Duration, Instant};

use super::MySql;
use super::connections::within;
use crate::model::Offset;
use crate::store::{Batch, BatchKey, integer};

/// Maximum number of batches read when the lock is taken. There are more only if this replica has fallen behind.
const MISSED: usize = 16;

/// Takes the lock, then selects the last published batch, without its payload, and the batches after it. One prepared
/// statement, since parsing it would lengthen every turn. MySQL materialises the derived table first, so the snapshot
/// holds what the lock's previous holder has committed.
///
/// The wait of at most 150 ms is longer than a few commits take, and too short for a user to notice. It also outlasts
/// the stall of a commit that misses a wake-up: if `innodb_log_writer_threads` is off, such a commit stalls for 100 ms
/// (`log_self_write_up_to` in MySQL's `storage/innobase/log/log0write.cc`).
///
/// The connection holds the lock until the procedure `append_to_log` or [`MySql::end_turn`] releases it.
const TAKE_TURN: &str = "
    SELECT /*+ MAX_EXECUTION_TIME(150) */ token, IF(first > ?, payload, '')
    FROM (
        SELECT GET_LOCK(CONCAT('smilingchat turn ', LEFT(SHA2(DATABASE(), 256), 32)), 1) AS taken
    ) AS turn JOIN log_batches ON first >= ?
    WHERE taken = 1 ORDER BY first LIMIT ?";

/// Time limit for MySQL's answer. MySQL ends the wait for the lock earlier, so beyond this limit MySQL or the network
/// is slow or down.
const NO_ANSWER: Duration = Duration::from_millis(300);

/// How long this replica takes turns after it has found another replica's append, and how long it takes none after an
/// attempt to get the lock has failed.
const RECENT: Duration = Duration::from_secs(1);

/// What this replica's own appends show about the appends of other replicas.
#[derive(Default)]
pub(super) struct PeerAppends {
    /// The last offset of this replica's last batch.
    end: Offset,
    /// When this replica last found smiles of other replicas after its own. Its first append to a log that already has
    /// smiles counts too.
    met_at: Option<Instant>,
    /// When the last failed attempt to get the lock ended, with or without an answer.
    kept_waiting_at: Option<Instant>,
    /// Whether the appending connection may hold the lock.
    may_hold: bool,
}

impl PeerAppends {
    pub(super) fn appended(&mut self, first: Offset, count: usize, now: Instant) {
        if first != self.end.next() {
            self.met_at = Some(now);
        }
        self.end = Offset(first.0 + count as u64 - 1);
        self.may_hold = false;
    }

    fn takes_turns(&self, now: Instant) -> bool {
        let lately = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < RECENT);
        lately(self.met_at) && !lately(self.kept_waiting_at)
    }
}

impl MySql {
    /// Waits at most 0.3 s for this replica's turn to append, if other replicas append too and no attempt to get a turn
    /// has failed within the last second. Returns at most [`MISSED`] batches that other replicas have committed after
    /// `last`; the result may lack some or all of these batches. This replica's next batch follows them. An append
    /// without the lock is just as safe, so the wait for the lock is short.
    pub(crate) async fn take_turn(&self, last: Option<BatchKey>) -> Vec<Batch> {
        let turns = self.peer_appends.lock().takes_turns(Instant::now());
        let Some(last) = last.filter(|_| turns) else { return Vec::new() };
        within(NO_ANSWER, self.ask_for_turn(last)).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot take a turn to append");
            self.peer_appends.lock().kept_waiting_at = Some(Instant::now());
            Vec::new()
        })
    }

    /// Releases the lock if no append has released it: otherwise the other replicas would wait although this replica is
    /// idle.
    pub(crate) async fn end_turn(&self) {
        if !std::mem::take(&mut self.peer_appends.lock().may_hold) {
            return;
        }
        // A failure closes the connection, which releases the lock as well.
        if let Err(error) = within(NO_ANSWER, self.appending.execute("DO RELEASE_ALL_LOCKS()")).await {
            tracing::debug!(%error, "cannot end the turn to append");
        }
    }

    /// Dropping the future closes the connection, which releases the lock.
    async fn ask_for_turn(&self, last: BatchKey) -> sqlx::Result<Vec<Batch>> {
        let first = integer(last.first.0);
        let question = sqlx::query_as(TAKE_TURN).bind(first).bind(first).bind(integer(MISSED + 1));
        let take = async |mut connection| match question.fetch_all(&mut connection).await {
            // Usually, the execution time limit ended the wait.
            Err(sqlx::Error::Database(_)) => Ok((None, connection)),
            rows => Ok((Some(rows?), connection)),
        };
        // The pool holds one connection, so the append uses the same one.
        let rows: Option<Vec<(i64, Vec<u8>)>> = self.appending.run_once(take).await?;
        {
            let mut peer_appends = self.peer_appends.lock();
            peer_appends.may_hold = true;
            if rows.is_none() {
                peer_appends.kept_waiting_at = Some(Instant::now());
            }
        }
        // If the last published batch is missing, the log was trimmed or replaced, or queries do not see the batch yet.
        let rows = rows.unwrap_or_default();
        let same_log = rows.first().is_some_and(|(token, _)| *token == last.token);
        let missed = rows.iter().skip(1).filter(|_| same_log);
        // The follower reads an undecodable batch again and reports it.
        Ok(missed.map_while(|(token, payload)| Batch::decode(*token, payload, &self.directory).ok()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_taken_only_while_other_replicas_append() {
        let start = Instant::now();
        let mut peer_appends = PeerAppends::default();
        peer_appends.appended(Offset(1), 3, start);
        peer_appends.appended(Offset(4), 2, start);
        assert!(!peer_appends.takes_turns(start));
        peer_appends.appended(Offset(8), 1, start);
        peer_appends.appended(Offset(9), 1, start + RECENT / 2);
        assert!(peer_appends.takes_turns(start + RECENT / 2));
        assert!(!peer_appends.takes_turns(start + RECENT));
    }

    #[test]
    fn a_failed_attempt_to_get_the_lock_is_not_repeated_immediately() {
        let start = Instant::now();
        let mut peer_appends = PeerAppends::default();
        peer_appends.appended(Offset(6), 1, start);
        peer_appends.kept_waiting_at = Some(start);
        peer_appends.appended(Offset(10), 1, start + RECENT / 2);
        assert!(!peer_appends.takes_turns(start + RECENT / 2));
        assert!(peer_appends.takes_turns(start + RECENT));
    }
}
