//! How a replica hears of what other replicas append: from the database's binary log, or by reading the log again and
//! again.
//!
//! What either brings goes to the tail, which puts it in order. A stream may begin late, end early or be refused, and
//! nothing is lost by it: what is missing is read from the log.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::Tail;
use crate::model::Offset;
use crate::store::{Batch, Binlog, Following, MySql, StoreError};

/// From one reading of the log to the next, when there was something new and when there was not.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// How long to wait before the log is read again after that failed.
const RETRY: Duration = Duration::from_millis(250);

/// From one reading of the log to the next while the binary log is followed: a stream that leaves something out, however
/// that comes, is found out and given up.
const CHECK: Duration = Duration::from_secs(1);

/// How long the log is read before the binary log is tried again: doubled from failure to failure. A stream that lasted
/// for longer than the pause before it was no failure.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How long it is read where the binary log of the server cannot be followed.
const NOT_HERE: Duration = Duration::from_mins(1);

/// How long to wait for a batch before one that the binary log has told of: a query may show a commit a moment later.
const NOT_YET: Duration = Duration::from_millis(5);
const NOT_YET_AT_MOST: Duration = Duration::from_secs(1);

/// What follows a shared log for the tail.
#[derive(Debug)]
pub struct Follower {
    store: MySql,
    tail: Tail,
    /// What was last said of it, so that it is said once.
    said: Option<String>,
}

impl Follower {
    /// Follows the log of `store` for `tail`.
    #[must_use]
    pub fn new(store: MySql, tail: Tail) -> Self {
        Self { store, tail, said: None }
    }

    /// Follows for ever.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`]: retention overtook the tail. [`StoreError::Replaced`]: it follows another log by now.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let opened = Instant::now();
            let ended = match self.store.open_binlog().await {
                Ok(binlog) => self.stream(binlog).await,
                Err(error) => error,
            };
            pause = match ended {
                error @ (StoreError::Trimmed | StoreError::Replaced) => return Err(error),
                StoreError::CannotFollow(_) => NOT_HERE,
                _ if opened.elapsed() > pause => SHORTEST_PAUSE,
                _ => (pause * 2).min(LONGEST_PAUSE),
            };
            self.say_polling(&ended);
            self.poll(pause).await?;
        }
    }

    /// Publishes what the binary log brings, until it ends; returns why.
    async fn stream(&mut self, mut binlog: Binlog) -> StoreError {
        // What came before the stream began.
        let mut streamed = match self.tail.read().await {
            Ok(head) => head,
            Err(error) => return error,
        };
        let mut overdue = streamed;
        self.tail.follow_by(Following::Binlog);
        self.said = None;
        tracing::info!("following the binary log");
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.reset();
        loop {
            tokio::select! {
                // After a time in which nothing ran, what the stream has brought meanwhile comes first.
                biased;
                batches = binlog.next() => match self.publish(batches).await {
                    Ok(last) => streamed = streamed.max(last),
                    Err(error) => return error,
                },
                _ = check.tick() => {
                    if streamed < overdue {
                        return StoreError::Unavailable("the replication stream has left something out".into());
                    }
                    overdue = match self.tail.read().await {
                        Ok(head) => head,
                        Err(error) => return error,
                    };
                }
            }
        }
    }

    /// Publishes the batches of one transaction; returns the last offset of them.
    async fn publish(&self, batches: Result<Vec<Batch>, StoreError>) -> Result<Offset, StoreError> {
        let mut last = Offset::default();
        self.tail.heard();
        for batch in batches? {
            let (Some(first), Some(end)) = (batch.smiles.first(), batch.smiles.last()) else { continue };
            let first = first.offset;
            last = end.offset;
            let deadline = Instant::now() + NOT_YET_AT_MOST;
            while self.tail.cursor().next() < first {
                if Instant::now() > deadline {
                    return Err(StoreError::Unavailable("batches before a streamed one cannot be read".into()));
                }
                self.tail.read().await?;
                if self.tail.cursor().next() < first {
                    tokio::time::sleep(NOT_YET).await;
                }
            }
            let published = self.tail.publish_stored(batch);
            debug_assert_eq!(published, Ok(()), "the cursor only grows");
        }
        Ok(last)
    }

    /// Reads the log again and again, for so long, or until the server is another one.
    async fn poll(&mut self, time: Duration) -> Result<(), StoreError> {
        let (end, server) = (Instant::now() + time, self.store.generation());
        let mut pause = SHORTEST_POLL;
        while Instant::now() < end && self.store.generation() == server {
            let before = self.tail.head();
            let read = self.tail.read().await;
            pause = match read {
                Ok(head) if head > before => SHORTEST_POLL,
                Ok(_) => (pause * 2).min(LONGEST_POLL),
                Err(error @ (StoreError::Trimmed | StoreError::Replaced)) => return Err(error),
                Err(error) => {
                    tracing::debug!(%error, "the log cannot be read; trying again until it can");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// What passes by itself has one line until the binary log is followed again, whatever errors an outage shows.
    fn say_polling(&mut self, why: &StoreError) {
        self.tail.follow_by(Following::Polling);
        if self.said.is_some() && !matches!(why, StoreError::CannotFollow(_)) {
            return;
        }
        let why = why.to_string();
        if self.said.as_ref() != Some(&why) {
            tracing::warn!(
                why,
                every_ms = LONGEST_POLL.as_millis(),
                "reading the log instead of following the binary log"
            );
            self.said = Some(why);
        }
    }
}
