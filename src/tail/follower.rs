//! Follows a shared log: through the database's binary log or, while that is not possible, by polling.
//!
//! The tail orders the batches from both sources. No batch is lost if a stream of the binary log starts late, ends
//! early or is refused: the follower reads missing batches from the log.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::Tail;
use crate::model::Offset;
use crate::store::{Batch, Following, MySql, StoreError};

/// Bounds of the pause between two polls. The pause doubles while the log does not grow.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// Pause after a failed read of the log.
const RETRY: Duration = Duration::from_millis(250);

/// Time between two reads of the log while the binary log is followed. These reads detect a stream that omits batches.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Bounds of the pause before the next attempt to follow the binary log. The pause doubles after each failed attempt,
/// but after an attempt that lasted longer than the previous pause, the next pause is the shortest one. The end of an
/// outage ends the pause early and resets it. When the connections are discarded, for example after a move to another
/// server, the pause ends early but is not reset.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Longest pause before the next attempt if the server's binary log cannot be followed.
const UNSUPPORTED_PAUSE: Duration = Duration::from_mins(1);

/// Pause between two reads while a batch before a streamed one is missing, and time limit for its arrival: a query may
/// show a commit a moment later than the binary log.
const GAP_RETRY: Duration = Duration::from_millis(5);
const GAP_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Follower {
    store: Arc<MySql>,
    tail: Arc<Tail>,
    /// The last logged reason for polling since the binary log was last followed. The same reason is not logged twice
    /// in a row.
    logged: Option<String>,
    /// Whether the last line that this task has logged says that the binary log is followed.
    logged_stream: bool,
    /// Whether a call to [`Follower::poll`] has ended without a failed read since the binary log was last followed.
    polled: bool,
}

impl Follower {
    pub(crate) fn new(store: Arc<MySql>, tail: Arc<Tail>) -> Self {
        Self { store, tail, logged: None, logged_stream: false, polled: false }
    }

    /// Returns only on an error.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when retention has overtaken the tail, [`StoreError::Replaced`] when the log is a
    /// different one or has lost its end.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let opened = Instant::now();
            let Err(ended) = self.stream().await;
            pause = match ended {
                error @ (StoreError::Trimmed | StoreError::Replaced) => return Err(error),
                StoreError::CannotFollow(_) => UNSUPPORTED_PAUSE,
                _ if opened.elapsed() > pause => SHORTEST_PAUSE,
                _ => (pause * 2).min(LONGEST_PAUSE),
            };
            self.log_polling(&ended);
            if self.poll(pause).await? {
                pause = SHORTEST_PAUSE;
            }
        }
    }

    async fn stream(&mut self) -> Result<Infallible, StoreError> {
        let mut binlog = self.store.open_binlog().await?;
        // This read publishes the batches before the start of the stream.
        let mut streamed = self.tail.read().await?;
        let mut overdue = streamed;
        *self.tail.following.lock() = Following::Binlog;
        (self.logged, self.polled) = (None, false);
        if !std::mem::replace(&mut self.logged_stream, true) {
            tracing::info!("following the binary log");
        }
        let mut check = tokio::time::interval_at(Instant::now() + CHECK_INTERVAL, CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                // After a stall, handle the buffered events before the check.
                biased;
                batches = binlog.next() => streamed = streamed.max(self.publish(batches?).await?),
                _ = check.tick() => {
                    if streamed < overdue {
                        return Err(StoreError::Unavailable("the replication stream omitted a batch".into()));
                    }
                    overdue = self.tail.read().await?;
                }
            }
        }
    }

    /// Publishes the batches of one transaction. Returns their last offset.
    async fn publish(&self, batches: Vec<Batch>) -> Result<Offset, StoreError> {
        let mut last = Offset::default();
        self.tail.record_contact();
        for batch in batches {
            last = batch.last();
            let first = batch.key.first;
            let deadline = Instant::now() + GAP_TIMEOUT;
            while self.tail.cursor().next() < first {
                if Instant::now() > deadline {
                    return Err(StoreError::Unavailable("batches before a streamed one cannot be read".into()));
                }
                self.tail.read().await?;
                if self.tail.cursor().next() < first {
                    tokio::time::sleep(GAP_RETRY).await;
                }
            }
            self.tail.publish_stored(batch)?;
        }
        Ok(last)
    }

    /// Polls the log for `time`. Stops early and returns `true` when an outage ends. Also stops early, but returns
    /// `false`, when all connections are discarded, for example because the address now points to another server.
    async fn poll(&mut self, time: Duration) -> Result<bool, StoreError> {
        let (end, server) = (Instant::now() + time, self.store.generation());
        let (mut pause, mut failed) = (SHORTEST_POLL, false);
        while Instant::now() < end && self.store.generation() == server {
            let before = self.tail.head();
            pause = match self.tail.read().await {
                Ok(_) if failed => return Ok(true),
                Ok(head) if head > before => SHORTEST_POLL,
                Ok(_) => (pause * 2).min(LONGEST_POLL),
                Err(error @ (StoreError::Trimmed | StoreError::Replaced)) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "the log cannot be read; trying again");
                    failed = true;
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
        self.polled |= !failed;
        Ok(false)
    }

    /// Records that the log is polled, and logs why. A permanent reason is logged unless it was the last one logged. A
    /// temporary reason is logged only once, and only after polling has worked: an outage or a failover fails polling
    /// too, and usually the stream starts again right after it.
    fn log_polling(&mut self, why: &StoreError) {
        *self.tail.following.lock() = Following::Polling;
        let is_new = self.polled && self.logged.is_none();
        if !is_new && !matches!(why, StoreError::CannotFollow(_)) {
            return;
        }
        let why = why.to_string();
        if self.logged.as_ref() != Some(&why) {
            tracing::warn!(
                why,
                every_ms = LONGEST_POLL.as_millis(),
                "reading the log instead of following the binary log"
            );
            (self.logged, self.logged_stream) = (Some(why), false);
        }
    }
}
