//! Rebalancing: replicas hand sessions over to emptier replicas until all replicas are near the mean.
//!
//! Each replica decides alone, by the same rule and from its own copy of the list. The replicas need not coordinate:
//! those above the mean together exceed it by as many sessions as those below the mean lack. Except for
//! [`Handover::hand_over`], this is pure code: callers pass the time and the list.

#[cfg(test)]
mod simulation;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::hub::Hub;
use crate::protocol::CloseReason;
use crate::store::{ReplicaRecord, ReplicaState};

/// How long another replica must have been ready before it counts: the proxy must find it first.
const SETTLE_TIME: Duration = Duration::from_secs(5);

/// A replica hands over at most one in this many of its sessions per round, rounded up.
const MAX_FRACTION: usize = 20;

/// A replica is balanced if its number of sessions differs from the mean by at most the mean divided by this number, or
/// by less than one session.
const TOLERANCE: usize = 10;

/// How long it may take until the list counts a session that was handed over among the sessions of its new replica.
const TRANSIT_TIME: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Handover {
    /// For each replica that is ready and not behind, the time since which this replica has continuously seen it so.
    seen: HashMap<String, Instant>,
    /// When this replica recently handed sessions over, and how many. The sessions may still be in transit.
    handed_over: VecDeque<(Instant, usize)>,
    previous_excess: usize,
}

impl Handover {
    /// Hands over the surplus, and returns the number of sessions that were asked to leave. Call this once a second.
    pub(super) fn hand_over(&mut self, replicas: &[ReplicaRecord], this: &str, hub: &Hub, now: Instant) -> usize {
        let surplus = self.surplus(replicas, this, hub.sessions(), now);
        let sessions = hub.ask_to_leave(surplus, CloseReason::Rebalance);
        if sessions > 0 {
            tracing::debug!(sessions, "handing sessions over to emptier replicas");
            self.handed_over.push_back((now, sessions));
        }
        sessions
    }

    /// The number of `own` sessions to hand over now.
    fn surplus(&mut self, replicas: &[ReplicaRecord], this: &str, own: usize, now: Instant) -> usize {
        let accepts = |replica: &&ReplicaRecord| replica.state == ReplicaState::Ready && !replica.status.behind;
        let ready = replicas.iter().filter(accepts);
        self.seen = ready.map(|replica| (replica.id.clone(), *self.seen.get(&replica.id).unwrap_or(&now))).collect();
        self.handed_over.retain(|(at, _)| now.duration_since(*at) < TRANSIT_TIME);
        // The numbers in the list may be more than a second old, so a surplus counts only as far as it is seen in two
        // consecutive rounds.
        let excess = self.excess(replicas, this, own, now);
        excess.min(std::mem::replace(&mut self.previous_excess, excess))
    }

