//! Following the log: the one task per replica that publishes every offset, once, in order.
//!
//! Owns the cursor. What this replica appended is handed over in memory, which saves reading it again; what others
//! appended comes from whatever follows the log. Both wait in the backlog until everything before them is published, and
//! what neither brings in time is read from the log. Must not know who listens.

mod backlog;
mod follower;

use std::collections::HashSet;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use self::backlog::{Backlog, Next};
use self::follower::Follower;
use crate::hub::{Hub, Publication};
use crate::model::{Epoch, NewSmile, Offset, Smile, SmileId, UserName};
use crate::store::{Following, LogState, Store, StoreError};
use crate::telemetry::Metrics;

/// Batches that may wait to be published, of each source. When they do, appending waits too, and that sheds.
const BATCHES: usize = 16;

/// Smiles in one read of the log.
const PAGE: u32 = 1000;

/// Smiles that may wait for those before them. Past it, nothing more is taken from what follows the log.
const BACKLOG: usize = 16 * PAGE as usize;

/// How far a ready replica may be behind the head that it knows of, in offsets.
const CLOSE_TO_HEAD: u64 = 10_000;

/// How long a ready replica may hear nothing of what the others append, not even that it is nothing.
const DEAF_AFTER: Duration = Duration::from_secs(5);

/// How long missing smiles are waited for before they are read from the log: the binary log tells of commits in their
/// order, and a little later than the commit's own answer.
const ON_THEIR_WAY: Duration = Duration::from_millis(5);

/// How long to wait before the log is read again after that failed.
const RETRY: Duration = Duration::from_millis(250);

/// Where the tail is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Position {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// The last offset of the batch being published, or published last.
    cursor: AtomicU64,
    /// The last offset known to be committed.
    head: AtomicU64,
    /// Whether others append, and whether the binary log tells of it.
    following: AtomicU8,
    /// When the log was last heard of: in milliseconds since `start`.
    start: Instant,
    heard_at: AtomicU64,
}

/// What [`Shared::following`] may be.
const ALONE: u8 = 0;
const POLLING: u8 = 1;
const BINLOG: u8 = 2;

impl Position {
    fn new(start: Offset, shared: bool) -> Self {
        let following = AtomicU8::new(if shared { POLLING } else { ALONE });
        let (cursor, head) = (AtomicU64::new(start.0), AtomicU64::new(start.0));
        let shared = Shared { cursor, head, following, start: Instant::now(), heard_at: AtomicU64::new(0) };
        Self { shared: Arc::new(shared) }
    }

    /// Everything up to here is in the log, and everything above it will be pushed to a session that subscribed before
    /// it asked. So a session that subscribes first and asks then misses nothing after the answer.
    #[must_use]
    pub fn get(&self) -> Offset {
        Offset(self.shared.cursor.load(Ordering::SeqCst))
    }

    /// The last offset that is known to be committed.
    #[must_use]
    pub fn head(&self) -> Offset {
        Offset(self.shared.head.load(Ordering::SeqCst))
    }

    /// Whether the tail is close to the head, and hears of it.
    #[must_use]
    pub fn keeps_up(&self) -> bool {
        let close = self.head().0.saturating_sub(self.get().0) <= CLOSE_TO_HEAD;
        let heard_at = Duration::from_millis(self.shared.heard_at.load(Ordering::Relaxed));
        let hears = self.following().is_none() || self.shared.start.elapsed().saturating_sub(heard_at) <= DEAF_AFTER;
        close && hears
    }

    /// How this replica hears of what others append; `None` where there are no others.
    #[must_use]
    pub fn following(&self) -> Option<Following> {
        match self.shared.following.load(Ordering::Relaxed) {
            POLLING => Some(Following::Polling),
            BINLOG => Some(Following::Binlog),
            _ => None,
        }
    }

    fn set_following(&self, following: Following) {
        let following = match following {
            Following::Polling => POLLING,
            Following::Binlog => BINLOG,
        };
        self.shared.following.store(following, Ordering::Relaxed);
    }

    fn heard(&self) {
        let milliseconds = u64::try_from(self.shared.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.shared.heard_at.store(milliseconds, Ordering::Relaxed);
    }

    fn head_is_at(&self, head: Offset) {
        self.shared.head.fetch_max(head.0, Ordering::SeqCst);
    }
}

/// The entrance for what this replica appended.
#[derive(Debug)]
pub struct Batches {
    queue: mpsc::Sender<Vec<Arc<Publication>>>,
    position: Position,
    /// `None` where nobody looks at the log while this replica appends.
    under_way: Option<UnderWay>,
}

/// The smiles this replica is appending. Whoever follows a shared log may see them before their senders are told; they
/// are held back until then.
type UnderWay = Arc<Mutex<HashSet<(UserName, SmileId)>>>;

impl Batches {
    /// Says what is about to be appended. Call it before, and [`Batches::append_ended`] when the senders are told.
    pub fn append_begins(&self, smiles: &[NewSmile]) {
        if let Some(under_way) = &self.under_way {
            let keys = smiles.iter().map(|smile| (smile.from.clone(), smile.id.clone()));
            lock(under_way).extend(keys);
        }
    }

