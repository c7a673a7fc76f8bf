//! Local fan-out: which sessions of this process belong to which user, and the outbox of each.
//!
//! Nothing here waits: a publication that finds an outbox full marks that session as *lagged*, and the session catches up
//! from the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use dashmap::DashMap;
use foldhash::fast::RandomState;
use tokio::sync::Notify;

use crate::model::{Offset, Smile, SmileId, UserName};
use crate::protocol::{Refusal, ServerFrame};

/// Publications that an outbox holds at most.
pub const OUTBOX: usize = 256;

/// A smile of the log on its way to the sessions. Encoded once, however many there are.
#[derive(Debug)]
pub struct Publication {
    /// The smile.
    pub smile: Smile,
    /// When this replica admitted it; `None` when it came from elsewhere.
    pub admitted_at: Option<Instant>,
    frame: OnceLock<Bytes>,
}

impl Publication {
    /// A smile to publish.
    #[must_use]
    pub fn new(smile: Smile, admitted_at: Option<Instant>) -> Self {
        Self { smile, admitted_at, frame: OnceLock::new() }
    }

    /// The `smile` frame; clones share the bytes.
    pub fn frame(&self) -> Bytes {
        self.frame.get_or_init(|| ServerFrame::encode_smile(&self.smile).into()).clone()
    }
}

/// Why a smile that a session gave to the log will not be published. A stored smile has no outcome: its publication is the
/// answer.
#[derive(Debug)]
pub enum Outcome {
    /// It had been stored before, at this offset.
    Duplicate(Offset),
    /// It was not stored.
    Refused(Box<Refusal>),
}

/// What an outbox holds.
#[derive(Debug)]
pub enum Push {
    /// A smile to or from the session's user, in the order of the log.
    Publication(Arc<Publication>),
    /// What became of the smile of that id which this session sent.
    Outcome(SmileId, Outcome),
    /// Another replica has more room: this session is to go there.
    HandOver,
}

/// What is on its way to one session.
#[derive(Debug)]
pub struct Outbox {
    session: u64,
    queue: Mutex<Queue>,
    filled: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    pushes: VecDeque<Push>,
    publications: usize,
    /// Publications are missing after those in the queue; none are added until the session has taken it.
    lagged: bool,
    handed_over: bool,
}

/// What was in an outbox.
#[derive(Debug)]
pub struct Taken {
    /// In order.
    pub pushes: VecDeque<Push>,
    /// Publications are missing after these: the log has them, up to where the tail is when it is asked after this.
    pub lagged: bool,
}

impl Outbox {
    /// Tells the session what became of a smile it sent. It always fits: a session has a bounded number in flight.
    pub fn answer(&self, id: SmileId, outcome: Outcome) {
        self.queue().pushes.push_back(Push::Outcome(id, outcome));
        self.filled.notify_one();
    }

    /// Whether this made the session lag.
    fn publish(&self, publication: &Arc<Publication>) -> bool {
        let mut queue = self.queue();
        if queue.lagged {
            return false;
        }
        queue.lagged = queue.publications == OUTBOX;
        if queue.lagged {
            // There is something in the queue that has woken the session.
            return true;
        }
        queue.publications += 1;
        queue.pushes.push_back(Push::Publication(Arc::clone(publication)));
        drop(queue);
        self.filled.notify_one();
        false
    }

    /// Tells the session to go to another replica; `false` when it was told before.
    fn hand_over(&self) -> bool {
        let mut queue = self.queue();
        if std::mem::replace(&mut queue.handed_over, true) {
            return false;
        }
        queue.pushes.push_back(Push::HandOver);
        drop(queue);
        self.filled.notify_one();
        true
    }

