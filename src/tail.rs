//! The end of the log as this replica knows it: every offset is published here once, in order.
//!
//! What this replica appended comes from the appender; on a shared log, what other replicas appended comes from the
//! follower. Whichever brings the batch that follows the cursor first, publishes it; a batch that was published is passed
//! over, and one that does not follow is refused, so that its bearer reads what is missing from the log.

mod follower;
mod recent;

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::recent::Recent;
use crate::hub::{Hub, Publication};
use crate::model::{Epoch, Offset, Smile, UserName};
use crate::store::{Batch, BatchKey, Following, IdHash, LogState, Store, StoreError};
use crate::telemetry::Metrics;

pub use self::follower::Follower;

/// Batches in one read of the log.
const PAGE: u32 = 64;

/// How far a ready replica may be behind the head that it knows of, in offsets.
const CLOSE_TO_HEAD: u64 = 10_000;

/// How long a ready replica may hear nothing of what other replicas append, not even that it is nothing.
const DEAF_AFTER: Duration = Duration::from_secs(5);

/// How long the log may be shorter than what was published of it. A replica that follows the binary log can know a commit
/// a moment before a query shows it.
const SHORT_AT_MOST: Duration = Duration::from_secs(5);

/// A batch does not follow what is published: some before it are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing;

/// What is known of a batch of new smiles at one moment.
#[derive(Debug)]
pub struct TailView {
    /// The last offset that is published. A batch that is judged by this view follows it.
    pub cursor: Offset,
    /// The batch that ends there, if the log has one.
    pub last: Option<BatchKey>,
    /// Up to here the index has to be asked, too.
    pub indexed: Offset,
    /// For each smile, the offset of the one with the same sender and id between `indexed` and `cursor`.
    pub known: Vec<Option<Offset>>,
}

/// A part of one user's stream.
#[derive(Clone, Debug)]
pub struct StreamPage {
    /// In the order of the log.
    pub smiles: Vec<Arc<Publication>>,
    /// The stream has nothing else up to here; always above where the page begins.
    pub through: Offset,
}

/// The end of the log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Tail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    epoch: Epoch,
    recent: Mutex<Recent>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// The last offset of the batch being published, or published last.
    cursor: AtomicU64,
    /// The last offset known to be committed.
    head: AtomicU64,
    /// The last offset that the index has.
    indexed: AtomicU64,
    /// The last offset that retention is known to have removed.
    trimmed: AtomicU64,
    /// Something was published, or indexed.
    moved: Notify,
    /// Whether other replicas append, and whether the binary log tells of it.
    following: AtomicU8,
    /// When the log was last heard of: in milliseconds since `start`.
    start: Instant,
    heard_at: AtomicU64,
    /// Since when the log has been shorter than what was published of it.
    short_since: Mutex<Option<Instant>>,
}

/// What [`Shared::following`] may be.
const ALONE: u8 = 0;
const POLLING: u8 = 1;
const BINLOG: u8 = 2;

