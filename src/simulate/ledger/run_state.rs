//! The state of a run: live sessions, unanswered smiles, streams that are behind, and the second reading.

use super::stream::Stream;
use super::{Counts, Faults, Ledger, StreamNumber};
use crate::model::{Epoch, Offset, UserName};

/// A second reading of a user's stream.
#[derive(Clone, Debug)]
pub struct Rereading {
    /// The stream that records the reading.
    pub stream: StreamNumber,
    /// The user.
    pub user: UserName,
    /// The epoch of the log.
    pub epoch: Epoch,
    /// The reading starts after this offset.
    pub start: Offset,
    /// The reading ends with this offset.
    pub head: Offset,
}

impl Ledger {
    /// Adds a reader of a user's stream. The reader starts at the lowest offset at which one of the user's seats began
    /// its first session on the run's log.
    ///
    /// Returns `None` if no session of the user began on the run's log, or if no smile of the run is known to be in the
    /// stream.
    pub fn begin_reread(&mut self, user: &UserName) -> Option<Rereading> {
        let head = *self.heads.get(user)?;
        let starts = self.streams.iter().filter(|stream| stream.user == *user).filter_map(|stream| stream.start);
        let start = starts.min()?;
        let epoch = self.epoch.clone()?;
        self.streams.push(Stream::rereading(user.clone(), start, head));
        Some(Rereading { stream: self.streams.len() - 1, user: user.clone(), epoch, start, head })
    }

    /// Whether every seat has a session.
    pub fn all_live(&self) -> bool {
        self.live == self.plan.seats()
    }

    /// The number of seats with a session.
    pub fn live(&self) -> usize {
        self.live
    }

    /// The number of sent smiles that the sender knows neither to be in the log nor to have been permanently refused.
    pub fn open(&self) -> u64 {
        self.open
    }

    /// Whether every written smile has an answer, which may be a refusal.
    pub fn answered(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether every user has stopped sending, no smile is [`open`](Self::open), and every stream has caught up.
    pub fn settled(&self) -> bool {
        self.done == self.plan.seats() && self.open == 0 && self.caught_up()
    }

    /// Whether every stream has reached the last of the run's smiles that are known to belong to that stream. An
    /// earlier smile that the stream lacks by then is lost.
    pub fn caught_up(&self) -> bool {
        self.streams.iter().all(|stream| self.heads.get(&stream.user).is_none_or(|&head| stream.is_past(head)))
    }

    /// The number of readers with nothing left to read: readers that reached the end of their stream, or that could not
    /// resume.
    pub fn reread(&self) -> usize {
        let readers = self.streams[self.plan.seats()..].iter();
        readers.filter(|reader| reader.is_past(Offset(u64::MAX))).count()
    }

    /// Ends settling although the run has not settled. `in_time` says whether nothing has moved for so long that each
    /// seat with a session must have received the smiles known so far. All other seats are excused, and so is a seat
    /// that loses its session later.
    pub fn cut_settling(&mut self, in_time: bool) {
        self.cut = true;
        for seat in &mut self.streams[..self.plan.seats()] {
            seat.excused |= !(in_time && seat.live);
            seat.expect_until(self.heads.get(&seat.user).copied().unwrap_or_default());
        }
    }

    /// Ends the second reading. `in_time` says whether the readers had enough time. If so, smiles that a connected
    /// reader did not reach count as lost. Otherwise, and for a reader without a session, these smiles are not judged,
    /// and the run is not proven.
    ///
    /// A seat without a session at the end is excused: smiles above the last offset of its stream do not count as lost
    /// in that stream, and the unanswered smiles of its user do not count as faults. If there are such smiles, the run
    /// is not proven. The same holds for smiles that became known too late for a seat to receive them.
    pub fn end_reread(&mut self, in_time: bool) {
        let seats = self.plan.seats();
        for seat in &mut self.streams[..seats] {
            seat.excused |= !seat.live;
            seat.stop();
            self.unproven |= self.heads.get(&seat.user).is_some_and(|&head| seat.ends_before(head));
        }
        let in_flight = self.sent().any(|(beat, smile)| smile.is_unanswered() && self.streams[beat.sender()].excused);
        self.unproven |= in_flight;
        for reader in self.streams[seats..].iter_mut().filter(|reader| !reader.is_past(Offset(u64::MAX))) {
            if !(in_time && reader.live) {
                reader.expect_no_more();
                self.unproven = true;
            }
        }
    }

    /// Whether no smile waits for an answer, and none will be written again unless a connection is lost.
    pub fn given_up_and_answered(&self) -> bool {
        self.giving_up == self.plan.seats() && self.answered()
    }

    /// Whether every user has stopped.
    pub fn stopped(&self) -> bool {
        self.stopped == self.plan.seats()
    }

    /// The number of readers.
    pub fn readers(&self) -> usize {
        self.streams.len() - self.plan.seats()
    }

    /// The number of smiles of the run that the readers have received, each counted once for each reader.
    pub fn read(&self) -> usize {
        self.streams[self.plan.seats()..].iter().map(Stream::received_count).sum()
    }

    /// A number that changes with every smile, ack, permanent refusal and new session.
    pub fn movement(&self) -> u64 {
        self.heard + self.counts.failed + self.counts.sessions_per_replica.values().sum::<u64>()
    }

    /// Whether a smile was acked, and the run could be verified to its end. See [`Self::end_reread`].
    pub fn proven(&self) -> bool {
        self.counts.acked > 0 && !self.unproven
    }

    /// The counts so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The faults detected so far. Faults that only the whole run shows, such as lost smiles, are in [`Self::verdict`].
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}
