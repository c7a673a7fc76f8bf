//! Handing sessions over to emptier replicas, until all hold about as many.
//!
//! Owns how many, and when; which sessions those are is the hub's choice. Each replica decides for itself, by the same
//! rule and from the same list: what the fuller ones have above the mean is what the emptier ones have below it. All but
//! [`Handover::hand_over`] is pure code that is given the time and the list.

#[cfg(test)]
mod simulation;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::hub::Hub;
use crate::store::{ReplicaRecord, ReplicaState};

/// How long a replica must have been seen ready before it counts: the proxy must have found it, too.
const SETTLED: Duration = Duration::from_secs(5);

/// The part of its sessions that a replica hands over at once, a second apart. At least one.
const SHARE: usize = 20;

/// A replica within this part of the mean is as full as it should be.
const EVEN: usize = 10;

/// How long a session that was handed over may take until it is counted by the replica that it went to.
const ON_THE_WAY: Duration = Duration::from_secs(3);

/// What one replica remembers of handing over.
#[derive(Debug, Default)]
pub(super) struct Handover {
    /// When each replica that is ready was first seen so.
    seen: HashMap<String, Instant>,
    /// How many sessions were handed over when, as long as they are on their way.
    handed_over: VecDeque<(Instant, usize)>,
    /// What was too much when this was last asked.
    before: usize,
}

impl Handover {
    /// Tells sessions to go, as many as are too many now; returns how many that were. Call it once a second.
    pub(super) fn hand_over(&mut self, replicas: &[ReplicaRecord], this: &str, hub: &Hub, now: Instant) -> usize {
        let surplus = self.surplus(replicas, this, hub.sessions(), now);
        let sessions = hub.hand_over(surplus);
        if sessions > 0 {
            tracing::debug!(sessions, "sessions are handed over to emptier replicas");
            self.handed_over(sessions, now);
        }
        sessions
    }

    /// How many of `own` sessions to hand over now.
    fn surplus(&mut self, replicas: &[ReplicaRecord], this: &str, own: usize, now: Instant) -> usize {
        let ready = replicas.iter().filter(|replica| replica.state == ReplicaState::Ready);
        self.seen = ready.map(|replica| (replica.id.clone(), *self.seen.get(&replica.id).unwrap_or(&now))).collect();
        self.handed_over.retain(|(at, _)| now.duration_since(*at) < ON_THE_WAY);
        // The list is a heartbeat old, and clients may have come to every replica since. So a surplus counts when it is
        // seen twice in a row.
        let excess = self.excess(replicas, this, own, now);
        excess.min(std::mem::replace(&mut self.before, excess))
    }

    /// What this replica has above the mean, if that is uneven; at most its share.
    fn excess(&self, replicas: &[ReplicaRecord], this: &str, own: usize, now: Instant) -> usize {
        let others: Vec<(usize, &str)> = replicas
            .iter()
            .filter(|replica| replica.id != this && self.is_settled(&replica.id, now))
            .map(|replica| (replica.sessions as usize, replica.id.as_str()))
            .collect();
        let on_the_way: usize = self.handed_over.iter().map(|(_, sessions)| sessions).sum();
        let total = own + others.iter().map(|(sessions, _)| sessions).sum::<usize>() + on_the_way;
        let replicas = others.len() + 1;
        let (below, above) = (total / replicas, total.div_ceil(replicas));
        // In whole numbers: `sessions * replicas` against the `total` is one replica against the mean.
        let too_full = own > above && own * replicas * EVEN > total * (EVEN + 1);
        let is_too_empty = |sessions: usize| sessions < below && sessions * replicas * EVEN < total * (EVEN - 1);
        let too_empty = others.iter().any(|(sessions, _)| is_too_empty(*sessions));
        if !(too_full || too_empty) {
            return 0;
        }
        // Where nobody has a whole session above the mean, the fullest gives one to those that lack more.
        let is_fullest = on_the_way == 0 && others.iter().all(|other| *other < (own, this));
        let target = if is_fullest { below } else { above };
        own.saturating_sub(target).min(own.div_ceil(SHARE))
    }

    fn is_settled(&self, replica: &str, now: Instant) -> bool {
        self.seen.get(replica).is_some_and(|seen| now.duration_since(*seen) >= SETTLED)
    }