    /// The number of sessions above the mean if this replica is too full or another one is too empty, else 0; at most
    /// 1/[`MAX_FRACTION`] of `own`, rounded up.
    fn excess(&self, replicas: &[ReplicaRecord], this: &str, own: usize, now: Instant) -> usize {
        let settled = |id| self.seen.get(id).is_some_and(|seen| now.duration_since(*seen) >= SETTLE_TIME);
        let others: Vec<(usize, &str)> = replicas
            .iter()
            .filter(|replica| replica.id != this && settled(&replica.id))
            .map(|replica| (replica.status.sessions as usize, replica.id.as_str()))
            .collect();
        let in_transit: usize = self.handed_over.iter().map(|(_, sessions)| sessions).sum();
        let total = own + others.iter().map(|(sessions, _)| sessions).sum::<usize>() + in_transit;
        let replicas = others.len() + 1;
        let (below, above) = (total / replicas, total.div_ceil(replicas));
        // Integer arithmetic: comparing `sessions * replicas` with `total` compares a replica with the mean.
        let too_full = own > above && own * replicas * TOLERANCE > total * (TOLERANCE + 1);
        let is_too_empty =
            |sessions: usize| sessions < below && sessions * replicas * TOLERANCE < total * (TOLERANCE - 1);
        let too_empty = others.iter().any(|(sessions, _)| is_too_empty(*sessions));
        if !(too_full || too_empty) {
            return 0;
        }
        // The fullest replica, while none of its sessions is in transit, goes down to the mean rounded down. The other
        // replicas go down only to the mean rounded up. So if no replica is a whole session above the mean, only the
        // fullest one hands sessions over.
        let is_fullest = in_transit == 0 && others.iter().all(|other| *other < (own, this));
        let target = if is_fullest { below } else { above };
        own.saturating_sub(target).min(own.div_ceil(MAX_FRACTION))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::store::{ReplicaInfo, ReplicaStatus};

    pub(super) fn replica(id: &str, sessions: usize) -> ReplicaRecord {
        ReplicaRecord {
            id: id.to_owned(),
            info: ReplicaInfo { name: id.to_owned(), host: "here".to_owned(), node: None, capacity: 100, obeys: true },
            state: ReplicaState::Ready,
            started_at: Timestamp(0),
            uptime_ms: 0,
            heartbeat_age_ms: 0,
            status: ReplicaStatus { sessions: u32::try_from(sessions).unwrap(), ..ReplicaStatus::default() },
            version: "0".to_owned(),
            crash: None,
        }
    }

    /// The surplus of a replica with `own` sessions among settled replicas, whose numbers of sessions are `others`.
    fn surplus(own: usize, others: &[usize]) -> usize {
        let start = Instant::now();
        let mut replicas: Vec<_> =
            others.iter().enumerate().map(|(number, sessions)| replica(&format!("be{number}"), *sessions)).collect();
        replicas.push(replica("this", 0));
        let mut handover = Handover::default();
        assert_eq!(handover.surplus(&replicas, "this", own, start), 0, "a new replica counted at once");
        assert_eq!(
            handover.surplus(&replicas, "this", own, start + SETTLE_TIME),
            0,
            "a surplus counted although it was seen only once"
        );
        handover.surplus(&replicas, "this", own, start + SETTLE_TIME)
    }

    #[test]
    fn a_surplus_must_be_seen_twice() {
        let start = Instant::now();
        let mut handover = Handover::default();
        for (second, (own, other)) in
            [(0, 0), (0, 0), (100, 0), (100, 100), (300, 100), (300, 300)].into_iter().enumerate()
        {
            let replicas = [replica("this", 0), replica("be1", other)];
            let now = start + SETTLE_TIME * u32::try_from(second).unwrap();
            assert_eq!(handover.surplus(&replicas, "this", own, now), 0, "a surplus counted in round {second}");
        }
    }

    #[test]
    fn a_full_replica_hands_over_a_twentieth_at_a_time() {
        assert_eq!(surplus(60, &[0]), 3);
        assert_eq!(surplus(1000, &[0, 0, 0]), 50);
        assert_eq!(surplus(40, &[30]), 2);
        assert_eq!(surplus(20, &[20, 20, 0]), 1);
        assert_eq!(surplus(2, &[0]), 1);
    }

    #[test]
    fn replicas_within_a_tenth_of_the_mean_are_balanced() {
        for (own, others) in
            [(0, &[60][..]), (30, &[30]), (33, &[27]), (1, &[0]), (3, &[2, 2, 3]), (109, &[100, 95, 96]), (5, &[])]
        {
            assert_eq!(surplus(own, others), 0, "a replica with {own} sessions among {others:?} handed sessions over");
        }
        assert!(surplus(102, &[100, 100, 80]) > 0, "a replica that was too empty got no sessions");
        assert_eq!(surplus(8, &[8, 8, 8, 8, 8, 6, 6]), 1, "the fullest replica did not hand over one session");
        assert_eq!(surplus(7, &[8, 8, 8, 8, 8, 7, 6]), 0);
    }

    #[test]
    fn draining_lost_and_behind_replicas_do_not_count() {
        let start = Instant::now();
        let (ready, behind) = (replica("be1", 0), ReplicaStatus { behind: true, ..ReplicaStatus::default() });
        for other in [
            ReplicaRecord { state: ReplicaState::Draining, ..ready.clone() },
            ReplicaRecord { state: ReplicaState::Lost, ..ready.clone() },
            ReplicaRecord { status: behind, ..ready },
        ] {
            let replicas = [replica("this", 0), other];
            let mut handover = Handover::default();
            handover.surplus(&replicas, "this", 60, start);
            handover.surplus(&replicas, "this", 60, start + SETTLE_TIME);
            assert_eq!(handover.surplus(&replicas, "this", 60, start + SETTLE_TIME), 0);
        }
    }

    #[test]
    fn sessions_in_transit_still_count() {
        let start = Instant::now();
        let replicas = [replica("this", 0), replica("be1", 10)];
        let mut handover = Handover::default();
        handover.surplus(&replicas, "this", 16, start);
        handover.surplus(&replicas, "this", 16, start + SETTLE_TIME);
        assert_eq!(handover.surplus(&replicas, "this", 16, start + SETTLE_TIME), 1);
        handover.handed_over.extend([(start + SETTLE_TIME, 1), (start + SETTLE_TIME, 2)]);
        // 13 sessions on this replica, 10 on the other one and 3 in transit: the mean is 13.
        assert_eq!(handover.surplus(&replicas, "this", 13, start + SETTLE_TIME + TRANSIT_TIME / 2), 0);
    }
}
