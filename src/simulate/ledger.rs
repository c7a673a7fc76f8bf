//! The ledger: what was sent, acked and delivered, and whether the server kept its promises.
//!
//! The ledger accounts for every smile of the run in every stream that must receive it. It does no I/O and reads no
//! clock: callers pass events and times.
//!
//! These rules follow from the promises in docs/PROTOCOL.md:
//! - The offsets of a session strictly increase, except in acks of duplicates. An offset that the stream received
//!   before is a duplicate, and any other offset below the highest so far is out of order. The ledger does not remember
//!   lower offsets of smiles from outside the run, so such an offset counts as out of order when it arrives again.
//! - A smile has one offset in all sessions, and an offset has one smile, so all sessions agree on the order.
//! - Every smile known to be in the log reaches every stream of its sender and of its receiver that began before it.
//!   A smile that is missing from one of these streams counts as lost. The exceptions are streams that could not be
//!   read to their end: see [`Ledger::end_reread`].
//! - Smiles that only one session can have admitted are in the log in the order in which that session sent them. A
//!   transmission that was refused or acked as a duplicate stored nothing, so its session did not admit the smile.

mod entry;
mod run_state;
mod smile;
mod stream;
mod verdict;

#[cfg(test)]
mod histories;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub use entry::{Entry, Event, Welcomed};
pub use run_state::Rereading;
pub use verdict::{Fault, Faults};

use self::smile::{Outcome, SentSmile};
use self::stream::{Advance, Stream};
use self::verdict::describe;
use super::latency::Latency;
use super::plan::{Beat, Plan, RunId};
use crate::model::{Epoch, Offset, Smile, SmileId, UserName};
use crate::protocol::ErrorCode;

/// The index of a stream in the ledger. The streams of the seats come first, then those of the readers, which read the
/// log again at the end of the run.
pub type StreamNumber = usize;

/// The number of events of each kind in a run.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// Smiles that users sent, even if their clients never wrote them.
    pub sent: u64,
    /// Sent smiles that their sender knows to be in the log.
    pub acked: u64,
    /// Sent smiles that reached the other user of the conversation.
    pub delivered: u64,
    /// Sent smiles that were permanently refused.
    pub failed: u64,
    /// Smiles written again, after a refusal or a lost connection. A smile counts once for each repeat.
    pub retried: u64,
    /// Beats without a smile, because too many smiles were unanswered.
    pub skipped: u64,
    /// Sessions that replaced a lost session.
    pub reconnects: u64,
    /// Sessions that asked to resume but could not.
    pub gaps: u64,
    /// Error frames by error code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Failed attempts to open a session, by cause.
    pub refused_upgrades: BTreeMap<String, u64>,
    /// Sessions by the id of the replica that held them.
    pub sessions_per_replica: BTreeMap<String, u64>,
    /// The accepted crash requests, in order.
    pub crashes: Vec<Crash>,
    /// Failed crash requests, by cause.
    pub refused_crashes: BTreeMap<String, u64>,
}

/// A requested crash and its cost.
#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    /// The id of the replica.
    pub replica: String,
    /// Sessions of the run on this replica that were lost after the ledger had recorded the request.
    pub sessions: u64,
    /// The number of these lost sessions whose successor has answered.
    pub recovered: u64,
    /// The longest time from the loss of a session to the first answer of a successor, in milliseconds.
    pub recovery_ms: f64,
}

/// The ledger of one run.
#[derive(Debug)]
pub struct Ledger {
    plan: Arc<Plan>,
    run: RunId,
    epoch: Option<Epoch>,
    streams: Vec<Stream>,
    /// By conversation and number; `None` for beats that were skipped or are still to come.
    smiles: Vec<Vec<Option<SentSmile>>>,
    /// The highest offset in each user's stream that is known to hold a smile of this run.
    heads: HashMap<UserName, Offset>,
    counts: Counts,
    faults: Faults,
    /// Sent smiles without a final answer.
    open: u64,
    /// Written smiles that have not been answered since.
    in_flight: u64,
    /// Smiles and acks that arrived.
    heard: u64,
    /// Seats with a session.
    live: usize,
    /// Seats whose users have stopped sending.
    done: usize,
    /// Seats whose users give up refused smiles.
    giving_up: usize,
    /// Seats whose users have closed their sessions.
    stopped: usize,
    /// Whether settling was cut.
    cut: bool,
    /// Whether the run could not be verified to its end.
    unproven: bool,
    ack_latency: Latency,
    delivery_latency: Latency,
    recovery: Latency,
}

