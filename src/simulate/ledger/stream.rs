//! The stream that a seat or a reader received, over all its sessions.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::{Offset, UserName};

#[derive(Debug)]
pub(super) struct Stream {
    pub user: UserName,
    /// The offset at which the first session on the run's log started; for a reader, where its reading starts. The
    /// stream must receive every smile of the run to or from its user above `start` and up to `until`.
    pub start: Option<Offset>,
    /// Offsets above this one need not be received.
    until: Offset,
    /// Whether this seat did not have enough time with a session before it stopped. Then neither the smiles that it
    /// lacks at the end of its stream nor the unanswered smiles of its user are faults.
    pub excused: bool,
    /// The highest offset that the last session on the run's log has received; at first, the offset at which that
    /// session started.
    pub offset: Offset,
    pub sessions: u32,
    /// Whether there is a session now or, after a seat has stopped, whether there was one when it stopped.
    pub live: bool,
    /// Whether the current session belongs to a different log and so says nothing about the log of the run.
    pub foreign: bool,
    /// The replica that held the last session.
    pub replica: String,
    /// The index of the requested crash that began the current outage, if one did.
    pub crash: Option<usize>,
    /// The start of the current outage: the stream lost its session, and no session has answered since.
    pub lost_at: Option<Duration>,
    /// The number of transmissions in the current session.
    written: u32,
    /// The offsets of this run's smiles that arrived in ascending order.
    received: Vec<Offset>,
    /// The other offsets of this run's smiles: those that arrived after a higher offset.
    late: BTreeSet<Offset>,
}

/// The place of a transmission: its session, and its number in that session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    session: u32,
    number: u32,
}

impl Place {
    pub(super) fn session(self) -> u32 {
        self.session
    }
}

/// How an offset relates to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advance {
    /// Above the session's earlier offsets, as the protocol requires.
    Next,
    /// Received before, or the offset at which the session started.
    Again,
    /// Below the highest, and not known to have been received before. Only offsets of this run's smiles are remembered.
    Late,
}

impl Stream {
    /// The stream of a seat that has no session yet.
    pub(super) fn new(user: UserName) -> Self {
        Self {
            user,
            start: None,
            until: Offset(u64::MAX),
            excused: false,
            offset: Offset(0),
            sessions: 0,
            live: false,
            replica: String::new(),
            crash: None,
            foreign: false,
            lost_at: None,
            written: 0,
            received: Vec::new(),
            late: BTreeSet::new(),
        }
    }

    pub(super) fn rereading(user: UserName, start: Offset, until: Offset) -> Self {
        Self { start: Some(start), until, offset: start, ..Self::new(user) }
    }

    pub(super) fn begin_session(&mut self, offset: Offset, foreign: bool) {
        self.sessions += 1;
        self.written = 0;
        self.live = true;
        self.foreign = foreign;
        if !foreign {
            self.start.get_or_insert(offset);
            self.offset = offset;
        }
    }

    pub(super) fn expect_nothing(&mut self) {
        self.until = Offset(0);
    }

    pub(super) fn expect_no_more(&mut self) {
        self.until = self.offset;
    }

    pub(super) fn expect_until(&mut self, head: Offset) {
        self.until = head;
    }

    /// Ends what this seat must receive.
    pub(super) fn stop(&mut self) {
        self.until = if self.excused { self.offset } else { self.until.max(self.offset) };
    }

    /// Whether the stream need not receive a smile at `head`, although it began before that smile.
    pub(super) fn ends_before(&self, head: Offset) -> bool {
        self.start.is_some_and(|start| start < head) && self.until < head
    }

    pub(super) fn next_place(&mut self) -> Place {
        self.written += 1;
        Place { session: self.sessions, number: self.written }
    }

    /// `ours` says whether the offset belongs to a smile of this run and must be remembered.
    pub(super) fn advance(&mut self, offset: Offset, ours: bool) -> Advance {
        if offset == self.offset || self.has_received(offset) {
            return Advance::Again;
        }
        if offset > self.offset {
            self.offset = offset;
            // After a gap, a session may start at a lower offset, and the list must stay sorted.
            let in_order = self.received.last().is_none_or(|&last| last < offset);
            if ours && in_order {
                self.received.push(offset);
            } else if ours {
                self.late.insert(offset);
            }
            return Advance::Next;
        }
        if ours && !self.late.insert(offset) {
            return Advance::Again;
        }
        Advance::Late
    }

    /// Whether the stream has nothing to receive up to `head` or `until`, or its last session is on the run's log and
    /// has reached `head` or `until`.
    pub(super) fn is_past(&self, head: Offset) -> bool {
        let goal = head.min(self.until);
        self.start.is_none_or(|start| goal <= start) || (!self.foreign && self.offset >= goal)
    }

    /// The number of this run's smiles that the stream has received, each counted once.
    pub(super) fn received_count(&self) -> usize {
        self.received.len() + self.late.len()
    }

    fn has_received(&self, offset: Offset) -> bool {
        // The offset is nearly always the highest so far, and then there is nothing to search.
        self.received.last().is_some_and(|&last| last >= offset) && self.received.binary_search(&offset).is_ok()
    }

    /// The offsets in `expected`, which must ascend, that the stream lacks although it must hold them.
    pub(super) fn missing<'a, T>(&self, expected: &'a [(Offset, T)]) -> Vec<&'a (Offset, T)> {
        let Some(start) = self.start else { return Vec::new() };
        let mut received = self.received.iter().peekable();
        let is_missing = |(offset, _): &&(Offset, T)| {
            while received.next_if(|&received| received < offset).is_some() {}
            *offset > start && *offset <= self.until && received.peek() != Some(&offset) && !self.late.contains(offset)
        };
        expected.iter().filter(is_missing).collect()
    }
}
