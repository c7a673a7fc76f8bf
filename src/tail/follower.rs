//! How a replica hears of what the others append: from the database's binary log, or by reading the log again and again.
//!
//! Owns the choice between the two, and each of their ends. What either brings goes to the tail, which puts it in order
//! and fills gaps: a stream may begin late, end early or be refused, and nothing is lost by it. Must not know the hub.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

use super::{PAGE, Position};
use crate::model::{Epoch, Offset, Smile};
use crate::store::{Binlog, Following, Store, StoreError};
use crate::telemetry::Metrics;

/// From one reading of the log to the next, when there was something new and when there was not.
const SHORTEST_POLL: Duration = Duration::from_millis(2);
const LONGEST_POLL: Duration = Duration::from_millis(10);

/// How long to wait before the log is read again after that failed.
const RETRY: Duration = Duration::from_millis(250);

/// From one reading of the log to the next while the binary log is followed: a stream that leaves something out, however
/// that comes, is found out and given up.
const CHECK: Duration = Duration::from_secs(1);

/// How long the log may be shorter than what was published of it. Who is told of a commit by the binary log can know it a
/// moment before a query shows it.
const SHORT_AT_MOST: Duration = Duration::from_secs(5);

/// How long the log is read before the binary log is tried again: doubled from failure to failure.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// A stream that lasted for this long was no failure.
const LASTING: Duration = Duration::from_mins(1);

/// What follows the log for the tail.
#[derive(Debug)]
pub(super) struct Follower {
    store: Store,
    /// Which log this is.
    epoch: Epoch,
    position: Position,
    metrics: Arc<Metrics>,
    seen: mpsc::Sender<Vec<Smile>>,
    /// What was last said of it, so that it is said once.
    said: Option<String>,
    /// Whether it was said that the log cannot be read.
    unreadable: bool,
    /// Since when the log has been shorter than what was published of it.
    short_since: Option<Instant>,
}

impl Follower {
    pub(super) fn new(
        store: Store,
        epoch: Epoch,
        position: Position,
        metrics: Arc<Metrics>,
        seen: mpsc::Sender<Vec<Smile>>,
    ) -> Self {
        Self { store, epoch, position, metrics, seen, said: None, unreadable: false, short_since: None }
    }

    /// Follows for ever. What is new goes to the tail; it waits while the tail is busy.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`]: retention overtook the tail. [`StoreError::Replaced`]: it follows another log by now.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        if !self.store.is_shared() {
            return std::future::pending().await;
        }
        let mut pause = SHORTEST_PAUSE;
        loop {
            let opened = Instant::now();
            let ended = match self.store.open_binlog().await {
                Ok(binlog) => self.stream(binlog).await,
                Err(error) => error,
            };
            pause = match ended {
                error @ (StoreError::Trimmed | StoreError::Replaced) => return Err(error),
                StoreError::CannotFollow(_) => LONGEST_PAUSE,
                _ if opened.elapsed() > LASTING => SHORTEST_PAUSE,
                _ => (pause * 2).min(LONGEST_PAUSE),
            };
            self.say_polling(&ended);
            self.poll(pause).await?;
        }
    }

    /// Passes on what the binary log brings, until it ends; returns why.
    async fn stream(&mut self, mut binlog: Binlog) -> StoreError {
        // What came before the stream began.
        let mut streamed = match self.read().await {
            Ok(head) => head,
            Err(error) => return error,
        };
        let mut overdue = streamed;
        self.follow_by(Following::Binlog);
        self.said = None;
        tracing::info!("following the binary log");
        let mut check = tokio::time::interval(CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        check.reset();
        loop {
            tokio::select! {
                // After a time in which nothing ran, what the stream has brought meanwhile comes first.
                biased;
                smiles = binlog.next() => match smiles {
                    Ok(smiles) => {
                        self.position.heard();
                        streamed = smiles.last().map_or(streamed, |last| streamed.max(last.offset));
                        self.pass_on(smiles, streamed).await;
                    }
                    Err(error) => return error,
                },
                _ = check.tick() => {
                    if streamed < overdue {
                        return StoreError::Unavailable("the replication stream has left something out".into());
                    }
                    if let Err(error) = self.is_the_same_log().await {
                        return error;
                    }
                    overdue = match self.read().await {
                        Ok(head) => head,
                        Err(error) => return error,
                    };
                }
            }
        }
    }

    /// Reads the log again and again, for so long.
    async fn poll(&mut self, time: Duration) -> Result<(), StoreError> {
        let end = Instant::now() + time;
        let (mut pause, mut checked_at) = (SHORTEST_POLL, Instant::now());
        while Instant::now() < end {
            if checked_at.elapsed() >= CHECK {
                self.is_the_same_log().await?;
                checked_at = Instant::now();
            }
            let before = self.position.head();
            let read = self.read().await;
            self.say_unreadable(read.as_ref().err());
            pause = match read {
                Ok(head) if head > before => SHORTEST_POLL,
                Ok(_) => (pause * 2).min(LONGEST_POLL),
                Err(StoreError::Trimmed) => return Err(StoreError::Trimmed),
                Err(_) => RETRY,
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    /// Nothing of what was published can be gone from the log, and the log cannot be another one, unless somebody has put
    /// other data in the place of the database's.
    async fn is_the_same_log(&mut self) -> Result<(), StoreError> {
        let published = self.position.get();
        // Whether the store answers is noticed elsewhere.
        let Ok(log) = self.store.log_state().await else { return Ok(()) };
        if log.epoch != self.epoch {
            return Err(StoreError::Replaced);
        }
        if log.head >= published {
            self.short_since = None;
            return Ok(());
        }
        let since = self.short_since.get_or_insert_with(Instant::now);
        if since.elapsed() > SHORT_AT_MOST { Err(StoreError::Replaced) } else { Ok(()) }
    }

    /// Reads the log from the tail's cursor to its end, page by page, and returns where that was.
    async fn read(&self) -> Result<Offset, StoreError> {
        let mut after = self.position.get();
        loop {
            let page = self.store.read_log(after, PAGE).await?;
            self.position.heard();
            let full = page.smiles.len() >= PAGE as usize;
            after = page.smiles.last().map_or(after, |last| last.offset);
            self.pass_on(page.smiles, page.head).await;
            if !full {
                return Ok(page.head);
            }
        }
    }

    async fn pass_on(&self, smiles: Vec<Smile>, head: Offset) {
        self.position.head_is_at(head);
        if !smiles.is_empty() {
            // The tail only ends with the process; then nobody listens.
            let _ = self.seen.send(smiles).await;
        }
    }

    fn follow_by(&self, following: Following) {
        self.position.set_following(following);
        self.metrics.following_binlog.set((following == Following::Binlog).into());
    }

    /// Says once that the log cannot be read, and once that it can again.
    fn say_unreadable(&mut self, why: Option<&StoreError>) {
        match why {
            Some(error) if !self.unreadable => {
                tracing::warn!(%error, "the log cannot be read; trying again until it can");
            }
            None if self.unreadable => tracing::info!("the log can be read again"),
            _ => {}
        }
        self.unreadable = why.is_some();
    }

    fn say_polling(&mut self, why: &StoreError) {
        self.follow_by(Following::Polling);
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