impl Tail {
    /// The end of a log that is indexed up to `indexed` and has nothing after it that is known yet: see [`Tail::read`].
    #[must_use]
    pub fn new(store: Store, epoch: Epoch, indexed: Offset, hub: Arc<Hub>, metrics: Arc<Metrics>) -> Self {
        let following = AtomicU8::new(if store.is_shared() { POLLING } else { ALONE });
        let shared = Shared {
            store,
            epoch,
            recent: Mutex::new(Recent::new(indexed)),
            hub,
            metrics,
            cursor: AtomicU64::new(indexed.0),
            head: AtomicU64::new(indexed.0),
            indexed: AtomicU64::new(indexed.0),
            trimmed: AtomicU64::new(0),
            moved: Notify::new(),
            following,
            start: Instant::now(),
            heard_at: AtomicU64::new(0),
            short_since: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Publishes the batch that follows the cursor. One that was published before is passed over.
    ///
    /// # Errors
    /// [`Missing`] when batches between the cursor and this one were not published yet.
    pub fn publish(&self, key: BatchKey, batch: &[(Arc<Publication>, IdHash)]) -> Result<(), Missing> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        let (first, last) = (first.0.smile.offset, last.0.smile.offset);
        let mut recent = self.recent();
        if last <= recent.end() {
            return Ok(());
        }
        if first != recent.end().next() {
            return Err(Missing);
        }
        // The cursor moves before the first push: see `cursor`.
        self.shared.head.fetch_max(last.0, Ordering::SeqCst);
        self.shared.cursor.store(last.0, Ordering::SeqCst);
        let mut lagged = 0;
        recent.ends_with(key);
        for (publication, hash) in batch {
            recent.push(publication, *hash);
            lagged += self.shared.hub.publish(publication);
        }
        drop(recent);
        self.shared.metrics.lagged.inc_by(lagged);
        self.shared.metrics.smiles_published.inc_by(batch.len() as u64);
        self.has_moved();
        Ok(())
    }

    /// Publishes a batch that another replica appended, or that was read from the log.
    ///
    /// # Errors
    /// As [`Tail::publish`].
    pub fn publish_stored(&self, batch: Batch) -> Result<(), Missing> {
        let Some(key) = batch.key() else { return Ok(()) };
        if batch.smiles.last().is_none_or(|last| last.offset <= self.cursor()) {
            return Ok(());
        }
        self.publish(key, &self.publications(batch.smiles))
    }

    fn publications(&self, smiles: Vec<Smile>) -> Vec<(Arc<Publication>, IdHash)> {
        let hash = |smile: &Smile| self.shared.store.id_hash(&smile.from, &smile.id);
        let hashed = smiles.into_iter().map(|smile| (hash(&smile), smile));
        hashed.map(|(hash, smile)| (Arc::new(Publication::new(smile, None)), hash)).collect()
    }

    /// The log is known to go on from `batch`, of which the index may have a part. Call it once, before anything is
    /// published.
    pub fn starts_with(&self, batch: Batch) {
        let Some(key) = batch.key() else { return };
        let start = self.cursor();
        self.recent().ends_with(key);
        let rest = batch.smiles.into_iter().filter(|smile| smile.offset > start).collect();
        // It follows the start, so nothing is missing.
        let _ = self.publish(key, &self.publications(rest));
    }

    /// Reads the log from the cursor to its end, publishes what it reads, and returns where the log ended.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when retention has removed what comes after the cursor, [`StoreError::Replaced`] when the log
    /// is another one or has lost its end, else [`StoreError::Unavailable`].
    pub async fn read(&self) -> Result<Offset, StoreError> {
        let read = self.read_on().await;
        match &self.shared.store {
            // A server that is no longer the primary, or not yet, is no judge: its log may be shorter, or an older one.
            Store::MySql(store) if matches!(read, Err(StoreError::Trimmed | StoreError::Replaced)) => {
                store.connect_again();
                self.read_on().await
            }
            _ => read,
        }
    }

    async fn read_on(&self) -> Result<Offset, StoreError> {
        loop {
            let cursor = self.cursor();
            let page = self.shared.store.read_log(cursor, PAGE).await?;
            self.check(&page.state, cursor)?;
            self.heard();
            self.shared.head.fetch_max(page.state.head.0, Ordering::SeqCst);
            let full = page.batches.len() >= PAGE as usize;
            for batch in page.batches {
                if self.publish_stored(batch) == Err(Missing) {
                    return Err(StoreError::Unavailable("the log has a gap: it was changed by hand".into()));
                }
            }
            if !full {
                return Ok(page.state.head);
            }
        }
    }

    /// Nothing of what was published can be gone from the log, and the log cannot be another one, unless somebody has put
    /// other data in the place of the database's.
    fn check(&self, log: &LogState, published: Offset) -> Result<(), StoreError> {
        if log.epoch != self.shared.epoch {
            return Err(StoreError::Replaced);
        }
        if log.trimmed > published {
            return Err(StoreError::Trimmed);
        }
        self.trim(log.trimmed);
        let mut short_since = self.shared.short_since.lock().unwrap_or_else(PoisonError::into_inner);
        if log.head >= published {
            *short_since = None;
            return Ok(());
        }
        let since = *short_since.get_or_insert_with(Instant::now);
        if since.elapsed() > SHORT_AT_MOST { Err(StoreError::Replaced) } else { Ok(()) }
    }

    /// Everything up to here is in the log, and everything above it will be pushed to a session that subscribed before
    /// it asked. So a session that subscribes first and asks then misses nothing after the answer.
    #[must_use]
    pub fn cursor(&self) -> Offset {
        Offset(self.shared.cursor.load(Ordering::SeqCst))
    }

    /// The last offset that is known to be committed.
    #[must_use]
    pub fn head(&self) -> Offset {
        Offset(self.shared.head.load(Ordering::SeqCst))
    }

    /// The last offset that the index has.
    #[must_use]
    pub fn indexed(&self) -> Offset {
        Offset(self.shared.indexed.load(Ordering::SeqCst))
    }

    /// Looks which of the smiles with these hashes are repeats, at one moment.
    #[must_use]
    pub fn look_up(&self, hashes: &[IdHash]) -> TailView {
        let recent = self.recent();
        let known = hashes.iter().map(|hash| recent.find(*hash)).collect();
        TailView { cursor: recent.end(), last: recent.last(), indexed: recent.indexed(), known }
    }

    /// The published smiles after `after` and up to `until`; `None` unless all of them are in memory.
    #[must_use]
    pub fn range(&self, after: Offset, until: Offset) -> Option<Vec<Arc<Publication>>> {
        self.recent().range(after, until).map(|smiles| smiles.cloned().collect())
    }

    /// The hashes of the published smiles up to `until` that are not indexed, in order; `None` unless all of them are known.
    #[must_use]
    pub fn hashes(&self, until: Offset) -> Option<Vec<IdHash>> {
        self.recent().hashes(until).map(Iterator::collect)
    }

    /// A page of a user's stream after `after` and up to `until`; `None` when memory does not reach back to there.
    #[must_use]
    pub fn stream(&self, user: &UserName, after: Offset, until: Offset, limit: usize) -> Option<StreamPage> {
        let recent = self.recent();
        let stream = recent.stream(user, after)?.take_while(|publication| publication.smile.offset <= until);
        let smiles: Vec<_> = stream.take(limit).cloned().collect();
        let full = smiles.last().filter(|_| smiles.len() == limit);
        let through = full.map_or(until, |last| last.smile.offset);
        Some(StreamPage { smiles, through })
    }

    /// The newest `limit` smiles between two users before `before`, the newest first, and the offset after which all of
    /// them are in memory.
    #[must_use]
    pub fn conversation(&self, users: (&UserName, &UserName), before: Offset, limit: usize) -> (Vec<Smile>, Offset) {
        let (smiles, after) = self.recent().conversation(users, before, limit);
        (smiles.iter().map(|publication| publication.smile.clone()).collect(), after)
    }

    /// The index has everything up to `indexed`.
    pub fn index_reaches(&self, indexed: Offset) {
        let mut recent = self.recent();
        recent.index_reaches(indexed);
        self.shared.indexed.store(recent.indexed().0, Ordering::SeqCst);
        drop(recent);
        self.has_moved();
    }

    /// Retention has removed everything up to `trimmed`: memory does the same.
    pub fn trim(&self, trimmed: Offset) {
        let mut recent = self.recent();
        recent.trim(trimmed);
        self.shared.indexed.store(recent.indexed().0, Ordering::SeqCst);
        self.shared.trimmed.fetch_max(trimmed.0, Ordering::SeqCst);
    }

    /// The last offset that retention is known to have removed.
    #[must_use]
    pub fn trimmed(&self) -> Offset {
        Offset(self.shared.trimmed.load(Ordering::SeqCst))
    }

    fn has_moved(&self) {
        let behind = i64::try_from(self.behind()).unwrap_or(i64::MAX);
        self.shared.metrics.index_behind.set(behind);
        self.shared.moved.notify_waiters();
    }

    /// By how many smiles the index is behind.
    #[must_use]
    pub fn behind(&self) -> u64 {
        self.cursor().0.saturating_sub(self.indexed().0)
    }

    /// Waits until `condition` holds, which is asked again whenever something was published or indexed.
    pub async fn when(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let moved = self.shared.moved.notified();
            if condition(self) {
                return;
            }
            moved.await;
        }
    }

    /// Whether the tail is close to the head, and hears of it.
    #[must_use]
    pub fn keeps_up(&self) -> bool {
        let close = self.head().0.saturating_sub(self.cursor().0) <= CLOSE_TO_HEAD;
        let heard_at = Duration::from_millis(self.shared.heard_at.load(Ordering::Relaxed));
        let hears = self.following().is_none() || self.shared.start.elapsed().saturating_sub(heard_at) <= DEAF_AFTER;
        close && hears
    }

    /// How this replica hears of what other replicas append; `None` where there are none.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        match self.shared.following.load(Ordering::Relaxed) {
            POLLING => Some(Following::Polling),
            BINLOG => Some(Following::Binlog),
            _ => None,
        }
    }

    fn follow_by(&self, following: Following) {
        let how = match following {
            Following::Polling => POLLING,
            Following::Binlog => BINLOG,
        };
        self.shared.following.store(how, Ordering::Relaxed);
        self.shared.metrics.following_binlog.set((following == Following::Binlog).into());
    }

    fn heard(&self) {
        let milliseconds = u64::try_from(self.shared.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.heard_at.store(milliseconds, Ordering::Relaxed);
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.shared.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
