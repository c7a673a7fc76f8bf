//! The tail: the end of the log in memory. It publishes every offset once and in order.
//!
//! Batches come from the appender, from reads of the log ([`Tail::read`]) and, on a shared store, from the binary log.
//! The batch after the cursor is published when the first of these sources delivers it. A batch that is already
//! published is skipped. A batch that does not follow the cursor is rejected, and the missing batches are then read
//! from the log.

mod follower;
mod recent;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::hub::{Hub, Publication};
use crate::model::{Epoch, Offset};
use crate::store::{Batch, BatchKey, Following, LogPage, Store, StoreError};
use crate::telemetry::Metrics;

pub(crate) use self::follower::Follower;
pub(crate) use self::recent::{Recent, StreamPage};

/// Maximum number of batches in one read of the log.
const PAGE: u32 = 64;

/// The maximum number of offsets by which a ready replica's cursor may be behind the known head.
const MAX_LAG: u64 = 10_000;

/// How long a ready replica on a shared store may go without a successful read of the log or of the binary log.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the log may seem to end before the cursor. After this time the log counts as replaced, unless a read over
/// new connections to MySQL finds the end. The binary log can deliver a commit a moment before a query shows it.
const SHORT_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) struct Tail {
    store: Store,
    pub epoch: Epoch,
    /// Publishing waits for this lock, so hold it only briefly.
    pub recent: Mutex<Recent>,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    /// The last offset of the last batch published, or being published.
    cursor: AtomicU64,
    head: AtomicU64,
    /// Notified after each published batch, and after each call to [`Tail::set_indexed`] or [`Tail::trim`].
    moved: Notify,
    following: Mutex<Following>,
    /// When this replica last read the log, or a transaction with batches from the binary log.
    contact: Mutex<Instant>,
    /// Since when the log has seemed to end before the cursor; `None` if it does not.
    short_since: Mutex<Option<Instant>>,
}

