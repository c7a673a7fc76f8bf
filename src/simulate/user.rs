//! One simulated user in one conversation: it sends smiles at the pace of the plan, and its client keeps the session
//! open.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::ledger::Event;
use super::plan::{Beat, Seat};
use super::{Course, Shared};
use crate::client::{Client, wait_until};

pub(super) struct User {
    seat: Seat,
    shared: Arc<Shared>,
    course: watch::Receiver<Course>,
    /// The number of the next beat of this user.
    next_beat: usize,
    no_more_beats: bool,
    giving_up: bool,
    client: Client,
}

impl User {
    pub(super) fn new(seat: Seat, shared: Arc<Shared>, course: watch::Receiver<Course>) -> Self {
        let user = shared.plan.user(seat).clone();
        let client = Client::new(shared.urls_from(seat), user, shared.patience.client);
        Self { seat, shared, course, next_beat: seat % 2, no_more_beats: false, giving_up: false, client }
    }

    pub(super) async fn run(mut self) {
        loop {
            let course = *self.course.borrow_and_update();
            if course.over {
                self.client.close().await;
                return self.shared.note(self.seat, Event::Stopped).await;
            }
            if course.give_up {
                self.client.give_up_refused();
                if !std::mem::replace(&mut self.giving_up, true) {
                    self.shared.note(self.seat, Event::GivingUp).await;
                }
            }
            let next_beat = self.take_beats(course).await.map(|at| self.shared.started + at);
            let event = tokio::select! {
                biased;
                event = self.client.next() => event,
                changed = self.course.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
                () = wait_until(next_beat) => continue,
            };
            self.shared.tell(self.seat, event).await;
        }
    }

    /// Handles the beats that are due. Returns the time of the next beat, counted from the start of the run; `None`
    /// before sending begins and after the last beat.
    async fn take_beats(&mut self, course: Course) -> Option<Duration> {
        let begin = course.begin?;
        while !self.no_more_beats {
            let beat = Beat { conversation: self.seat / 2, number: self.next_beat };
            let at = self.shared.plan.time_of(beat).map(|time| begin + time);
            let Some(at) = at.filter(|&at| course.end.is_none_or(|end| at <= end)) else {
                self.no_more_beats = true;
                self.shared.note(self.seat, Event::NoMoreBeats).await;
                break;
            };
            if at > self.shared.now() {
                return Some(at);
            }
            self.next_beat += 2;
            let event = if self.offer(beat) { Event::Offered(beat) } else { Event::Skipped };
            // Latencies count from the planned time, so that they include the delay of a slow simulator.
            self.shared.note_at(self.seat, at, event).await;
        }
        None
    }

    fn offer(&mut self, beat: Beat) -> bool {
        let to = self.shared.plan.user(beat.receiver()).clone();
        let id = self.shared.run.id_of(beat);
        id.is_some_and(|id| self.client.offer(id, to, &self.shared.plan.faces(beat)))
    }
}
