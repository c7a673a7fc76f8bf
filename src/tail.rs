//! Following the log: the one task per replica that publishes every offset, once, in order.
//!
//! Owns the cursor. What this replica appended is handed over in memory, which saves reading it again; a batch is used
//! only when it starts right after the cursor, else the log is read from the cursor on. A log that others append to is
//! looked at every few milliseconds as well. Must not know who listens.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::hub::{Hub, Publication};
use crate::model::{NewSmile, Offset, Smile, SmileId, UserName};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Batches that may wait to be published. When they do, appending waits too, and that sheds.
const BATCHES: usize = 16;

/// Smiles in one read of the log.
const PAGE: u32 = 1000;

/// How far a ready replica may be behind the head that it knows of, in offsets.
const CLOSE_TO_HEAD: u64 = 10_000;

/// From one look at a shared log to the next, when there was nothing new.
const POLL: Duration = Duration::from_millis(10);

/// How long to wait before the log is read again after that failed.
const RETRY: Duration = Duration::from_millis(250);

/// Where the tail is. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Position {
    /// The last offset of the batch being published, or published last.
    cursor: Arc<AtomicU64>,
    /// The last offset known to be committed.
    head: Arc<AtomicU64>,
}

impl Position {
    /// Everything up to here is in the log, and everything above it will be pushed to a session that subscribed before
    /// it asked. So a session that subscribes first and asks then misses nothing after the answer.
    #[must_use]
    pub fn get(&self) -> Offset {
        Offset(self.cursor.load(Ordering::SeqCst))
    }

    /// Whether the tail keeps up.
    #[must_use]
    pub fn close_to_head(&self) -> bool {
        let head = self.head.load(Ordering::SeqCst);
        head.saturating_sub(self.cursor.load(Ordering::SeqCst)) <= CLOSE_TO_HEAD
    }
}

/// The entrance for what this replica appended.
#[derive(Debug)]
pub struct Batches {
    queue: mpsc::Sender<Vec<Arc<Publication>>>,
    head: Arc<AtomicU64>,
    /// `None` where nobody looks at the log while this replica appends.
    under_way: Option<UnderWay>,
}

/// The smiles this replica is appending. Whoever looks at a shared log may see them before their senders are told; they
/// are left to be handed over.
type UnderWay = Arc<Mutex<HashSet<(UserName, SmileId)>>>;

impl Batches {
    /// Says what is about to be appended. Call it before, and [`Batches::append_ended`] when the senders are told.
    pub fn append_begins(&self, smiles: &[NewSmile]) {
        if let Some(under_way) = &self.under_way {
            let keys = smiles.iter().map(|smile| (smile.from.clone(), smile.id.clone()));
            lock(under_way).extend(keys);
        }
    }

    /// The senders of what was announced have been told.
    pub fn append_ended(&self) {
        if let Some(under_way) = &self.under_way {
            lock(under_way).clear();
        }
    }

    /// Hands a committed batch over, in the order of the log. Waits while the tail is busy.
    pub async fn hand_over(&self, batch: Vec<Arc<Publication>>) {
        let Some(last) = batch.last() else { return };
        self.head.fetch_max(last.smile.offset.0, Ordering::SeqCst);
        // The tail only ends with the process; then nobody listens.
        let _ = self.queue.send(batch).await;
    }
}

/// The one task that publishes.
#[derive(Debug)]
pub struct Tail {
    batches: mpsc::Receiver<Vec<Arc<Publication>>>,
    under_way: UnderWay,
    position: Position,
    store: Store,
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
}

impl Tail {
    /// A tail that starts after `start`, the head of the log when the replica opened it.
    #[must_use]
    pub fn new(start: Offset, store: Store, hub: Arc<Hub>, metrics: Arc<Metrics>) -> (Self, Batches, Position) {
        let (queue, batches) = mpsc::channel(BATCHES);
        let head = Arc::new(AtomicU64::new(start.0));
        let position = Position { cursor: Arc::new(AtomicU64::new(start.0)), head: Arc::clone(&head) };
        let under_way = UnderWay::default();
        let entrance = Batches { queue, head, under_way: store.is_shared().then(|| Arc::clone(&under_way)) };
        let tail = Self { batches, under_way, position: position.clone(), store, hub, metrics };
        (tail, entrance, position)
    }

