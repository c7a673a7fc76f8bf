//! A seeded simulation of replicas behind a proxy: handovers must balance them and then stop.

use std::time::{Duration, Instant};

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::tests::replica;
use super::*;

const STEP_MS: u64 = 100;

/// How long the proxy takes to find a new replica.
const FOUND_AFTER_MS: u64 = 2000;

/// How long a session takes to reconnect, including the delay that the `drain` frame asks for.
const RETURNS_AFTER_MS: std::ops::Range<u64> = 20..1500;

/// The time limit for balancing.
const MAX_SECONDS: u64 = 300;

/// How long sessions in transit and old lists may still cause moves once the replicas are balanced.
const SETTLING_SECONDS: u64 = 30;

/// After [`SETTLING_SECONDS`], no session may move for this long.
const QUIET_SECONDS: u64 = 60;

const SEEDS: u64 = 8;

#[derive(Clone, Copy, Debug)]
enum Proxy {
    LeastConnections,
    Random,
}

#[derive(Debug)]
struct Member {
    id: String,
    started_ms: u64,
    /// When in each second this replica renews its lease and reads the list.
    phase_ms: u64,
    sessions: usize,
    /// The number of sessions that this replica's row in the list shows.
    reported: usize,
    /// The list that this replica last read.
    list: Vec<ReplicaRecord>,
    handover: Handover,
}

struct Simulation {
    random: Xoshiro256PlusPlus,
    proxy: Proxy,
    /// Whether each replica uses the list that it read a second ago instead of the current one.
    old_lists: bool,
    start: Instant,
    now_ms: u64,
    members: Vec<Member>,
    /// When the sessions in transit arrive.
    arrivals: Vec<u64>,
    started: usize,
    moves: usize,
}

impl Simulation {
    fn new(seed: u64, proxy: Proxy, old_lists: bool) -> Self {
        let random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let (members, arrivals) = (Vec::new(), Vec::new());
        Self { random, proxy, old_lists, start: Instant::now(), now_ms: 0, members, arrivals, started: 0, moves: 0 }
    }

    fn start(&mut self, count: usize) {
        for _ in 0..count {
            self.started += 1;
            self.members.push(Member {
                id: format!("be{}", self.started),
                started_ms: self.now_ms,
                phase_ms: self.random.random_range(0..1000 / STEP_MS) * STEP_MS,
                sessions: 0,
                reported: 0,
                list: Vec::new(),
                handover: Handover::default(),
            });
        }
    }

    fn stop_all_but(&mut self, count: usize) {
        for member in self.members.split_off(count) {
            self.leave(member.sessions);
        }
    }

    fn leave(&mut self, sessions: usize) {
        for _ in 0..sessions {
            self.arrivals.push(self.now_ms + self.random.random_range(RETURNS_AFTER_MS));
        }
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        let now_ms = self.now_ms;
        let arrived = self.arrivals.extract_if(.., |at| *at <= now_ms).count();
        for _ in 0..arrived {
            let place = self.choose();
            self.members[place].sessions += 1;
        }
        for place in 0..self.members.len() {
            if now_ms % 1000 == self.members[place].phase_ms {
                self.renew_and_hand_over(place);
            }
        }
    }

    fn choose(&mut self) -> usize {
        let found = |member: &Member| self.now_ms - member.started_ms >= FOUND_AFTER_MS;
        let mut found: Vec<usize> = (0..self.members.len()).filter(|place| found(&self.members[*place])).collect();
        if found.is_empty() {
            found = (0..self.members.len()).collect();
        }
        if let Proxy::LeastConnections = self.proxy {
            let least = found.iter().map(|place| self.members[*place].sessions).min().unwrap();
            found.retain(|place| self.members[*place].sessions == least);
        }
        found[self.random.random_range(0..found.len())]
    }

    fn renew_and_hand_over(&mut self, place: usize) {
        self.members[place].reported = self.members[place].sessions;
        let list: Vec<_> = self.members.iter().map(|member| replica(&member.id, member.reported)).collect();
        let now = self.start + Duration::from_millis(self.now_ms);
        let member = &mut self.members[place];
        let before = std::mem::replace(&mut member.list, list.clone());
        let list = if self.old_lists { before } else { list };
        let sessions = member.handover.surplus(&list, &member.id, member.sessions, now);
        assert!(sessions <= member.sessions.div_ceil(MAX_FRACTION));
        member.handover.handed_over.push_back((now, sessions));
        member.sessions -= sessions;
        self.moves += sessions;
        self.leave(sessions);
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 1000 / STEP_MS {
            self.step();
        }
    }

