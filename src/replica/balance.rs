//! How many sessions a replica hands over to the others, and when: until all hold about as many.
//!
//! Pure code that is given the time and the list of replicas. Must not know which sessions those are, or how they are told.
//! Each replica decides for itself, by the same rule and from the same list: what the fuller ones have above the mean is
//! what the emptier ones have below it.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::store::{ReplicaRecord, ReplicaState};

/// How long a replica must have been seen before it is counted on to take sessions: whoever leads clients to the replicas
/// must have found it, too.
const SETTLED: Duration = Duration::from_secs(5);

/// The part of its sessions that a replica hands over at once, a second apart. At least one.
const SHARE: usize = 20;

/// A replica within this part of the mean is as full as it should be.
const EVEN: usize = 10;

/// How long a session that was handed over may take until it is counted by the replica that it went to.
const ON_THE_WAY: Duration = Duration::from_secs(3);

/// How long a session that another replica may have handed over is left alone.
const REST: Duration = Duration::from_mins(1);

/// How much later than the first hand-over of a row the first may be that is heard of: only the last one is told, and the
/// list comes once a second, or late.
const HEARD_LATE: Duration = Duration::from_secs(5);

/// How long nothing is handed over after most of it came back: doubled from time to time. Clients that know no other
/// replica, or are led by whoever does not know of the others, come back for ever.
const SHORTEST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// What one replica remembers of handing over.
#[derive(Debug)]
pub(super) struct Balance {
    /// When each replica that is ready was first seen so.
    seen: HashMap<String, Instant>,
    /// How many sessions were handed over when, and how many of them have come back here since the one before.
    handed_over: VecDeque<(Instant, usize)>,
    came_back: usize,
    pause: Duration,
    paused_until: Option<Instant>,
    /// What was too much when this was last asked.
    before: usize,
    /// The time in which other replicas have handed sessions over, with no rest in it: since when, and when last.
    others_hand_over: Option<(Instant, Instant)>,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            seen: HashMap::new(),
            handed_over: VecDeque::new(),
            came_back: 0,
            pause: SHORTEST_PAUSE,
            paused_until: None,
            before: 0,
            others_hand_over: None,
        }
    }
}

impl Balance {
    /// How many of `own` sessions to hand over now. `came_back`: how many of those that were handed over have come back
    /// since this was last asked. Ask once a second.
    pub(super) fn surplus(
        &mut self,
        replicas: &[ReplicaRecord],
        this: &str,
        own: usize,
        came_back: usize,
        now: Instant,
    ) -> usize {
        self.see(replicas, this, now);
        self.learn(came_back, now);
        // What the others hold is known from a heartbeat ago, and clients may have come to all of them since: only what
        // is too much twice in a row is.
        let excess = self.excess(replicas, this, own, now);
        let surplus = excess.min(self.before);
        self.before = excess;
        if self.paused_until.is_some_and(|until| now < until) { 0 } else { surplus }
    }

    /// What this replica has above the mean, if that is uneven; at most its share.
    fn excess(&self, replicas: &[ReplicaRecord], this: &str, own: usize, now: Instant) -> usize {
        let others: Vec<usize> = replicas
            .iter()
            .filter(|replica| replica.id != this && self.is_settled(&replica.id, now))
            .map(|replica| replica.sessions as usize)
            .collect();
        let on_the_way: usize = self.handed_over.iter().map(|(_, sessions)| sessions).sum();
        let total = own + others.iter().sum::<usize>() + on_the_way;
        let replicas = others.len() + 1;
        let target = total.div_ceil(replicas);
        // In whole numbers: `sessions * replicas` against the `total` is one replica against the mean.
        let too_full = own * replicas * EVEN > total * (EVEN + 1);
        let too_empty = others.iter().any(|sessions| sessions * replicas * EVEN < total * (EVEN - 1));
        if own <= target || !(too_full || too_empty) {
            return 0;
        }
        (own - target).min(own.div_ceil(SHARE))
    }