    /// The senders of what was announced have been told: hands over what was committed, in the order of the log. Waits
    /// while the tail is busy.
    pub async fn append_ended(&self, stored: Vec<Arc<Publication>>) {
        if let Some(under_way) = &self.under_way {
            lock(under_way).clear();
        } else if stored.is_empty() {
            return;
        }
        if let Some(last) = stored.last() {
            self.position.head_is_at(last.smile.offset);
        }
        // Also when it is empty: something may have been held back. The tail only ends with the process; then nobody
        // listens.
        let _ = self.queue.send(stored).await;
    }
}

/// The one task that publishes.
#[derive(Debug)]
pub struct Tail {
    batches: mpsc::Receiver<Vec<Arc<Publication>>>,
    under_way: UnderWay,
    backlog: Backlog,
    /// When what is missing will be read from the log.
    read_at: Option<Instant>,
    epoch: Epoch,
    position: Position,
    store: Store,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
}

impl Tail {
    /// A tail that starts at the head of the log as the replica found it.
    #[must_use]
    pub fn new(log: &LogState, store: Store, hub: Arc<Hub>, metrics: Arc<Metrics>) -> (Self, Batches, Position) {
        let (queue, batches) = mpsc::channel(BATCHES);
        let (position, epoch) = (Position::new(log.head, store.is_shared()), log.epoch.clone());
        let under_way = UnderWay::default();
        let entrance =
            Batches { queue, position: position.clone(), under_way: store.is_shared().then(|| Arc::clone(&under_way)) };
        let backlog = Backlog::default();
        let tail =
            Self { batches, under_way, backlog, read_at: None, epoch, position: position.clone(), store, hub, metrics };
        (tail, entrance, position)
    }

    /// Publishes until every [`Batches`] is dropped.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`]: retention overtook the tail, so it cannot go on without a hole.
    /// [`StoreError::Replaced`]: the log is another one now, or has lost its end.
    pub async fn run(mut self) -> Result<(), StoreError> {
        let (seen, others) = mpsc::channel(BATCHES);
        let (store, position) = (self.store.clone(), self.position.clone());
        let follower = Follower::new(store, self.epoch.clone(), position, Arc::clone(&self.metrics), seen);
        tokio::select! {
            ended = self.publish_all(others) => ended,
            ended = follower.run() => ended,
        }
    }

    async fn publish_all(&mut self, mut others: mpsc::Receiver<Vec<Smile>>) -> Result<(), StoreError> {
        loop {
            let read_at = self.read_at;
            tokio::select! {
                batch = self.batches.recv() => match batch {
                    Some(batch) => self.add(batch),
                    None => return Ok(()),
                },
                Some(smiles) = others.recv(), if self.backlog.len() < BACKLOG => self.add_seen(smiles),
                () = sleep_until(read_at), if read_at.is_some() => self.read().await?,
            }
            self.advance();
        }
    }

    fn add(&mut self, batch: Vec<Arc<Publication>>) {
        let cursor = self.position.get();
        for publication in batch {
            self.backlog.add(cursor, publication);
        }
    }

    fn add_seen(&mut self, smiles: Vec<Smile>) {
        self.add(smiles.into_iter().map(|smile| Arc::new(Publication::new(smile, None))).collect());
    }

    /// Reads from the log what neither source has brought.
    async fn read(&mut self) -> Result<(), StoreError> {
        self.read_at = None;
        match self.store.read_log(self.position.get(), PAGE).await {
            Ok(page) => self.add_seen(page.smiles),
            Err(StoreError::Trimmed) => return Err(StoreError::Trimmed),
            Err(error) => {
                tracing::warn!(%error, "the tail cannot read the log; trying again");
                self.read_at = Some(Instant::now() + RETRY);
            }
        }
        Ok(())
    }

    /// Publishes what comes right after the cursor, up to what this replica is still appending, and sees to it that what
    /// is missing then does not stay so.
    fn advance(&mut self) {
        let run = {
            let under_way = lock(&self.under_way);
            // What was handed over was told to its senders; a repeat of it may be under way.
            let held_back = |publication: &Publication| {
                let smile = &publication.smile;
                publication.admitted_at.is_none() && under_way.contains(&(smile.from.clone(), smile.id.clone()))
            };
            self.backlog.take(self.position.get(), held_back)
        };
        self.publish(&run);
        match self.backlog.next(self.position.get()) {
            Next::Missing => {
                let patience = match self.position.following() {
                    Some(Following::Binlog) => ON_THEIR_WAY,
                    _ => Duration::ZERO,
                };
                self.read_at.get_or_insert_with(|| Instant::now() + patience);
            }
            Next::Nothing | Next::Follows => self.read_at = None,
        }
    }

