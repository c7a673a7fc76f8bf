//! Local fan-out: which sessions of this process belong to which user, and the outbox of each.
//!
//! Owns the outboxes; it is the only home of `dashmap`. Must not know the store, connections or what a session does
//! with what it is given. Nothing here waits: a publication that finds an outbox full marks that session as *lagged*, and
//! the session catches up from the log.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::mpsc::{self, OwnedPermit};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::model::{Offset, Smile, UserName};
use crate::protocol::{Refusal, ServerFrame};

/// What an outbox holds at most. It must be more than a session's smiles in flight, each of which holds room for its
/// outcome, so that a full outbox always has something in it that wakes the session.
pub const OUTBOX: usize = 256;

/// A smile of the log on its way to the sessions. Encoded once, however many there are.
#[derive(Debug)]
pub struct Publication {
    /// The smile.
    pub smile: Smile,
    /// When this replica admitted it; `None` when it came from elsewhere.
    pub admitted_at: Option<Instant>,
    frame: OnceLock<Utf8Bytes>,
}

impl Publication {
    /// A smile to publish.
    #[must_use]
    pub fn new(smile: Smile, admitted_at: Option<Instant>) -> Self {
        Self { smile, admitted_at, frame: OnceLock::new() }
    }

    /// The `smile` frame; clones share the bytes.
    pub fn frame(&self) -> Utf8Bytes {
        self.frame.get_or_init(|| ServerFrame::Smile(self.smile.clone()).encode().into()).clone()
    }
}

/// Tells a session which of its smiles an outcome is about; it counts up within the session.
pub type Ticket = u64;

/// What became of a smile that a session gave to the log.
#[derive(Debug)]
pub enum Outcome {
    /// It is durable. Its publication follows, and tells the offset.
    Stored,
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
    /// The outcome of a smile this session sent.
    Outcome(Ticket, Outcome),
    /// Another replica has more room: this session is to go there.
    HandOver,
}

/// Room in a session's outbox for one outcome: taken before a smile is given to the log, so that its outcome always fits.
#[derive(Debug)]
pub struct OutcomePermit {
    permit: OwnedPermit<Push>,
    ticket: Ticket,
}

impl OutcomePermit {
    /// Tells the session. It may be gone by now; then nobody hears.
    pub fn tell(self, outcome: Outcome) {
        self.permit.send(Push::Outcome(self.ticket, outcome));
    }
}

/// The sending end of one session's outbox.
#[derive(Debug)]
struct Outbox {
    session: u64,
    queue: mpsc::Sender<Push>,
    /// Publications are missing from the queue; none are added until the session has read the log.
    lagged: AtomicBool,
    /// It was told to go.
    handed_over: AtomicBool,
}

impl Outbox {
    /// Whether there was room.
    fn push(&self, publication: &Arc<Publication>) -> bool {
        self.queue.try_send(Push::Publication(Arc::clone(publication))).is_ok()
    }

    /// Tells the session to go to another replica, unless it was told that before.
    fn hand_over(&self) -> bool {
        if self.handed_over.load(Ordering::Relaxed) {
            return false;
        }
        let told = self.queue.try_send(Push::HandOver).is_ok();
        self.handed_over.store(told, Ordering::Relaxed);
        told
    }

    /// Marks the session, for which there was no room for this publication, as lagged.
    ///
    /// It may have emptied its outbox since, and would wait for a push that nobody makes any more. So the push is tried
    /// again: either it fits and wakes the session, or the outbox is full and something in it does.
    fn lag(&self, publication: &Arc<Publication>) {
        self.lagged.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.push(publication);
    }
}

/// The sessions of this process.
#[derive(Debug, Default)]
pub struct Hub {
    outboxes: DashMap<UserName, Vec<Arc<Outbox>>>,
    sessions: AtomicUsize,
    last_session: AtomicU64,
}

impl Hub {
    /// Adds a session of `user`: from here on every publication for that user is in its outbox, or it is lagged.
    pub fn subscribe(self: &Arc<Self>, user: &UserName) -> Subscription {
        let (queue, pushes) = mpsc::channel(OUTBOX);
        let session = self.last_session.fetch_add(1, Ordering::Relaxed) + 1;
        let (lagged, handed_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let outbox = Arc::new(Outbox { session, queue, lagged, handed_over });
        self.outboxes.entry(user.clone()).or_default().push(Arc::clone(&outbox));
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Subscription { hub: Arc::clone(self), user: user.clone(), outbox, pushes }
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
            if told == count {
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
                for outbox in outboxes.iter().filter(|outbox| !outbox.lagged.load(Ordering::SeqCst)) {
                    if !outbox.push(publication) {
                        outbox.lag(publication);
                        lagged += 1;
                    }
                }
            }
        }
        lagged
    }
}

/// A session's place in the hub and the receiving end of its outbox. Dropping it leaves the hub.
#[derive(Debug)]
pub struct Subscription {
    hub: Arc<Hub>,
    user: UserName,
    outbox: Arc<Outbox>,
    pushes: mpsc::Receiver<Push>,
}