    /// How long ago a session must have resumed to be handed over. Whether it was handed over then, or lost its replica,
    /// cannot be told from the session, but whether any replica handed sessions over then.
    pub(super) fn rest(&self, now: Instant) -> Duration {
        match self.others_hand_over {
            Some((since, last)) if now.duration_since(last) <= REST => REST.min(now.duration_since(since) + HEARD_LATE),
            _ => Duration::ZERO,
        }
    }

    /// So many sessions were handed over.
    pub(super) fn handed_over(&mut self, sessions: usize, now: Instant) {
        if sessions > 0 {
            self.handed_over.push_back((now, sessions));
        }
    }

    fn see(&mut self, replicas: &[ReplicaRecord], this: &str, now: Instant) {
        let others = replicas.iter().filter(|replica| replica.id != this);
        let age = others.filter_map(|replica| replica.handed_over_age_ms).min();
        if let Some(at) = age.and_then(|age| now.checked_sub(Duration::from_millis(age))) {
            self.others_hand_over = match self.others_hand_over {
                Some((since, last)) if at.saturating_duration_since(last) <= REST => Some((since, last.max(at))),
                _ => Some((at, at)),
            };
        }
        let ready = |replica: &&ReplicaRecord| replica.state == ReplicaState::Ready;
        let ready: HashMap<String, Instant> = replicas
            .iter()
            .filter(ready)
            .map(|replica| (replica.id.clone(), self.seen.get(&replica.id).copied().unwrap_or(now)))
            .collect();
        self.seen = ready;
    }

    fn is_settled(&self, replica: &str, now: Instant) -> bool {
        self.seen.get(replica).is_some_and(|seen| now.duration_since(*seen) >= SETTLED)
    }

