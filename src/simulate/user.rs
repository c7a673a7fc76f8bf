//! One simulated user in one conversation: it smiles on its beats, and keeps a session through crashes and drains.
//!
//! Owns when to connect, resume, send and send again. Must not judge what it sees; it tells the ledger.

use std::future::{Future, pending};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::backoff::{Backoff, retry_wait};
use super::connection::{Connection, Gone, Heard, NotOpened, Position};
use super::ledger::{Event, Welcomed};
use super::pending::Pending;
use super::plan::{Beat, Seat};
use super::{Course, Shared};
use crate::model::{Offset, SmileId};
use crate::protocol::{ClientFrame, ErrorCode, ServerFrame};

/// See the file.
pub(super) struct User {
    seat: Seat,
    shared: Arc<Shared>,
    course: watch::Receiver<Course>,
    /// The number of the next beat of this user.
    next_beat: usize,
    no_more_beats: bool,
    pending: Pending,
    position: Option<Position>,
    backoff: Backoff,
    /// How many connections were lost or refused: each time the next replica is tried.
    moves: usize,
    random: Xoshiro256PlusPlus,
}

/// How far a session has come.
#[derive(Default)]
struct Session {
    resumed_from: Option<Offset>,
    welcomed: bool,
    answering: bool,
    return_after: Option<Duration>,
}

/// What to do when a session has ended.
enum After {
    /// The run is over.
    Leave,
    /// Connect again, not before this much time has passed.
    Return(Option<Duration>),
    /// The server says that this client violates the protocol: coming back would not mend it.
    StayAway,
}

impl User {
    /// The user of a seat; it starts with [`Self::run`].
    pub(super) fn new(seat: Seat, shared: Arc<Shared>, course: watch::Receiver<Course>, seed: u64) -> Self {
        Self {
            seat,
            shared,
            course,
            next_beat: seat % 2,
            no_more_beats: false,
            pending: Pending::default(),
            position: None,
            backoff: Backoff::default(),
            moves: 0,
            random: Xoshiro256PlusPlus::seed_from_u64(seed ^ seat as u64),
        }
    }

    /// Lives through the whole run.
    pub(super) async fn run(mut self) {
        let mut wait = Duration::ZERO;
        loop {
            let session =
                Session { resumed_from: self.position.as_ref().map(|position| position.offset), ..Session::default() };
            let connecting = self.connect(wait);
            let Some(outcome) = self.meanwhile(connecting).await else { return };
            let hint = match outcome {
                Ok(connection) => match self.hold(connection, session).await {
                    After::Leave => return,
                    After::Return(hint) => hint,
                    After::StayAway => return self.stay_away().await,
                },
                Err(refusal) => {
                    self.note(Event::NotConnected { cause: refusal.cause }).await;
                    if refusal.last {
                        self.note(Event::BreachOfContract(format!("no session: {}", refusal.message))).await;
                        return self.stay_away().await;
                    }
                    refusal.retry_after
                }
            };
            self.moves += 1;
            wait = self.backoff.next(hint, &mut self.random);
        }
    }

    /// Opens a connection to the next replica after a while.
    fn connect(&self, wait: Duration) -> impl Future<Output = Result<Connection, NotOpened>> + use<> {
        let (shared, position, seat) = (Arc::clone(&self.shared), self.position.clone(), self.seat);
        let place = seat + self.moves;
        async move {
            sleep(wait).await;
            let url = &shared.urls[place % shared.urls.len()];
            Connection::open(url, shared.plan.user(seat), position.as_ref(), &shared.patience).await
        }
    }