impl Tail {
    /// The smiles up to `indexed` must be indexed or removed by retention. [`Tail::read`] loads the smiles after
    /// `indexed`.
    pub(crate) fn new(store: Store, epoch: Epoch, indexed: Offset, hub: Arc<Hub>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            store,
            epoch,
            recent: Mutex::new(Recent::new(indexed)),
            hub,
            metrics,
            cursor: AtomicU64::new(indexed.0),
            head: AtomicU64::new(indexed.0),
            moved: Notify::new(),
            following: Mutex::new(Following::Polling),
            contact: Mutex::new(Instant::now()),
            short_since: Mutex::default(),
        })
    }

    /// Publishes the batch that follows the cursor. Skips a batch that is already published.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the batch does not begin right after the cursor: batches in between are
    /// missing.
    pub(crate) fn publish(&self, key: BatchKey, batch: &[Arc<Publication>]) -> Result<(), StoreError> {
        let last = Offset(key.first.0 + batch.len() as u64 - 1);
        let mut recent = self.recent.lock();
        if last <= recent.end() {
            return Ok(());
        }
        if key.first != recent.end().next() {
            return Err(StoreError::Unavailable("the batches before this one have not been read".into()));
        }
        // The cursor must move before the first push: see `cursor`.
        self.head.fetch_max(last.0, Ordering::SeqCst);
        self.cursor.store(last.0, Ordering::SeqCst);
        let mut lagged = 0;
        recent.last = Some(key);
        for publication in batch {
            recent.push(publication);
            lagged += self.hub.push(publication);
        }
        drop(recent);
        self.metrics.lagged.inc_by(lagged);
        self.metrics.smiles_published.inc_by(batch.len() as u64);
        self.moved.notify_waiters();
        Ok(())
    }

    /// Publishes a batch from the log or the binary log.
    ///
    /// # Errors
    /// As [`Tail::publish`].
    pub(crate) fn publish_stored(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.last() <= self.cursor() {
            return Ok(());
        }
        let publications = batch.smiles.into_iter().map(|smile| Publication::stored(&self.store, smile));
        self.publish(batch.key, &publications.collect::<Vec<_>>())
    }

    /// Reads the log after the cursor, and publishes it up to its head. Returns the head.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when retention has removed offsets after the cursor, [`StoreError::Replaced`] when the
    /// log is a different one or has lost its end, else [`StoreError::Unavailable`].
    pub(crate) async fn read(&self) -> Result<Offset, StoreError> {
        match self.read_on().await {
            // The server may not be the primary, and its log may be stale: read once more over new connections.
            Err(StoreError::Trimmed | StoreError::Replaced) if self.store.connect_again() => self.read_on().await,
            read => read,
        }
    }

    async fn read_on(&self) -> Result<Offset, StoreError> {
        loop {
            let (last, cursor) = self.end();
            let page = self.store.read_log(cursor, PAGE).await.inspect_err(|_| *self.short_since.lock() = None)?;
            self.check(&page, cursor, last)?;
            self.trim(page.trimmed);
            self.head.fetch_max(page.head.0, Ordering::SeqCst);
            let full = page.batches.len() >= PAGE as usize;
            for batch in page.batches {
                self.publish_stored(batch)
                    .map_err(|_| StoreError::Unavailable("the log has a gap: was the table edited by hand?".into()))?;
            }
            self.record_contact();
            if !full {
                return Ok(page.head);
            }
        }
    }

    /// Checks that `page` comes from the log that this replica has published up to the offset `published`. Unless
    /// retention has removed `last`, the last published batch, the log must hold it with the same token. The log may
    /// end before `published` for up to [`SHORT_TIMEOUT`].
    ///
    /// # Errors
    /// [`StoreError::Trimmed`] when retention has removed offsets after `published`, [`StoreError::Replaced`] when the
    /// log was replaced, for example by a restore or by a primary that lacks the end of the log.
    fn check(&self, page: &LogPage, published: Offset, last: Option<BatchKey>) -> Result<(), StoreError> {
        if page.epoch != self.epoch {
            return Err(StoreError::Replaced);
        }
        if page.trimmed > published {
            return Err(StoreError::Trimmed);
        }
        let mut short_since = self.short_since.lock();
        if page.head >= published {
            *short_since = None;
            // The log may have lost its end and grown back to the cursor since.
            let is_same = page.trimmed >= published || last.is_none_or(|last| page.previous == Some(last.token));
            return if is_same { Ok(()) } else { Err(StoreError::Replaced) };
        }
        let since = *short_since.get_or_insert_with(Instant::now);
        if since.elapsed() > SHORT_TIMEOUT { Err(StoreError::Replaced) } else { Ok(()) }
    }

    pub(crate) fn end(&self) -> (Option<BatchKey>, Offset) {
        let recent = self.recent.lock();
        (recent.last, recent.end())
    }

    /// The last offset published or being published. Every offset up to it is committed. A session that subscribed
    /// before this call gets all later smiles of its user through its outbox, unless the outbox overflows.
    pub(crate) fn cursor(&self) -> Offset {
        Offset(self.cursor.load(Ordering::SeqCst))
    }

    /// The last offset known to be committed.
    pub(crate) fn head(&self) -> Offset {
        Offset(self.head.load(Ordering::SeqCst))
    }

    /// All offsets up to this one are indexed or removed by retention. The index in the store may reach further.
    pub(crate) fn indexed(&self) -> Offset {
        self.recent.lock().indexed
    }

    pub(crate) fn set_indexed(&self, indexed: Offset) {
        self.recent.lock().set_indexed(indexed);
        self.moved.notify_waiters();
    }

    pub(crate) fn trim(&self, trimmed: Offset) {
        self.recent.lock().trim(trimmed);
        self.moved.notify_waiters();
    }

    /// The number of smiles that are published but not indexed.
    pub(crate) fn index_lag(&self) -> u64 {
        self.cursor().0.saturating_sub(self.indexed().0)
    }

    /// Waits until `condition` holds. Checks it immediately, and again after each published batch and each call to
    /// [`Tail::set_indexed`] or [`Tail::trim`]. Cancel safe.
    pub(crate) async fn wait_for(&self, condition: impl Fn(&Self) -> bool) {
        loop {
            let moved = self.moved.notified();
            if condition(self) {
                return;
            }
            moved.await;
        }
    }

    pub(crate) fn is_current(&self) -> bool {
        let close = self.head().0.saturating_sub(self.cursor().0) <= MAX_LAG;
        close && (!self.store.is_shared() || self.contact.lock().elapsed() <= SILENCE_TIMEOUT)
    }

    /// How this replica follows the log; `None` if no other replica can append.
    pub(crate) fn following(&self) -> Option<Following> {
        self.store.is_shared().then(|| *self.following.lock())
    }

    fn record_contact(&self) {
        *self.contact.lock() = Instant::now();
    }
}
