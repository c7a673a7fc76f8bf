//! Local fan-out: the sessions of this process by user, each with a bounded outbox.
//!
//! Publishing never waits. If a publication finds an outbox full, the session of that outbox is marked as *lagged*, and
//! catches up from memory or the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::model::{Offset, Smile, SmileId, UserName};
use crate::protocol::{CloseReason, ServerFrame};
use crate::store::{IdHash, Store};

/// The number of entries at which an outbox accepts no more publications. A full outbox still accepts other entries.
pub(crate) const OUTBOX_LIMIT: usize = 256;

/// A smile to send. All sessions that get this publication share its frame, which is encoded at most once.
pub(crate) struct Publication {
    pub smile: Smile,
    pub hash: IdHash,
    /// When this replica admitted the smile; `None` if the smile was read from the log or the binary log.
    pub admitted_at: Option<Instant>,
    frame: OnceLock<Bytes>,
}

impl Publication {
    pub(crate) fn new(smile: Smile, hash: IdHash, admitted_at: Option<Instant>) -> Self {
        Self { smile, hash, admitted_at, frame: OnceLock::new() }
    }

    pub(crate) fn stored(store: &Store, smile: Smile) -> Arc<Self> {
        let hash = store.id_hash(&smile.from, &smile.id);
        Arc::new(Self::new(smile, hash, None))
    }

    /// For a session that reads the smile from the store. The session drops the frame once it is written, so the frame
    /// must not share a buffer with the frames of smiles in memory.
    pub(crate) fn replayed(store: &Store, smile: Smile) -> Arc<Self> {
        let hash = store.id_hash(&smile.from, &smile.id);
        let frame = ServerFrame::Smile(smile.clone()).encode().into();
        Arc::new(Self { frame, ..Self::new(smile, hash, None) })
    }

    pub(crate) fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| ServerFrame::encode_smile(&self.smile)).clone()
    }
}

pub(crate) enum Push {
    /// A smile to or from this session's user. Publications follow the order of the log. If this session sent the
    /// smile, the publication is the answer.
    Publication(Arc<Publication>),
    /// This session sent a smile whose id the log already holds, at this offset.
    Duplicate(SmileId, Offset),
    /// A smile that this session sent was not stored.
    Refused(SmileId),
    Leave(CloseReason),
}

#[derive(Default)]
pub(crate) struct Outbox {
    /// Unique within the replica.
    pub session: u64,
    queue: Mutex<Queue>,
    filled: Notify,
    leaving: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Queue {
    /// Oldest first.
    pub pushes: VecDeque<Push>,
    /// Whether the queue overflowed. A queue that overflowed accepts no publication until the session takes its
    /// contents. The session reads the missing smiles, up to the tail's cursor, with [`crate::index::Index::stream`].
    pub lagged: bool,
}

impl Outbox {
    /// Adds an entry other than a publication, even to a full outbox. Such entries are few: at most one for each smile
    /// in flight, and one request to leave.
    pub(crate) fn push(&self, push: Push) {
        self.queue.lock().pushes.push_back(push);
        self.filled.notify_one();
    }

    /// Returns `true` if this publication makes the session lag.
    fn push_publication(&self, publication: &Arc<Publication>) -> bool {
        let mut queue = self.queue.lock();
        if queue.lagged {
            return false;
        }
        queue.lagged = queue.pushes.len() >= OUTBOX_LIMIT;
        if queue.lagged {
            // The entries in the queue have already woken the session.
            return true;
        }
        queue.pushes.push_back(Push::Publication(Arc::clone(publication)));
        drop(queue);
        self.filled.notify_one();
        false
    }

    /// Returns `false` if the session was asked before.
    fn ask_to_leave(&self, reason: CloseReason) -> bool {
        let first = !self.leaving.swap(true, Ordering::Relaxed);
        if first {
            self.push(Push::Leave(reason));
        }
        first
    }
}

#[derive(Default)]
pub(crate) struct Hub {
    outboxes: DashMap<UserName, Vec<Arc<Outbox>>, RandomState>,
    last_session: AtomicU64,
}

impl Hub {
    /// After this call, every publication to or from `user` reaches the session's outbox, unless the session lags or
    /// the publication makes it lag.
    pub(crate) fn subscribe(self: &Arc<Self>, user: &UserName) -> Subscription {
        let session = self.last_session.fetch_add(1, Ordering::Relaxed) + 1;
        let outbox = Arc::new(Outbox { session, ..Outbox::default() });
        self.outboxes.entry(user.clone()).or_default().push(Arc::clone(&outbox));
        Subscription { hub: Arc::clone(self), user: user.clone(), outbox }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.outboxes.iter().map(|outboxes| outboxes.len()).sum()
    }

    /// Asks up to `count` sessions to leave, but none that was asked before; returns the number of sessions asked.
    pub(crate) fn ask_to_leave(&self, count: usize, reason: CloseReason) -> usize {
        let mut asked = 0;
        for entry in &self.outboxes {
            asked += entry.iter().filter(|outbox| outbox.ask_to_leave(reason)).take(count - asked).count();
        }
        asked
    }