    fn take(&self) -> Option<Taken> {
        let mut queue = self.queue();
        if queue.pushes.is_empty() {
            return None;
        }
        queue.publications = 0;
        Some(Taken { pushes: std::mem::take(&mut queue.pushes), lagged: std::mem::take(&mut queue.lagged) })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sessions of this process.
#[derive(Debug, Default)]
pub struct Hub {
    outboxes: DashMap<UserName, Vec<Arc<Outbox>>, RandomState>,
    sessions: AtomicUsize,
    last_session: AtomicU64,
}

impl Hub {
    /// Adds a session of `user`: from here on every publication for that user is in its outbox, or it is lagged.
    pub fn subscribe(self: &Arc<Self>, user: &UserName) -> Subscription {
        let session = self.last_session.fetch_add(1, Ordering::Relaxed) + 1;
        let outbox = Arc::new(Outbox { session, queue: Mutex::default(), filled: Notify::new() });
        self.outboxes.entry(user.clone()).or_default().push(Arc::clone(&outbox));
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Subscription { hub: Arc::clone(self), user: user.clone(), outbox }
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Tells up to `count` sessions to go to another replica, and returns how many that were. None is told twice.
    pub fn hand_over(&self, count: usize) -> usize {
        let mut told = 0;
        for entry in &self.outboxes {
            told += entry.iter().filter(|outbox| outbox.hand_over()).take(count - told).count();
            if told >= count {
                break;
            }
        }
        told
    }

    /// Pushes a smile to every session of its two users; returns how many of them it made lag.
    pub fn publish(&self, publication: &Arc<Publication>) -> u64 {
        let mut lagged = 0;
        for user in [&publication.smile.from, &publication.smile.to] {
            // The guard is held over pushes that never wait, and nowhere else.
            if let Some(outboxes) = self.outboxes.get(user) {
                lagged += outboxes.iter().map(|outbox| u64::from(outbox.publish(publication))).sum::<u64>();
            }
        }
        lagged
    }
}

/// A session's place in the hub and its outbox. Dropping it leaves the hub.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    user: UserName,
    outbox: Arc<Outbox>,
}

impl Subscription {
    /// Names this session within its replica.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.outbox.session
    }

    /// Where answers to smiles of this session go.
    #[must_use]
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Takes all that is in the outbox; waits for something. Cancel safe.
    pub async fn take(&self) -> Taken {
        loop {
            if let Some(taken) = self.outbox.take() {
                return taken;
            }
            self.outbox.filled.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        if let Some(mut outboxes) = self.hub.outboxes.get_mut(&self.user) {
            outboxes.retain(|outbox| outbox.session != self.outbox.session);
        }
        self.hub.outboxes.remove_if(&self.user, |_, outboxes| outboxes.is_empty());
        self.hub.sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Faces, Timestamp};

    fn publication(offset: u64) -> Arc<Publication> {
        let smile = Smile {
            offset: Offset(offset),
            id: SmileId::parse("c1").unwrap(),
            from: UserName::new("anna"),
            to: UserName::new("bruno"),
            faces: Faces::parse("😀").unwrap(),
            at: Timestamp::from_milliseconds(0),
        };
        Arc::new(Publication::new(smile, None))
    }

    /// The offsets in an outbox, 0 for anything else, and whether more are missing.
    fn taken(subscription: &Subscription) -> (Vec<u64>, bool) {
        let Some(taken) = subscription.outbox.take() else { return (Vec::new(), false) };
        let offset = |push| match push {
            Push::Publication(publication) => publication.smile.offset.0,
            Push::Outcome(..) | Push::HandOver => 0,
        };
        (taken.pushes.into_iter().map(offset).collect(), taken.lagged)
    }

    #[test]
    fn a_smile_reaches_every_session_of_both_users_and_no_other() {
        let hub = Arc::new(Hub::default());
        let sessions = ["anna", "anna", "bruno", "carla"].map(|name| hub.subscribe(&UserName::new(name)));
        hub.publish(&publication(1));
        assert_eq!(sessions.map(|session| taken(&session).0), [vec![1], vec![1], vec![1], vec![]]);
    }

    #[test]
    fn leaving_is_dropping() {
        let hub = Arc::new(Hub::default());
        let (stays, leaves) = (hub.subscribe(&UserName::new("anna")), hub.subscribe(&UserName::new("anna")));
        drop(leaves);
        assert_eq!((hub.sessions(), hub.outboxes.get("anna").unwrap().len()), (1, 1));
        drop(stays);
        assert_eq!((hub.sessions(), hub.outboxes.len()), (0, 0));
    }

    #[test]
    fn a_full_outbox_lags_once_and_an_outcome_still_fits() {
        let hub = Arc::new(Hub::default());
        let (slow, quick) = (hub.subscribe(&UserName::new("bruno")), hub.subscribe(&UserName::new("bruno")));
        let lagged: u64 = (1..=OUTBOX as u64 + 9)
            .map(|offset| {
                let lagged = hub.publish(&publication(offset));
                taken(&quick);
                lagged
            })
            .sum();
        assert_eq!(lagged, 1);
        slow.outbox().answer(SmileId::parse("c1").unwrap(), Outcome::Duplicate(Offset(5)));
        let full: Vec<u64> = (1..=OUTBOX as u64).chain([0]).collect();
        assert_eq!(taken(&slow), (full, true));
        hub.publish(&publication(999));
        assert_eq!(taken(&slow), (vec![999], false), "from then on publications arrive again");
    }

    #[tokio::test]
    async fn a_session_that_waits_is_woken() {
        let hub = Arc::new(Hub::default());
        let bruno = hub.subscribe(&UserName::new("bruno"));
        let waiting = tokio::spawn(async move { bruno.take().await.pushes.len() });
        tokio::task::yield_now().await;
        hub.publish(&publication(1));
        assert_eq!(waiting.await.unwrap(), 1);
    }

    #[test]
    fn no_session_is_handed_over_twice() {
        let hub = Arc::new(Hub::default());
        let sessions = ["anna", "anna", "bruno", "carla"].map(|name| hub.subscribe(&UserName::new(name)));
        assert_eq!([hub.hand_over(3), hub.hand_over(3), hub.hand_over(3)], [3, 1, 0]);
        assert_eq!(sessions.map(|session| taken(&session).0), [[0], [0], [0], [0]]);
    }
}
