//! The plan of a run: conversations, faces and pace. The same seed, options and users make the same plan.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::config::SimulateOptions;
use crate::model::{SmileId, UserName};

/// Fully qualified, as faces are in the log.
const FACES: [&str; 24] = [
    "😀", "😁", "😂", "🤣", "😃", "😄", "😅", "😆", "😉", "😊", "😋", "😎", "😍", "😘", "🥰", "🙂", "🤗", "🤩", "🤔",
    "😏", "😴", "😜", "🙃", "😇",
];

const MAX_FACES: usize = 3;

/// The place of one user in one conversation. Each seat has a WebSocket of its own. Conversation c has the seats 2c and
/// 2c + 1.
pub type Seat = usize;

/// One planned smile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Beat {
    /// The conversation.
    pub conversation: usize,
    /// The number of the smile in its conversation, from 0. The two users take turns.
    pub number: usize,
}

impl Beat {
    /// The seat of the sender.
    pub fn sender(self) -> Seat {
        2 * self.conversation + self.number % 2
    }

    /// The seat of the receiver.
    pub fn receiver(self) -> Seat {
        2 * self.conversation + (self.number + 1) % 2
    }
}

/// The plan of a whole run.
#[derive(Debug)]
pub struct Plan {
    seed: u64,
    /// Smiles per second in each conversation.
    rate: f64,
    /// How long smiles are sent, in seconds.
    duration: f64,
    /// The user of each seat.
    seats: Vec<UserName>,
    /// When each conversation begins, as a fraction of the time between two beats.
    phases: Vec<f64>,
}

impl Plan {
    /// Plans a run for these users; `None` if there are fewer than two.
    pub fn new(seed: u64, options: &SimulateOptions, users: &[UserName]) -> Option<Self> {
        if users.len() < 2 {
            return None;
        }
        let conversations = options.conversations as usize;
        let mut slots: Vec<usize> = (0..conversations).collect();
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        slots.shuffle(&mut random);
        // Each conversation begins at a random time in a slot of its own, so that the load is even but the beats of
        // different conversations are not in lockstep.
        let phase = |slot: usize| (slot as f64 + random.random::<f64>()) / conversations as f64;
        let phases = slots.into_iter().map(phase).collect();
        let seats = (0..conversations).flat_map(|conversation| pair(conversation, users)).collect();
        Some(Self { seed, rate: options.rate, duration: options.duration, seats, phases })
    }

    /// The number of seats, each of which needs a WebSocket.
    pub fn seats(&self) -> usize {
        self.seats.len()
    }

    /// The user of a seat.
    pub fn user(&self, seat: Seat) -> &UserName {
        &self.seats[seat]
    }

    /// Whether the plan has the conversation of this beat.
    pub fn has(&self, beat: Beat) -> bool {
        beat.conversation < self.phases.len()
    }

    /// For how long smiles are sent.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration)
    }

    /// The time of a beat, counted from the time at which sending begins; `None` if sending has ended by then.
    ///
    /// The time does not depend on the previous beat, so the pace does not drift.
    pub fn time_of(&self, beat: Beat) -> Option<Duration> {
        let seconds = (self.phases[beat.conversation] + beat.number as f64) / self.rate;
        (seconds < self.duration).then(|| Duration::from_secs_f64(seconds))
    }

    /// The faces that are sent on a beat.
    pub fn faces(&self, beat: Beat) -> String {
        self.faces_of(beat).collect()
    }

    /// Whether `text` consists of exactly the faces that are sent on a beat.
    pub fn says(&self, beat: Beat, text: &str) -> bool {
        let rest = self.faces_of(beat).try_fold(text, |rest, face| rest.strip_prefix(face));
        rest.is_some_and(str::is_empty)
    }

    fn faces_of(&self, beat: Beat) -> impl Iterator<Item = &'static str> {
        let place = ((beat.conversation as u64) << 32) | beat.number as u64;
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let count = random.random_range(1..=MAX_FACES);
        (0..count).map(move |_| FACES[random.random_range(0..FACES.len())])
    }
}

/// A round has half as many conversations as there are users, rounded down. The first round pairs (0, 1), (2, 3) and so
/// on. Each later round begins one user further on. With at least four users, the distance between the users of a pair
/// also changes from round to round.
fn pair(conversation: usize, users: &[UserName]) -> [UserName; 2] {
    let pairs = users.len() / 2;
    let (round, place) = (conversation / pairs, conversation % pairs);
    // Between 1 and the number of users minus 1, so that no user is paired with itself.
    let distance = 1 + (2 * round) % (users.len() - 1);
    let first = (2 * place + round) % users.len();
    [users[first].clone(), users[(first + distance) % users.len()].clone()]
}

/// The prefix of the smile ids of one run. Ids stay in the store, so every run has a prefix of its own, even with the
/// same seed.
#[derive(Clone, Debug)]
pub struct RunId(String);