    /// Pauses when most of what was handed over has come back.
    fn learn(&mut self, came_back: usize, now: Instant) {
        self.came_back += came_back;
        let mut arrived = 0;
        while let Some((_, sessions)) = self.handed_over.pop_front_if(|(at, _)| now.duration_since(*at) >= ON_THE_WAY) {
            arrived += sessions;
        }
        if arrived == 0 {
            return;
        }
        if self.came_back * 4 >= arrived * 3 {
            tracing::info!(
                pause_seconds = self.pause.as_secs(),
                "most sessions that were handed over came back; nothing more is handed over for a while"
            );
            self.paused_until = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        } else {
            self.pause = SHORTEST_PAUSE;
        }
        self.came_back = self.came_back.saturating_sub(arrived);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn replica(id: &str, sessions: u32) -> ReplicaRecord {
        ReplicaRecord {
            id: id.to_owned(),
            name: id.to_owned(),
            host: "here".to_owned(),
            node: None,
            state: ReplicaState::Ready,
            started_at: Timestamp::from_milliseconds(0),
            heartbeat_age_ms: 0,
            sessions,
            smiles_per_second: 0.0,
            capacity: 100,
            version: "0".to_owned(),
            following: None,
            handed_over_age_ms: None,
        }
    }

    /// What a replica that has seen these for long would hand over of its own sessions.
    fn surplus(own: usize, others: &[u32]) -> usize {
        let start = Instant::now();
        let mut replicas: Vec<_> =
            others.iter().enumerate().map(|(number, sessions)| replica(&format!("be{number}"), *sessions)).collect();
        replicas.push(replica("this", 0));
        let mut balance = Balance::default();
        assert_eq!(balance.surplus(&replicas, "this", own, 0, start), 0, "a replica that was just seen is left alone");
        assert_eq!(
            balance.surplus(&replicas, "this", own, 0, start + SETTLED),
            0,
            "the others may have as many by now"
        );
        balance.surplus(&replicas, "this", own, 0, start + SETTLED)
    }

    #[test]
    fn what_the_others_have_got_in_the_meantime_is_waited_for() {
        let start = Instant::now();
        let mut balance = Balance::default();
        for (second, (own, other)) in
            [(0, 0), (0, 0), (100, 0), (100, 100), (300, 100), (300, 300)].into_iter().enumerate()
        {
            let replicas = [replica("this", 0), replica("be1", other)];
            let now = start + SETTLED * u32::try_from(second).unwrap();
            assert_eq!(balance.surplus(&replicas, "this", own, 0, now), 0, "{second}");
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
    }

    #[test]
    fn who_cannot_take_sessions_does_not_count() {
        let start = Instant::now();
        for state in [ReplicaState::Draining, ReplicaState::Lost] {
            let replicas = [replica("this", 0), ReplicaRecord { state, ..replica("be1", 0) }];
            let mut balance = Balance::default();
            balance.surplus(&replicas, "this", 60, 0, start);
            balance.surplus(&replicas, "this", 60, 0, start + SETTLED);
            assert_eq!(balance.surplus(&replicas, "this", 60, 0, start + SETTLED), 0);
        }
    }

    #[test]
    fn sessions_rest_after_another_replica_has_handed_some_over_and_not_after_a_crash() {
        let start = Instant::now();
        let at = |age| [replica("this", 0), ReplicaRecord { handed_over_age_ms: age, ..replica("be1", 0) }];
        let mut balance = Balance::default();
        balance.surplus(&at(None), "this", 60, 0, start);
        assert_eq!(balance.rest(start), Duration::ZERO);
        balance.surplus(&at(Some(100)), "this", 60, 0, start);
        // That replica has left, and what it did has not.
        balance.surplus(&[], "this", 60, 0, start + REST / 2);
        assert!(balance.rest(start + REST / 2) >= REST / 2);
        assert_eq!(balance.rest(start + REST), Duration::ZERO);
        // Those that resumed before any replica handed over cannot have been handed over.
        let again = start + REST * 3;
        balance.surplus(&at(Some(0)), "this", 60, 0, again);
        balance.surplus(&at(Some(0)), "this", 60, 0, again + REST / 6);
        assert_eq!(balance.rest(again + REST / 6), REST / 6 + HEARD_LATE);
        let start = start + REST * 6;
        let own = [ReplicaRecord { handed_over_age_ms: Some(0), ..replica("this", 0) }];
        balance.surplus(&own, "this", 60, 0, start + REST);
        assert_eq!(balance.rest(start + REST), Duration::ZERO, "its own are gone");
    }

    #[test]
    fn those_on_their_way_still_count() {
        let start = Instant::now();
        let replicas = [replica("this", 0), replica("be1", 10)];
        let mut balance = Balance::default();
        balance.surplus(&replicas, "this", 16, 0, start);
        balance.surplus(&replicas, "this", 16, 0, start + SETTLED);
        assert_eq!(balance.surplus(&replicas, "this", 16, 0, start + SETTLED), 1);
        balance.handed_over(1, start + SETTLED);
        balance.handed_over(2, start + SETTLED);
        // 13 here, 10 there, 3 in between: the mean is 13.
        assert_eq!(balance.surplus(&replicas, "this", 13, 0, start + SETTLED + ON_THE_WAY / 2), 0);
    }

    #[test]
    fn what_comes_back_is_not_handed_over_again_and_again() {
        let start = Instant::now();
        let replicas = [replica("this", 0), replica("be1", 0)];
        let mut balance = Balance::default();
        balance.surplus(&replicas, "this", 60, 0, start);
        let mut now = start + SETTLED;
        let mut handed_over = Vec::new();
        for second in 0..600 {
            // Whatever is handed over comes back at once.
            let last = handed_over.last().filter(|(at, _)| *at + 1 == second).map_or(0, |(_, sessions)| *sessions);
            let sessions = balance.surplus(&replicas, "this", 60, last, now);
            balance.handed_over(sessions, now);
            if sessions > 0 {
                handed_over.push((second, sessions));
            }
            now += Duration::from_secs(1);
        }
        let total: usize = handed_over.iter().map(|(_, sessions)| sessions).sum();
        assert!((3..=60).contains(&total), "in ten minutes: {handed_over:?}");
    }
}