    /// So many sessions were told to go.
    fn handed_over(&mut self, sessions: usize, now: Instant) {
        self.handed_over.push_back((now, sessions));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    pub(super) fn replica(id: &str, sessions: usize) -> ReplicaRecord {
        ReplicaRecord {
            id: id.to_owned(),
            name: id.to_owned(),
            host: "here".to_owned(),
            node: None,
            state: ReplicaState::Ready,
            started_at: Timestamp::from_milliseconds(0),
            uptime_ms: 0,
            heartbeat_age_ms: 0,
            sessions: u32::try_from(sessions).unwrap(),
            smiles_per_second: 0.0,
            capacity: 100,
            version: "0".to_owned(),
            following: None,
            obeys: true,
            crash: None,
        }
    }

    /// What a replica that has seen these for long would hand over of its own sessions.
    fn surplus(own: usize, others: &[usize]) -> usize {
        let start = Instant::now();
        let mut replicas: Vec<_> =
            others.iter().enumerate().map(|(number, sessions)| replica(&format!("be{number}"), *sessions)).collect();
        replicas.push(replica("this", 0));
        let mut handover = Handover::default();
        assert_eq!(handover.surplus(&replicas, "this", own, start), 0, "a replica that was just seen is left alone");
        assert_eq!(handover.surplus(&replicas, "this", own, start + SETTLED), 0, "the others may have as many by now");
        handover.surplus(&replicas, "this", own, start + SETTLED)
    }

    #[test]
    fn what_the_others_have_got_in_the_meantime_is_waited_for() {
        let start = Instant::now();
        let mut handover = Handover::default();
        for (second, (own, other)) in
            [(0, 0), (0, 0), (100, 0), (100, 100), (300, 100), (300, 300)].into_iter().enumerate()
        {
            let replicas = [replica("this", 0), replica("be1", other)];
            let now = start + SETTLED * u32::try_from(second).unwrap();
            assert_eq!(handover.surplus(&replicas, "this", own, now), 0, "{second}");
        }
    }

    #[test]
    fn the_fuller_hand_over_a_few_at_a_time() {
        assert_eq!(surplus(60, &[0]), 3);
        assert_eq!(surplus(1000, &[0, 0, 0]), 50);
        assert_eq!(surplus(40, &[30]), 2);
        assert_eq!(surplus(20, &[20, 20, 0]), 1);
        assert_eq!(surplus(2, &[0]), 1);
    }

    #[test]
    fn even_is_within_a_tenth_or_as_near_as_whole_sessions_allow() {
        for (own, others) in
            [(0, &[60][..]), (30, &[30]), (33, &[27]), (1, &[0]), (3, &[2, 2, 3]), (109, &[100, 95, 96]), (5, &[])]
        {
            assert_eq!(surplus(own, others), 0, "{own} among {others:?}");
        }
        assert!(surplus(102, &[100, 100, 80]) > 0, "nobody is too full, and one is too empty");
        assert_eq!(surplus(8, &[8, 8, 8, 8, 8, 6, 6]), 1, "one gives, which all agree on");
        assert_eq!(surplus(7, &[8, 8, 8, 8, 8, 7, 6]), 0);
    }

    #[test]
    fn who_cannot_take_sessions_does_not_count() {
        let start = Instant::now();
        for state in [ReplicaState::Draining, ReplicaState::Lost] {
            let replicas = [replica("this", 0), ReplicaRecord { state, ..replica("be1", 0) }];
            let mut handover = Handover::default();
            handover.surplus(&replicas, "this", 60, start);
            handover.surplus(&replicas, "this", 60, start + SETTLED);
            assert_eq!(handover.surplus(&replicas, "this", 60, start + SETTLED), 0);
        }
    }

    #[test]
    fn those_on_their_way_still_count() {
        let start = Instant::now();
        let replicas = [replica("this", 0), replica("be1", 10)];
        let mut handover = Handover::default();
        handover.surplus(&replicas, "this", 16, start);
        handover.surplus(&replicas, "this", 16, start + SETTLED);
        assert_eq!(handover.surplus(&replicas, "this", 16, start + SETTLED), 1);
        handover.handed_over(1, start + SETTLED);
        handover.handed_over(2, start + SETTLED);
        // 13 here, 10 there, 3 in between: the mean is 13.
        assert_eq!(handover.surplus(&replicas, "this", 13, start + SETTLED + ON_THE_WAY / 2), 0);
    }
}