    /// Goes on smiling while `future` is under way; `None` when the run is over before.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        loop {
            if self.course.borrow().over {
                return None;
            }
            let next_beat = self.take_beats().await.map(|at| self.shared.started + at);
            tokio::select! {
                biased;
                output = &mut future => return Some(output),
                changed = self.course.changed() => changed.ok()?,
                () = reach(next_beat) => {}
            }
        }
    }

    async fn stay_away(mut self) {
        self.meanwhile(pending::<()>()).await;
    }

    /// Holds one session until it ends.
    async fn hold(&mut self, mut connection: Connection, mut session: Session) -> After {
        let welcome_by = self.shared.now() + self.shared.patience.silence;
        loop {
            let course = *self.course.borrow();
            if course.over {
                connection.close().await;
                return After::Leave;
            }
            if course.give_up {
                self.pending.give_up_refused();
            }
            let next_beat = self.take_beats().await;
            if session.welcomed {
                if let Err(gone) = self.write_due(&mut connection).await {
                    return self.lost(session, gone).await;
                }
            } else if self.shared.now() >= welcome_by {
                return self.lost(session, connection.gone(None)).await;
            }
            let deadline = if session.welcomed { self.pending.next_due() } else { Some(welcome_by) };
            let wake = [next_beat, deadline].into_iter().flatten().min().map(|at| self.shared.started + at);
            let heard = tokio::select! {
                biased;
                heard = connection.next() => heard,
                changed = self.course.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return After::Leave,
                },
                () = reach(wake) => continue,
            };
            match heard {
                Heard::Gone(gone) => return self.lost(session, gone).await,
                Heard::NotAFrame(why) => self.note(Event::BreachOfContract(format!("not a frame: {why}"))).await,
                Heard::Frame(frame) => {
                    let begins = matches!(frame, ServerFrame::Welcome { .. });
                    self.hear(&mut session, frame).await;
                    // A session that has nothing to replay says nothing by itself; its pong shows that it answers.
                    if begins && let Err(gone) = connection.send(ClientFrame::Ping.encode()).await {
                        return self.lost(session, gone).await;
                    }
                }
            }
        }
    }

    async fn hear(&mut self, session: &mut Session, frame: ServerFrame) {
        if session.welcomed && !session.answering {
            session.answering = true;
            self.backoff.reset();
            self.note(Event::Answering).await;
        }
        match frame {
            ServerFrame::Welcome { replica, epoch, offset, recovered, .. } if !session.welcomed => {
                session.welcomed = true;
                self.position = Some(Position { epoch: epoch.clone(), offset });
                let resumed_from = session.resumed_from;
                self.note(Event::Welcomed(Welcomed { replica, epoch, offset, recovered, resumed_from })).await;
            }
            _ if !session.welcomed => self.note(Event::BreachOfContract("no welcome first".to_owned())).await,
            ServerFrame::Smile(smile) => {
                self.position.iter_mut().for_each(|position| position.see_smile(smile.offset));
                if let Some(beat) = self.own(&smile.id) {
                    self.pending.settle(beat);
                }
                self.note(Event::Received(smile)).await;
            }
            ServerFrame::Ack { id, offset, duplicate } => {
                self.position.iter_mut().for_each(|position| position.see_ack(offset, duplicate));
                if let Some(beat) = self.own(&id) {
                    self.pending.settle(beat);
                }
                self.note(Event::Acked { id, offset, duplicate }).await;
            }
            ServerFrame::Error { code, id, retry_after_ms, temporary, .. } => {
                self.refused(id, code, retry_after_ms, temporary).await;
            }
            ServerFrame::Drain { reconnect_after_ms } => {
                session.return_after = Some(Duration::from_millis(reconnect_after_ms));
            }
            ServerFrame::Pong => {}
            ServerFrame::Welcome { .. } | ServerFrame::History { .. } | ServerFrame::Help { .. } => {
                self.note(Event::BreachOfContract("a frame that answers nothing".to_owned())).await;
            }
        }
    }

    async fn refused(&mut self, id: Option<String>, code: ErrorCode, retry_after_ms: Option<u64>, temporary: bool) {
        let beat = id.as_deref().and_then(SmileId::parse).and_then(|id| self.own(&id));
        if let Some(beat) = beat {
            if temporary {
                let hint = retry_after_ms.map(Duration::from_millis);
                let wait = retry_wait(hint, self.pending.refusals(beat), &mut self.random);
                self.pending.refuse(beat, self.shared.now() + wait);
            } else {
                self.pending.settle(beat);
            }
        }
        if temporary != code.temporary() {
            let claim = format!("{} with temporary: {temporary}", <&str>::from(code));
            self.note(Event::BreachOfContract(claim)).await;
        }
        self.note(Event::Refused { id, code }).await;
    }

    async fn lost(&mut self, session: Session, gone: Gone) -> After {
        self.pending.lose_connection();
        if session.welcomed {
            let at = gone.since.duration_since(self.shared.started);
            self.shared.note_at(self.seat, at, Event::ConnectionLost).await;
        } else {
            self.note(Event::NotConnected { cause: "no_welcome".to_owned() }).await;
        }
        match gone.code {
            Some(code @ (1002 | 1003 | 1007 | 1009)) => {
                self.note(Event::BreachOfContract(format!("closed with {code} for well-formed frames"))).await;
                After::StayAway
            }
            Some(1008) => {
                self.backoff.back_off();
                After::Return(session.return_after)
            }
            _ => After::Return(session.return_after),
        }
    }

    /// Takes the beats that have come; tells when the next one does.
    async fn take_beats(&mut self) -> Option<Duration> {
        let course = *self.course.borrow();
        let begin = course.begin?;
        while !self.no_more_beats {
            let beat = Beat { conversation: self.seat / 2, number: self.next_beat };
            let at = self.shared.plan.time_of(beat).map(|time| begin + time);
            let Some(at) = at.filter(|&at| course.end.is_none_or(|end| at <= end)) else {
                self.no_more_beats = true;
                self.note(Event::NoMoreBeats).await;
                break;
            };
            if at > self.shared.now() {
                return Some(at);
            }
            self.next_beat += 2;
            let event = if self.pending.offer(beat) { Event::Offered(beat) } else { Event::Skipped };
            // The beat counts, not the moment this task came round to it: else a slow simulator hides its own delay.
            self.shared.note_at(self.seat, at, event).await;
        }
        None
    }

    async fn write_due(&mut self, connection: &mut Connection) -> Result<(), Gone> {
        while let Some(beat) = self.pending.take_due(self.shared.now()) {
            self.note(Event::Written(beat)).await;
            let frame = ClientFrame::Smile {
                id: self.shared.run.id_of(beat),
                to: self.shared.plan.user(beat.receiver()).clone(),
                smile: self.shared.plan.faces(beat).into(),
            };
            connection.send(frame.encode()).await?;
        }
        Ok(())
    }

    /// The beat of a smile, when this user sent it from this seat.
    fn own(&self, id: &SmileId) -> Option<Beat> {
        self.shared.run.beat_of(id).filter(|beat| beat.sender() == self.seat)
    }

    async fn note(&self, event: Event) {
        self.shared.note(self.seat, event).await;
    }
}

/// Waits for a moment; without one, for ever.
async fn reach(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}