impl Ledger {
    /// An empty ledger with one stream for each seat of the plan.
    pub fn new(plan: Arc<Plan>, run: RunId) -> Self {
        let streams = (0..plan.seats()).map(|seat| Stream::new(plan.user(seat).clone())).collect();
        let smiles = vec![Vec::new(); plan.seats() / 2];
        Self {
            plan,
            run,
            epoch: None,
            streams,
            smiles,
            heads: HashMap::new(),
            counts: Counts::default(),
            faults: Faults::default(),
            open: 0,
            in_flight: 0,
            heard: 0,
            live: 0,
            done: 0,
            giving_up: 0,
            stopped: 0,
            cut: false,
            unproven: false,
            ack_latency: Latency::new(),
            delivery_latency: Latency::new(),
            recovery: Latency::new(),
        }
    }

    /// Records one event.
    pub fn record(&mut self, entry: Entry) {
        let Entry { stream, at, event } = entry;
        match event {
            Event::Welcomed(welcomed) => self.welcomed(stream, welcomed),
            Event::Answering => {
                if let Some(lost_at) = self.streams[stream].lost_at.take() {
                    let outage = at.saturating_sub(lost_at);
                    self.recovery.record(outage);
                    let crash = self.streams[stream].crash.take();
                    if let Some(crash) = crash.and_then(|crash| self.counts.crashes.get_mut(crash)) {
                        crash.recovered += 1;
                        crash.recovery_ms = crash.recovery_ms.max(outage.as_secs_f64() * 1000.0);
                    }
                }
            }
            Event::ConnectionLost => self.connection_lost(stream, at),
            Event::NotConnected { cause } => *self.counts.refused_upgrades.entry(cause).or_default() += 1,
            Event::Offered(beat) => self.offered(beat, at),
            Event::Skipped => self.counts.skipped += 1,
            Event::Written(beat) => self.written(stream, beat),
            Event::Acked { id, offset, duplicate } => self.acked(stream, at, &id, offset, duplicate),
            Event::Received(smile) => self.received(stream, at, &smile),
            Event::Refused { id, code } => self.refused(stream, id.as_deref(), code),
            Event::BreachOfContract(what) => self.breach(stream, &what),
            Event::Crashed { replica } => {
                self.counts.crashes.push(Crash { replica, sessions: 0, recovered: 0, recovery_ms: 0.0 });
            }
            Event::NotCrashed { cause } => *self.counts.refused_crashes.entry(cause).or_default() += 1,
            Event::NoMoreBeats => self.done += 1,
            Event::GivingUp => self.giving_up += 1,
            Event::Stopped => {
                self.live -= usize::from(self.streams[stream].live);
                self.stopped += 1;
            }
        }
    }

    fn welcomed(&mut self, number: StreamNumber, welcomed: Welcomed) {
        let Welcomed { replica, epoch, offset, recovered, resumed_from } = welcomed;
        self.streams[number].replica.clone_from(&replica);
        *self.counts.sessions_per_replica.entry(replica).or_default() += 1;
        let epoch_of_run = self.epoch.get_or_insert_with(|| epoch.clone());
        let foreign = *epoch_of_run != epoch;
        let stream = &mut self.streams[number];
        if stream.sessions > 0 {
            self.counts.reconnects += 1;
        }
        let is_seat = number < self.plan.seats();
        self.live += usize::from(is_seat && !stream.live);
        stream.begin_session(offset, foreign);
        if !is_seat && (foreign || !recovered) {
            self.streams[number].expect_nothing();
        }
        if foreign {
            self.breach(number, &format!("the session belongs to another log, with the epoch {}", epoch.as_str()));
        }
        match resumed_from {
            Some(from) if recovered && from != offset => {
                self.breach(number, &format!("the session resumed from {from}, but starts at {offset}"));
            }
            Some(_) if !recovered => {
                self.counts.gaps += 1;
                if !is_seat {
                    self.breach(number, "the log could not be read again from the start of the run");
                }
            }
            _ => {}
        }
    }