    /// Whether no session is in transit, and every replica is within a tenth of the mean or less than one session away
    /// from it.
    fn is_even(&self) -> bool {
        let total: usize = self.members.iter().map(|member| member.sessions).sum::<usize>();
        let count = self.members.len();
        self.arrivals.is_empty()
            && self.members.iter().all(|member| {
                let off = (member.sessions * count).abs_diff(total);
                off * TOLERANCE <= total || off < count
            })
    }

    /// Runs until the replicas are balanced; checks this after each simulated second. Returns the number of unbalanced
    /// seconds; `None` if `most` seconds are not enough.
    fn even_after(&mut self, most: u64) -> Option<u64> {
        (0..most).find(|_| {
            self.run(1);
            self.is_even()
        })
    }
}

/// Starts replicas next to one that holds all sessions. The sessions must spread within [`MAX_SECONDS`], move little
/// after that, and then stay. Returns the number of unbalanced seconds, and the total number of moves.
fn a_start_of_replicas(proxy: Proxy, old_lists: bool, (count, sessions): (usize, usize), seed: u64) -> (u64, usize) {
    let context = format!("{proxy:?}, {count} replicas, {sessions} sessions, old lists: {old_lists}, seed {seed}");
    let mut simulation = Simulation::new(seed, proxy, old_lists);
    simulation.start(1);
    simulation.leave(sessions);
    simulation.run(10);
    assert_eq!(simulation.moves, 0, "a single replica handed sessions over: {context}");
    simulation.start(count - 1);
    let seconds =
        simulation.even_after(MAX_SECONDS).unwrap_or_else(|| panic!("the sessions did not spread: {context}"));
    let moves = simulation.moves;
    simulation.run(SETTLING_SECONDS);
    let settled = simulation.moves;
    assert!(
        settled - moves <= sessions.div_ceil(MAX_FRACTION),
        "sessions moved {} more times after the replicas were balanced: {context}",
        settled - moves
    );
    simulation.run(QUIET_SECONDS);
    assert_eq!(simulation.moves, settled, "sessions moved after the settling time: {context}");
    assert!(simulation.is_even(), "the replicas were unbalanced at the end: {context}");
    (seconds, settled)
}

/// The worst values of many starts: unbalanced seconds, and moves per session.
fn worst(proxy: Proxy) -> (u64, f64) {
    let mut worst = (0, 0.0_f64);
    for size in [(2, 2), (2, 24), (3, 40), (4, 60), (8, 60), (4, 1000)] {
        for (old_lists, seed) in [false, true].into_iter().flat_map(|old| (0..SEEDS).map(move |seed| (old, seed))) {
            let (seconds, moves) = a_start_of_replicas(proxy, old_lists, size, seed);
            worst = (worst.0.max(seconds), worst.1.max(moves as f64 / size.1 as f64));
        }
    }
    worst
}

#[test]
fn sessions_spread_behind_a_least_connections_proxy() {
    let (seconds, moves) = worst(Proxy::LeastConnections);
    assert!(seconds <= 40 && moves < 1.0, "balancing took {seconds} s and {moves} moves per session");
}

#[test]
fn sessions_spread_behind_a_random_proxy() {
    let (seconds, moves) = worst(Proxy::Random);
    assert!(seconds <= 200 && moves < 4.0, "balancing took {seconds} s and {moves} moves per session");
}

#[test]
fn restarted_replicas_get_their_share_again() {
    for seed in 0..SEEDS {
        let mut simulation = Simulation::new(seed, Proxy::LeastConnections, true);
        simulation.start(4);
        simulation.leave(60);
        simulation.run(30);
        assert!(simulation.is_even(), "the replicas were unbalanced before the restart, seed {seed}");
        simulation.stop_all_but(1);
        simulation.run(10);
        assert_eq!(
            (simulation.members[0].sessions, simulation.members.len()),
            (60, 1),
            "the sessions were not all on the one remaining replica, seed {seed}"
        );
        simulation.start(3);
        assert!(simulation.even_after(40).is_some(), "the sessions did not spread again, seed {seed}");
    }
}
