//! Following the log: the one task per replica that publishes every offset, once, in order.
//!
//! Owns the cursor. What this replica appended is handed over in memory, which saves reading it again; a batch is used
//! only when it starts right after the cursor, else the log is read from the cursor on. Must not know who listens.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::hub::{Hub, Publication};
use crate::model::Offset;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

/// Batches that may wait to be published. When they do, appending waits too, and that sheds.
const BATCHES: usize = 16;

/// Smiles in one read of the log.
const PAGE: u32 = 1000;

/// How far a ready replica may be behind the head that it knows of, in offsets.
const CLOSE_TO_HEAD: u64 = 10_000;

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
}

impl Batches {
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
        let tail = Self { batches, position: position.clone(), store, hub, metrics };
        (tail, Batches { queue, head }, position)
    }

    /// Publishes until every [`Batches`] is dropped.
    ///
    /// # Errors
    /// [`StoreError::Trimmed`]: retention overtook the tail, so it cannot go on without a hole.
    pub async fn run(mut self) -> Result<(), StoreError> {
        while let Some(batch) = self.batches.recv().await {
            let Some(last) = batch.last().map(|publication| publication.smile.offset) else { continue };
            if batch.first().is_some_and(|first| first.smile.offset == self.position.get().next()) {
                self.publish(&batch);
            } else {
                self.read_until(last).await?;
            }
        }
        Ok(())
    }

    /// Publishes from the store what lies between the cursor and `last`.
    async fn read_until(&self, last: Offset) -> Result<(), StoreError> {
        while self.position.get() < last {
            match self.store.read_log(self.position.get(), PAGE).await {
                Ok(smiles) => {
                    let batch: Vec<_> =
                        smiles.into_iter().map(|smile| Arc::new(Publication::new(smile, None))).collect();
                    self.publish(&batch);
                }
                Err(StoreError::Trimmed) => return Err(StoreError::Trimmed),
                Err(error) => {
                    tracing::warn!(%error, "the tail cannot read the log; it tries again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StoreUrl;
    use crate::hub::{Push, Subscription};
    use crate::model::{Faces, NewSmile, Smile, SmileId, Timestamp};

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
    async fn a_tail_far_behind_is_not_close_to_the_head() {
        let replica = replica().await;
        assert!(replica.position.close_to_head());
        replica.position.head.store(CLOSE_TO_HEAD + 1, Ordering::SeqCst);
        assert!(!replica.position.close_to_head());
    }
}