    /// Returns the number of sessions that the push made lag.
    pub(crate) fn push(&self, publication: &Arc<Publication>) -> u64 {
        let mut lagged = 0;
        for user in [&publication.smile.from, &publication.smile.to] {
            // Pushing never waits, so the shard's lock is held only briefly.
            if let Some(outboxes) = self.outboxes.get(user) {
                lagged += outboxes.iter().map(|outbox| u64::from(outbox.push_publication(publication))).sum::<u64>();
            }
        }
        lagged
    }
}

/// Dropping a subscription removes its session from the hub.
pub(crate) struct Subscription {
    hub: Arc<Hub>,
    user: UserName,
    pub outbox: Arc<Outbox>,
}

impl Subscription {
    /// Waits while the outbox is empty. Cancel safe.
    pub(crate) async fn take(&self) -> Queue {
        loop {
            let queue = std::mem::take(&mut *self.outbox.queue.lock());
            if !queue.pushes.is_empty() {
                return queue;
            }
            self.outbox.filled.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.outboxes.remove_if_mut(&self.user, |_, outboxes| {
            outboxes.retain(|outbox| outbox.session != self.outbox.session);
            outboxes.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::model::{Faces, Timestamp};

    fn publication(offset: u64) -> Arc<Publication> {
        let smile = Smile {
            offset: Offset(offset),
            id: SmileId::parse("c1").unwrap(),
            from: UserName::new("anna"),
            to: UserName::new("bruno"),
            faces: Faces::parse("😀").unwrap(),
            at: Timestamp(0),
        };
        let hash = IdHash::new(&[7; 16], &smile.from, &smile.id);
        Arc::new(Publication::new(smile, hash, None))
    }

    /// The offset of each publication, with 0 in place of any other entry, and whether the session lagged.
    fn taken(subscription: &Subscription) -> (Vec<u64>, bool) {
        let Some(taken) = subscription.take().now_or_never() else { return (Vec::new(), false) };
        let offset = |push| match push {
            Push::Publication(publication) => publication.smile.offset.0,
            Push::Duplicate(..) | Push::Refused(_) | Push::Leave(_) => 0,
        };
        (taken.pushes.into_iter().map(offset).collect(), taken.lagged)
    }

    #[test]
    fn a_smile_reaches_every_session_of_both_users_and_no_other() {
        let hub = Arc::new(Hub::default());
        let sessions = ["anna", "anna", "bruno", "carla"].map(|name| hub.subscribe(&UserName::new(name)));
        hub.push(&publication(1));
        assert_eq!(sessions.map(|session| taken(&session).0), [vec![1], vec![1], vec![1], vec![]]);
    }

    #[test]
    fn dropping_a_subscription_removes_the_session() {
        let hub = Arc::new(Hub::default());
        let (stays, leaves) = (hub.subscribe(&UserName::new("anna")), hub.subscribe(&UserName::new("anna")));
        drop(leaves);
        assert_eq!((hub.sessions(), hub.outboxes.get("anna").unwrap().len()), (1, 1));
        drop(stays);
        assert_eq!((hub.sessions(), hub.outboxes.len()), (0, 0));
    }

    #[test]
    fn a_full_outbox_marks_its_session_as_lagged_once_and_still_takes_answers() {
        let hub = Arc::new(Hub::default());
        let (slow, quick) = (hub.subscribe(&UserName::new("bruno")), hub.subscribe(&UserName::new("bruno")));
        let lagged: u64 = (1..=OUTBOX_LIMIT as u64 + 9)
            .map(|offset| {
                let lagged = hub.push(&publication(offset));
                taken(&quick);
                lagged
            })
            .sum();
        assert_eq!(lagged, 1);
        slow.outbox.push(Push::Duplicate(SmileId::parse("c1").unwrap(), Offset(5)));
        let full: Vec<u64> = (1..=OUTBOX_LIMIT as u64).chain([0]).collect();
        assert_eq!(taken(&slow), (full, true));
        hub.push(&publication(999));
        assert_eq!(taken(&slow), (vec![999], false));
    }

    #[tokio::test]
    async fn a_publication_wakes_a_waiting_session() {
        let hub = Arc::new(Hub::default());
        let bruno = hub.subscribe(&UserName::new("bruno"));
        let waiting = tokio::spawn(async move { bruno.take().await.pushes.len() });
        tokio::task::yield_now().await;
        hub.push(&publication(1));
        assert_eq!(waiting.await.unwrap(), 1);
    }

    #[test]
    fn no_session_is_asked_to_leave_twice() {
        let hub = Arc::new(Hub::default());
        let sessions = ["anna", "anna", "bruno", "carla"].map(|name| hub.subscribe(&UserName::new(name)));
        assert_eq!([(); 3].map(|()| hub.ask_to_leave(3, CloseReason::Restart)), [3, 1, 0]);
        assert_eq!(sessions.map(|session| taken(&session).0), [[0], [0], [0], [0]]);
    }
}