    /// Publishes until every [`Batches`] is dropped.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`]: retention overtook the tail, so it cannot go on without a hole.
    pub async fn run(mut self) -> Result<(), StoreError> {
        loop {
            tokio::select! {
                batch = self.batches.recv() => match batch {
                    Some(batch) => self.take(&batch).await?,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(POLL), if self.store.is_shared() => {
                    while self.look().await? {}
                }
            }
        }
    }

    /// Publishes what this replica appended, after what others appended before it.
    async fn take(&self, batch: &[Arc<Publication>]) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(()) };
        self.read_until(Offset(first.smile.offset.0 - 1)).await?;
        if self.position.get().next() == first.smile.offset {
            self.publish(batch);
            return Ok(());
        }
        // Some of it was seen in the log meanwhile.
        self.read_until(last.smile.offset).await
    }

    /// Publishes from the log until the cursor has reached `last`, which is committed.
    async fn read_until(&self, last: Offset) -> Result<(), StoreError> {
        while self.position.get() < last {
            let before = self.position.get();
            self.look().await?;
            if self.position.get() == before {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Publishes what the log holds after the cursor, up to what this replica is still appending. Whether there may be
    /// more.
    async fn look(&self) -> Result<bool, StoreError> {
        match self.store.read_log(self.position.get(), PAGE).await {
            Ok(smiles) => {
                let batch = self.settled(smiles);
                self.publish(&batch);
                Ok(batch.len() >= PAGE as usize)
            }
            Err(StoreError::Trimmed) => Err(StoreError::Trimmed),
            Err(error) => {
                tracing::warn!(%error, "the tail cannot read the log; it tries again");
                tokio::time::sleep(RETRY).await;
                Ok(false)
            }
        }
    }

    /// The smiles before the first that this replica is still appending.
    fn settled(&self, smiles: Vec<Smile>) -> Vec<Arc<Publication>> {
        let under_way = lock(&self.under_way);
        let settled = |smile: &Smile| !under_way.contains(&(smile.from.clone(), smile.id.clone()));
        smiles.into_iter().take_while(settled).map(|smile| Arc::new(Publication::new(smile, None))).collect()
    }

    /// Pushes a batch. The cursor moves first: see [`Position::get`].
    fn publish(&self, batch: &[Arc<Publication>]) {
        let Some(last) = batch.last() else { return };
        self.position.cursor.store(last.smile.offset.0, Ordering::SeqCst);
        for publication in batch {
            self.metrics.lagged.inc_by(self.hub.publish(publication));
        }
        self.metrics.smiles_published.inc_by(batch.len() as u64);
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
        let (tail, batches, position) = Tail::new(Offset(0), store.clone(), hub, Arc::new(Metrics::new()));
        tokio::spawn(tail.run());
        Replica { store, batches, position, bruno, _folder: folder }
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
            let smiles = self.store.read_log(before, 1000).await.unwrap();
            smiles.into_iter().map(|smile: Smile| Arc::new(Publication::new(smile, None))).collect()
        }

        async fn receives(&mut self, count: usize) -> Vec<u64> {
            let mut offsets = Vec::new();
            while offsets.len() < count {
                match self.bruno.next().await.unwrap() {
                    Push::Publication(publication) => offsets.push(publication.smile.offset.0),
                    Push::Outcome(..) => {}
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
            replica.batches.hand_over(batch).await;
        }
        assert_eq!(replica.receives(4).await, [1, 2, 3, 4]);
        assert_eq!(replica.position.get(), Offset(4));
    }

    #[tokio::test]
    async fn what_was_not_handed_over_is_read_from_the_log() {
        let mut replica = replica().await;
        replica.append(&["a", "b"]).await;
        let late = replica.append(&["c"]).await;
        replica.batches.hand_over(late.clone()).await;
        assert_eq!(replica.receives(3).await, [1, 2, 3]);

        replica.batches.hand_over(late).await;
        let next = replica.append(&["d"]).await;
        replica.batches.hand_over(next).await;
        assert_eq!(replica.receives(1).await, [4], "a batch that comes twice is published once");
    }

    #[tokio::test]
    async fn what_this_replica_is_still_appending_is_left_to_be_handed_over() {
        let replica = replica().await;
        let appended = replica.append(&["a", "b", "c"]).await;
        let smiles: Vec<_> = appended.iter().map(|publication| publication.smile.clone()).collect();
        let (tail, ..) = Tail::new(Offset(0), replica.store.clone(), Arc::default(), Arc::default());
        lock(&tail.under_way).insert((smiles[1].from.clone(), smiles[1].id.clone()));
        let seen: Vec<_> = tail.settled(smiles.clone()).iter().map(|publication| publication.smile.offset.0).collect();
        assert_eq!(seen, [1], "not what comes after it either: offsets are published in order");
        lock(&tail.under_way).clear();
        assert_eq!(tail.settled(smiles).len(), 3);
    }

    #[tokio::test]
    async fn a_tail_far_behind_is_not_close_to_the_head() {
        let replica = replica().await;
        assert!(replica.position.close_to_head());
        replica.position.head.store(CLOSE_TO_HEAD + 1, Ordering::SeqCst);
        assert!(!replica.position.close_to_head());
    }
}