impl Subscription {
    /// Names this session within its replica.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.outbox.session
    }

    /// The next push; waits for one. `None` never comes while this subscription lives. Cancel safe.
    pub async fn next(&mut self) -> Option<Push> {
        self.pushes.recv().await
    }

    /// The next push if there is one now.
    pub fn next_now(&mut self) -> Option<Push> {
        self.pushes.try_recv().ok()
    }

    /// When the outbox was full since this was last asked: how far the session has to read the log, and what else was in
    /// the outbox. From here on publications arrive again.
    ///
    /// `position` is where the tail is when that is called. Publications that are in the outbox by then came after those
    /// that are missing, so they are left out: the log has them in their place. All outcomes of smiles up to where to read
    /// are in the answer.
    pub fn take_lagged(&mut self, position: impl FnOnce() -> Offset) -> Option<(Offset, Vec<Push>)> {
        if !self.outbox.lagged.swap(false, Ordering::SeqCst) {
            return None;
        }
        let mut until = position();
        let mut others = Vec::new();
        // No more fitted into it at that moment.
        for _ in 0..OUTBOX {
            match self.next_now() {
                Some(Push::Publication(publication)) => until = until.max(publication.smile.offset),
                Some(push) => others.push(push),
                None => break,
            }
        }
        Some((until, others))
    }

    /// Room for the outcome of the smile `ticket`; `None` when the outbox is full.
    #[must_use]
    pub fn outcome_permit(&self, ticket: Ticket) -> Option<OutcomePermit> {
        let permit = self.outbox.queue.clone().try_reserve_owned().ok()?;
        Some(OutcomePermit { permit, ticket })
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
    use crate::model::{Faces, SmileId, Timestamp};

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

    fn offsets(subscription: &mut Subscription) -> Vec<u64> {
        let pushes = std::iter::from_fn(|| subscription.next_now());
        pushes
            .map(|push| match push {
                Push::Publication(publication) => publication.smile.offset.0,
                Push::Outcome(..) | Push::HandOver => 0,
            })
            .collect()
    }

    #[test]
    fn a_smile_reaches_every_session_of_both_users_and_no_other() {
        let hub = Arc::new(Hub::default());
        let mut sessions: Vec<_> =
            ["anna", "anna", "bruno", "carla"].iter().map(|name| hub.subscribe(&UserName::new(name))).collect();
        hub.publish(&publication(1));
        let seen: Vec<_> = sessions.iter_mut().map(offsets).collect();
        assert_eq!(seen, [vec![1], vec![1], vec![1], vec![]]);
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
    fn a_full_outbox_lags_and_an_outcome_still_fits() {
        let hub = Arc::new(Hub::default());
        let mut slow = hub.subscribe(&UserName::new("bruno"));
        let mut quick = hub.subscribe(&UserName::new("bruno"));
        let permit = slow.outcome_permit(7).unwrap();
        let lagged: u64 = (1..=OUTBOX as u64 + 9)
            .map(|offset| {
                let lagged = hub.publish(&publication(offset));
                offsets(&mut quick);
                lagged
            })
            .sum();
        assert_eq!(lagged, 1, "a session that lags is told once");
        permit.tell(Outcome::Stored);
        let full: Vec<u64> = (1..OUTBOX as u64).chain([0]).collect();
        assert_eq!(offsets(&mut slow), full);

        assert!(
            slow.take_lagged(|| Offset(300)).is_some_and(|(until, others)| until == Offset(300) && others.is_empty())
        );
        assert!(slow.take_lagged(|| Offset(300)).is_none());
        hub.publish(&publication(999));
        assert_eq!(offsets(&mut slow), [999]);
    }

    #[test]
    fn what_comes_after_something_is_missing_does_not_go_ahead_of_it() {
        let hub = Arc::new(Hub::default());
        let mut slow = hub.subscribe(&UserName::new("bruno"));
        let permit = slow.outcome_permit(7).unwrap();
        for offset in 1..=OUTBOX as u64 + 50 {
            hub.publish(&publication(offset));
        }
        assert_eq!(offsets(&mut slow).len(), OUTBOX - 1);
        // The tail is in the middle of a batch: the cursor is at its end, and the rest is pushed while the session looks.
        let end = OUTBOX as u64 + 80;
        let missed = slow.take_lagged(|| {
            permit.tell(Outcome::Stored);
            for offset in OUTBOX as u64 + 51..=end {
                hub.publish(&publication(offset));
            }
            Offset(OUTBOX as u64 + 60)
        });
        let (until, others) = missed.unwrap();
        assert_eq!(until, Offset(end), "the log is read to where publications go on");
        assert!(matches!(others[..], [Push::Outcome(7, Outcome::Stored)]), "{others:?}");
        assert!(offsets(&mut slow).is_empty());
    }

    #[test]
    fn a_session_that_reads_just_before_it_lags_is_woken() {
        let hub = Arc::new(Hub::default());
        let mut bruno = hub.subscribe(&UserName::new("bruno"));
        let outbox = Arc::clone(&bruno.outbox);
        while outbox.push(&publication(1)) {}
        // The tail has found the outbox full; before it goes on, the session reads everything.
        assert_eq!(offsets(&mut bruno).len(), OUTBOX);
        assert!(bruno.take_lagged(Offset::default).is_none());
        outbox.lag(&publication(2));
        assert_eq!(offsets(&mut bruno), [2]);
        assert!(bruno.take_lagged(Offset::default).is_some());
    }

    #[test]
    fn sessions_are_handed_over_once() {
        let hub = Arc::new(Hub::default());
        let names = ["anna", "anna", "bruno", "carla"];
        let mut sessions: Vec<_> = names.iter().map(|name| hub.subscribe(&UserName::new(name))).collect();
        assert_eq!([3, 0, 3, 3].map(|count| hub.hand_over(count)), [3, 0, 1, 0]);
        for session in &mut sessions {
            assert!(matches!(session.next_now(), Some(Push::HandOver)));
            assert!(session.next_now().is_none());
        }
    }
}