    /// Pushes a batch. The cursor moves first: see [`Position::get`].
    fn publish(&self, batch: &[Arc<Publication>]) {
        let Some(last) = batch.last() else { return };
        self.position.shared.cursor.store(last.smile.offset.0, Ordering::SeqCst);
        for publication in batch {
            self.metrics.lagged.inc_by(self.hub.publish(publication));
        }
        self.metrics.smiles_published.inc_by(batch.len() as u64);
    }
}

/// The wait for something that may not be planned.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn lock(under_way: &UnderWay) -> MutexGuard<'_, HashSet<(UserName, SmileId)>> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreUrl;
    use crate::hub::{Push, Subscription};
    use crate::model::{Faces, Timestamp};

    struct Replica {
        start: LogState,
        store: Store,
        batches: Batches,
        position: Position,
        bruno: Subscription,
        _folder: tempfile::TempDir,
    }

    async fn replica() -> Replica {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&StoreUrl::Sqlite(folder.path().join("chat.db")), None).await.unwrap();
        let hub = Arc::new(Hub::default());
        let bruno = hub.subscribe(store.user("bruno").unwrap());
        let start = store.log_state().await.unwrap();
        let (tail, batches, position) = Tail::new(&start, store.clone(), hub, Arc::new(Metrics::new()));
        tokio::spawn(tail.run());
        Replica { start, store, batches, position, bruno, _folder: folder }
    }

    impl Replica {
        /// Appends smiles and returns them as the log would hand them over.
        async fn append(&self, ids: &[&str]) -> Vec<Arc<Publication>> {
            let before = self.store.log_state().await.unwrap().head;
            let (from, to) = (self.store.user("anna").unwrap(), self.store.user("bruno").unwrap());
            let smile = |id: &&str| NewSmile {
                id: SmileId::parse(id).unwrap(),
                from: from.clone(),
                to: to.clone(),
                faces: Faces::parse("😀").unwrap(),
            };
            let smiles: Vec<_> = ids.iter().map(smile).collect();
            self.store.append(&smiles, Timestamp::now()).await.unwrap();
            let page = self.store.read_log(before, 1000).await.unwrap();
            page.smiles.into_iter().map(|smile: Smile| Arc::new(Publication::new(smile, None))).collect()
        }

        async fn receives(&mut self, count: usize) -> Vec<u64> {
            let mut offsets = Vec::new();
            while offsets.len() < count {
                match self.bruno.next().await.unwrap() {
                    Push::Publication(publication) => offsets.push(publication.smile.offset.0),
                    Push::Outcome(..) | Push::HandOver => {}
                }
            }
            offsets
        }
    }

    #[tokio::test]
    async fn batches_in_order_are_published_as_they_are() {
        let mut replica = replica().await;
        for ids in [["a", "b"], ["c", "d"]] {
            let batch = replica.append(&ids).await;
            replica.batches.append_ended(batch).await;
        }
        assert_eq!(replica.receives(4).await, [1, 2, 3, 4]);
        assert_eq!(replica.position.get(), Offset(4));
    }

    #[tokio::test]
    async fn what_was_not_handed_over_is_read_from_the_log() {
        let mut replica = replica().await;
        replica.append(&["a", "b"]).await;
        let late = replica.append(&["c"]).await;
        replica.batches.append_ended(late.clone()).await;
        assert_eq!(replica.receives(3).await, [1, 2, 3]);

        replica.batches.append_ended(late).await;
        let next = replica.append(&["d"]).await;
        replica.batches.append_ended(next).await;
        assert_eq!(replica.receives(1).await, [4], "a batch that comes twice is published once");
    }

    #[tokio::test]
    async fn what_this_replica_is_still_appending_is_left_to_be_handed_over() {
        let replica = replica().await;
        let appended = replica.append(&["a", "b", "c"]).await;
        let (mut tail, ..) = Tail::new(&replica.start, replica.store.clone(), Arc::default(), Arc::default());
        let b = &appended[1].smile;
        lock(&tail.under_way).insert((b.from.clone(), b.id.clone()));
        tail.add_seen(appended.iter().map(|publication| publication.smile.clone()).collect());
        tail.advance();
        assert_eq!(tail.position.get(), Offset(1), "nor what comes after it: offsets are published in order");
        lock(&tail.under_way).clear();
        tail.advance();
        assert_eq!(tail.position.get(), Offset(3));
    }

    #[tokio::test]
    async fn a_tail_far_behind_is_not_close_to_the_head() {
        let replica = replica().await;
        assert!(replica.position.keeps_up());
        replica.position.head_is_at(Offset(CLOSE_TO_HEAD + 1));
        assert!(!replica.position.keeps_up());
    }
}