    fn connection_lost(&mut self, number: StreamNumber, at: Duration) {
        let is_seat = number < self.plan.seats();
        let stream = &mut self.streams[number];
        self.live -= usize::from(is_seat && stream.live);
        stream.live = false;
        stream.excused |= is_seat && self.cut;
        // A session that ends before its first answer prolongs the outage instead of beginning another one.
        if stream.lost_at.is_none() {
            stream.lost_at = Some(at);
            stream.crash = self.counts.crashes.iter().rposition(|crash| crash.replica == stream.replica);
            if let Some(crash) = stream.crash.and_then(|crash| self.counts.crashes.get_mut(crash)) {
                crash.sessions += 1;
            }
        }
    }

    fn offered(&mut self, beat: Beat, at: Duration) {
        let conversation = &mut self.smiles[beat.conversation];
        if conversation.len() <= beat.number {
            conversation.resize(beat.number + 1, None);
        }
        conversation[beat.number] = Some(SentSmile::new(at));
        self.counts.sent += 1;
        self.open += 1;
    }

    fn written(&mut self, number: StreamNumber, beat: Beat) {
        let place = self.streams[number].next_place();
        if let Some(smile) = find(&mut self.smiles, beat) {
            self.in_flight += u64::from(!smile.in_flight);
            self.counts.retried += u64::from(smile.written_before());
            smile.write(place);
        }
    }

    fn refused(&mut self, number: StreamNumber, id: Option<&str>, code: ErrorCode) {
        *self.counts.errors.entry(<&str>::from(code)).or_default() += 1;
        let beat = id.and_then(SmileId::parse).and_then(|id| self.run.beat_of(&id));
        let known = beat.filter(|beat| beat.sender() == number).and_then(|beat| find(&mut self.smiles, beat));
        let Some(smile) = known else {
            let id = id.unwrap_or("a frame without an id");
            return self.breach(number, &format!("received {} for {id}, which it had not sent", <&str>::from(code)));
        };
        self.in_flight -= u64::from(smile.in_flight);
        smile.in_flight = false;
        if !code.temporary() && smile.outcome == Outcome::Open {
            smile.outcome = Outcome::Failed;
            self.open -= 1;
            self.counts.failed += 1;
            self.fault(Fault::Failed, || {
                format!("{}: a valid smile was refused with {}", id.unwrap_or_default(), <&str>::from(code))
            });
        }
    }

    fn acked(&mut self, number: StreamNumber, at: Duration, id: &SmileId, offset: Offset, duplicate: bool) {
        self.heard += 1;
        if self.streams[number].foreign {
            return;
        }
        let beat = self.run.beat_of(id).filter(|beat| beat.sender() == number);
        let Some(beat) = beat.filter(|&beat| find(&mut self.smiles, beat).is_some()) else {
            return self.breach(number, &format!("received an ack for {}, which it had not sent", id.as_str()));
        };
        if duplicate {
            if find(&mut self.smiles, beat).is_some_and(|smile| !smile.ack_as_duplicate()) {
                self.breach(
                    number,
                    &format!("{} was acked as a duplicate, but no earlier attempt can have stored it", describe(beat)),
                );
            }
        } else {
            self.advance(number, offset, Some(beat));
        }
        self.place(beat, offset);
        self.confirm(beat, at);
    }