impl RunId {
    /// A random prefix, unique to this run.
    pub fn random() -> Self {
        Self(format!("r{:016x}", rand::random::<u64>()))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a planned smile; never `None`, because its characters and its length are always valid.
    pub fn id_of(&self, beat: Beat) -> Option<SmileId> {
        SmileId::parse(&format!("{}-{}-{}", self.0, beat.conversation, beat.number))
    }

    /// The planned smile that an id names; `None` if the id is not from this run.
    pub fn beat_of(&self, id: &SmileId) -> Option<Beat> {
        let place = id.as_str().strip_prefix(&self.0)?.strip_prefix('-')?;
        let (conversation, number) = place.split_once('-')?;
        Some(Beat { conversation: conversation.parse().ok()?, number: number.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::Faces;

    fn options(conversations: u32, rate: f64, duration: f64) -> SimulateOptions {
        SimulateOptions {
            url: Vec::new(),
            conversations,
            rate,
            duration,
            seed: None,
            crash_every: 0.0,
            crash_token_file: None,
            json: false,
        }
    }

    fn users(count: usize) -> Vec<UserName> {
        (0..count).map(|number| UserName::new(&format!("user{number}"))).collect()
    }

    fn beats(plan: &Plan, conversation: usize) -> Vec<(Duration, String)> {
        (0..)
            .map(|number| Beat { conversation, number })
            .map_while(|beat| Some((plan.time_of(beat)?, plan.faces(beat))))
            .collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_plan() {
        let plan = |seed| Plan::new(seed, &options(5, 7.0, 3.0), &users(10)).unwrap();
        for conversation in 0..5 {
            assert_eq!(beats(&plan(42), conversation), beats(&plan(42), conversation));
            assert_ne!(beats(&plan(42), conversation), beats(&plan(43), conversation));
        }
    }

    #[test]
    fn no_user_is_paired_with_itself_and_every_user_has_a_seat() {
        for count in 2..12 {
            let users = users(count);
            let plan = Plan::new(1, &options(100, 1.0, 1.0), &users).unwrap();
            for conversation in 0..100 {
                assert_ne!(plan.user(2 * conversation), plan.user(2 * conversation + 1), "with {count} users");
            }
            let seated: HashSet<_> = (0..plan.seats()).map(|seat| plan.user(seat)).collect();
            assert_eq!(seated.len(), count);
        }
        let plan = Plan::new(1, &options(2, 1.0, 1.0), &users(4)).unwrap();
        let names: Vec<_> = (0..4).map(|seat| plan.user(seat).as_str()).collect();
        assert_eq!(names, ["user0", "user1", "user2", "user3"]);
        assert!(Plan::new(1, &options(1, 1.0, 1.0), &users(1)).is_none());
    }

    #[test]
    fn beats_keep_the_rate_without_drift_and_are_spread_evenly() {
        let plan = Plan::new(9, &options(10, 4.0, 100.0), &users(20)).unwrap();
        let mut first_beats: Vec<_> = (0..10).map(|conversation| beats(&plan, conversation)[0].0).collect();
        for conversation in 0..10 {
            let beats = beats(&plan, conversation);
            assert_eq!(beats.len(), 400);
            let drift = beats[399].0.as_secs_f64() - beats[0].0.as_secs_f64() - 399.0 / 4.0;
            assert!(drift.abs() < 1e-6, "the pace drifted by {drift} s");
        }
        first_beats.sort();
        for (slot, first) in first_beats.iter().enumerate() {
            assert_eq!(first.as_millis() / 25, slot as u128, "no conversation began in the 25 ms slot {slot}");
        }
    }

    #[test]
    fn planned_faces_survive_parsing_and_are_recognised() {
        let plan = Plan::new(3, &options(1, 1000.0, 1.0), &users(2)).unwrap();
        for (number, (_, faces)) in beats(&plan, 0).into_iter().enumerate() {
            let beat = Beat { conversation: 0, number };
            assert_eq!(Faces::parse(&faces).unwrap().as_str(), faces);
            assert!(plan.says(beat, &faces));
            assert!(!plan.says(beat, &format!("{faces}😀")));
            assert!(!plan.says(beat, ""));
        }
    }

    #[test]
    fn an_id_names_its_beat_in_its_own_run_only() {
        let (run, other) = (RunId::random(), RunId::random());
        let beat = Beat { conversation: 99_999, number: 4_000_000_000 };
        let id = run.id_of(beat).unwrap();
        assert_eq!(run.beat_of(&id), Some(beat));
        assert_eq!(other.beat_of(&id), None);
        for foreign in ["c1", run.as_str(), &format!("{}-1", run.as_str()), &format!("{}-1-x", run.as_str())] {
            assert_eq!(run.beat_of(&SmileId::parse(foreign).unwrap()), None, "{foreign} named a beat");
        }
    }
}
