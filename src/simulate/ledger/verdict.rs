//! The verdict at the end of a run, with the faults that only the whole run shows: smiles that are lost, unanswered or
//! not in the order in which they were sent, and offsets with two smiles.

use std::collections::{BTreeSet, HashMap};

use strum::{EnumCount, IntoStaticStr};

use super::Ledger;
use super::smile::Outcome;
use crate::model::{Offset, UserName};
use crate::simulate::latency::Percentiles;
use crate::simulate::plan::Beat;

/// The maximum number of faults that are described in words. All faults are counted.
const MAX_WORDS: usize = 20;

/// The kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumCount, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Fault {
    /// A smile is in the log, but a stream that should have received it did not.
    Lost,
    /// A smile appears twice in a stream or in the log.
    Duplicated,
    /// A session received smiles out of order, two smiles are at one offset, or the log does not keep the order in
    /// which a session sent its smiles.
    Reordered,
    /// The faces or the receiver of a smile differ from what was sent.
    Altered,
    /// A valid smile was permanently refused.
    Failed,
    /// A smile was written, and was still unanswered at the end.
    Unanswered,
    /// The server violated the protocol in any other way.
    #[strum(serialize = "breach of contract")]
    Breach,
}

/// The number of faults of each kind, and the first faults in words.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    counts: [u64; Fault::COUNT],
    words: Vec<String>,
}

impl Faults {
    /// Counts `count` faults of this kind, and records the words unless 20 faults are already described.
    pub fn note(&mut self, fault: Fault, count: u64, words: impl FnOnce() -> String) {
        self.counts[fault as usize] += count;
        if self.words.len() < MAX_WORDS {
            self.words.push(format!("{}: {}", <&str>::from(fault), words()));
        }
    }

    /// The number of faults of this kind.
    pub fn count(&self, fault: Fault) -> u64 {
        self.counts[fault as usize]
    }

    /// Whether there are no faults.
    pub fn none(&self) -> bool {
        self.counts.iter().all(|&count| count == 0)
    }

    /// The first faults in words.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

/// The times of a run.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the beat of a smile to the moment at which its sender knew that it was in the log, retries included.
    pub ack: Percentiles,
    /// From the beat of a smile to its delivery to the other user.
    pub delivery: Percentiles,
    /// From the loss of a connection to the first answer of a later session.
    pub recovery: Percentiles,
}

impl Ledger {
    /// The faults of the whole run, once everything has settled or no more progress is possible. [`Self::end_reread`]
    /// says which smiles are not judged.
    pub fn verdict(&self) -> Faults {
        let mut faults = self.faults.clone();
        self.judge_offsets(&mut faults);
        self.judge_orders(&mut faults);
        self.judge_streams(&mut faults);
        let judged = |beat: Beat| !self.streams[beat.sender()].excused;
        for (beat, _) in self.sent().filter(|&(beat, smile)| smile.is_unanswered() && judged(beat)) {
            faults.note(Fault::Unanswered, 1, || describe(beat));
        }
        faults
    }

    /// The number of smiles that have no final answer and are not in flight: the last answer was a temporary refusal,
    /// or they were never written. A smile with an earlier transmission that was not answered may be in the log.
    pub fn given_up(&self) -> u64 {
        self.sent().filter(|(_, smile)| smile.outcome == Outcome::Open && !smile.in_flight).count() as u64
    }

    /// The times of the run.
    pub fn times(&self) -> Times {
        Times {
            ack: self.ack_latency.percentiles(),
            delivery: self.delivery_latency.percentiles(),
            recovery: self.recovery.percentiles(),
        }
    }

    pub(super) fn sent(&self) -> impl Iterator<Item = (Beat, &super::SentSmile)> {
        self.smiles.iter().enumerate().flat_map(|(conversation, smiles)| {
            let numbered = smiles.iter().enumerate();
            numbered.filter_map(move |(number, smile)| Some((Beat { conversation, number }, smile.as_ref()?)))
        })
    }

    /// No two smiles may share an offset: sessions could disagree on the order of two smiles at one offset.
    fn judge_offsets(&self, faults: &mut Faults) {
        let mut placed: Vec<_> = self.sent().filter_map(|(beat, smile)| Some((smile.offset?, beat))).collect();
        placed.sort_unstable();
        for pair in placed.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
            faults.note(Fault::Reordered, 1, || {
                format!("{} and {} are both at offset {}", describe(pair[0].1), describe(pair[1].1), pair[0].0)
            });
        }
    }

    /// Promise 3: the admitted smiles of one session are stored in the order in which it sent them.
    fn judge_orders(&self, faults: &mut Faults) {
        let admitted =
            |(beat, smile): (Beat, &super::SentSmile)| Some((beat.sender(), smile.admitted_at()?, smile.offset?, beat));
        let mut admitted: Vec<_> = self.sent().filter_map(admitted).collect();
        admitted.sort_unstable();
        for pair in admitted.windows(2) {
            let [(seat, place, offset, beat), (later_seat, later_place, later_offset, later)] = pair else { continue };
            if (seat, place.session()) == (later_seat, later_place.session()) && offset > later_offset {
                faults.note(Fault::Reordered, 1, || {
                    format!(
                        "{} sent {} (stored at offset {offset}) before {} (stored at {later_offset}) in one session",
                        self.plan.user(*seat),
                        describe(*beat),
                        describe(*later)
                    )
                });
            }
        }
    }

    /// Promise 4: every session receives its user's whole stream after the start of the session. A lost smile counts
    /// once, however many streams lack it.
    fn judge_streams(&self, faults: &mut Faults) {
        let mut expected_of: HashMap<&UserName, Vec<(Offset, Beat)>> = HashMap::new();
        for (beat, smile) in self.sent() {
            let Some(offset) = smile.offset else { continue };
            for seat in [beat.sender(), beat.receiver()] {
                expected_of.entry(self.plan.user(seat)).or_default().push((offset, beat));
            }
        }
        for expected in expected_of.values_mut() {
            expected.sort_unstable();
        }
        let mut lost: BTreeSet<Beat> = BTreeSet::new();
        for (number, stream) in self.streams.iter().enumerate() {
            let Some(expected) = expected_of.get(&stream.user) else { continue };
            for (offset, beat) in stream.missing(expected) {
                if lost.insert(*beat) {
                    let missed = if number < self.plan.seats() { "never reached" } else { "was not read again by" };
                    faults.note(Fault::Lost, 1, || {
                        format!("{} at offset {offset} {missed} {} (stream {number})", describe(*beat), stream.user)
                    });
                }
            }
        }
    }
}

pub(super) fn describe(beat: Beat) -> String {
    format!("smile {} of conversation {}", beat.number, beat.conversation)
}