    fn received(&mut self, number: StreamNumber, at: Duration, smile: &Smile) {
        self.heard += 1;
        let stream = &self.streams[number];
        if stream.foreign {
            return;
        }
        if smile.from != stream.user && smile.to != stream.user {
            self.breach(number, &format!("received a smile between other users, from {} to {}", smile.from, smile.to));
        }
        let beat = self.run.beat_of(&smile.id).filter(|&beat| self.plan.has(beat) && self.is_of(smile, beat));
        let first_time = self.advance(number, smile.offset, beat);
        let Some(beat) = beat else { return };
        if !self.plan.says(beat, smile.faces.as_str()) || *self.plan.user(beat.receiver()) != smile.to {
            self.fault(Fault::Altered, || {
                format!("{} arrived as {} to {}", smile.id.as_str(), smile.faces.as_str(), smile.to)
            });
        }
        let Some(sent) = find(&mut self.smiles, beat) else {
            return self.breach(number, &format!("received {}, which nobody sent", smile.id.as_str()));
        };
        if number == beat.receiver() && first_time && !sent.delivered {
            sent.delivered = true;
            self.counts.delivered += 1;
            self.delivery_latency.record(at.saturating_sub(sent.offered_at));
        }
        self.place(beat, smile.offset);
        if number == beat.sender() {
            self.confirm(beat, at);
        }
    }

    /// The id alone does not identify a smile: another sender may use the same id.
    fn is_of(&self, smile: &Smile, beat: Beat) -> bool {
        *self.plan.user(beat.sender()) == smile.from
    }

    /// Returns whether the offset is new to the stream.
    fn advance(&mut self, number: StreamNumber, offset: Offset, beat: Option<Beat>) -> bool {
        let stream = &mut self.streams[number];
        let highest = stream.offset;
        let advance = stream.advance(offset, beat.is_some());
        let user = stream.user.clone();
        match advance {
            Advance::Next => {}
            Advance::Again => {
                self.fault(Fault::Duplicated, || format!("{user} (stream {number}) received offset {offset} again"));
            }
            Advance::Late => self.fault(Fault::Reordered, || {
                format!("{user} (stream {number}) received offset {offset} after offset {highest}")
            }),
        }
        advance != Advance::Again
    }

    /// Records the offset of a smile.
    fn place(&mut self, beat: Beat, offset: Offset) {
        let Some(smile) = find(&mut self.smiles, beat) else { return };
        match smile.offset {
            None => {
                smile.offset = Some(offset);
                if smile.was_never_stored() {
                    self.faults.note(Fault::Breach, 1, || {
                        format!("{} is at offset {offset}, but its sender received only errors", describe(beat))
                    });
                }
                for seat in [beat.sender(), beat.receiver()] {
                    let head = self.heads.entry(self.plan.user(seat).clone()).or_default();
                    *head = offset.max(*head);
                }
            }
            Some(first) if first == offset => {}
            Some(first) => {
                self.fault(Fault::Duplicated, || format!("{} is at offset {first} and at {offset}", describe(beat)));
            }
        }
    }

    /// Records that the sender knows its smile to be in the log.
    fn confirm(&mut self, beat: Beat, at: Duration) {
        let Some(smile) = find(&mut self.smiles, beat) else { return };
        self.in_flight -= u64::from(smile.in_flight);
        smile.in_flight = false;
        if smile.outcome == Outcome::Open {
            smile.outcome = Outcome::Acked;
            self.open -= 1;
            self.counts.acked += 1;
            self.ack_latency.record(at.saturating_sub(smile.offered_at));
        }
    }

    fn breach(&mut self, number: StreamNumber, what: &str) {
        let user = self.streams[number].user.clone();
        self.fault(Fault::Breach, || format!("{user} (stream {number}): {what}"));
    }

    fn fault(&mut self, fault: Fault, words: impl FnOnce() -> String) {
        self.faults.note(fault, 1, words);
    }
}

/// The smile of a beat, if it was sent.
fn find(smiles: &mut [Vec<Option<SentSmile>>], beat: Beat) -> Option<&mut SentSmile> {
    smiles.get_mut(beat.conversation)?.get_mut(beat.number)?.as_mut()
}
