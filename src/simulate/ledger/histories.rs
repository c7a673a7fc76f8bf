//! Random histories of a correct server, generated from a seed, and the same histories with one fault each.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::tests::{by_name, plan, smile, welcomed};
use super::{Entry, Event, Fault, Faults, Ledger};
use crate::model::Offset;
use crate::simulate::plan::{Beat, Plan, RunId};

/// Plays a correct server and its users from a seed, and records the events for the ledger.
struct History {
    plan: Arc<Plan>,
    run: RunId,
    random: Xoshiro256PlusPlus,
    log: Vec<Beat>,
    /// How many smiles of the log each seat has passed.
    seen: Vec<usize>,
    /// The unanswered smiles that each seat has sent for the first time in its current session.
    waiting: Vec<Vec<Beat>>,
    next: Vec<usize>,
    entries: Vec<Entry>,
}

impl History {
    fn play(seed: u64) -> Self {
        let plan = plan(3, 4);
        let seats = plan.seats();
        let mut history = Self {
            run: RunId::random(),
            random: Xoshiro256PlusPlus::seed_from_u64(seed),
            log: Vec::new(),
            seen: vec![0; seats],
            waiting: vec![Vec::new(); seats],
            next: (0..seats).map(|seat| seat % 2).collect(),
            entries: Vec::new(),
            plan,
        };
        (0..seats).for_each(|seat| history.tell(seat, welcomed("epoch", 0, None, false)));
        for _ in 0..200 {
            let seat = history.random.random_range(0..seats);
            match history.random.random_range(0..10) {
                0..4 => history.send(seat),
                4..9 => history.deliver(seat),
                _ => history.reconnect(seat),
            }
        }
        for seat in 0..seats {
            while history.seen[seat] < history.log.len() {
                history.deliver(seat);
            }
            history.tell(seat, Event::NoMoreBeats);
        }
        history
    }

    fn tell(&mut self, stream: usize, event: Event) {
        self.entries.push(Entry { stream, at: Duration::ZERO, event });
    }

    fn send(&mut self, seat: usize) {
        let beat = Beat { conversation: seat / 2, number: self.next[seat] };
        self.next[seat] += 2;
        self.tell(seat, Event::Offered(beat));
        self.tell(seat, Event::Written(beat));
        self.waiting[seat].push(beat);
        self.log.push(beat);
    }

    fn deliver(&mut self, seat: usize) {
        let Some(&beat) = self.log.get(self.seen[seat]) else { return };
        self.seen[seat] += 1;
        let offset = self.seen[seat] as u64;
        let user = self.plan.user(seat);
        if self.waiting[seat].contains(&beat) {
            self.waiting[seat].retain(|&waiting| waiting != beat);
            let id = self.run.id_of(beat).unwrap();
            self.tell(seat, Event::Acked { id, offset: Offset(offset), duplicate: false });
        } else if [beat.sender(), beat.receiver()].iter().any(|&seat| self.plan.user(seat) == user) {
            let smile = smile(&self.plan, &self.run, beat, offset);
            self.tell(seat, Event::Received(smile));
        }
    }

    fn reconnect(&mut self, seat: usize) {
        let seen = self.seen[seat] as u64;
        self.tell(seat, Event::ConnectionLost);
        self.tell(seat, welcomed("epoch", seen, Some(seen), true));
        for beat in std::mem::take(&mut self.waiting[seat]) {
            let place = self.log.iter().position(|&stored| stored == beat).unwrap();
            self.tell(seat, Event::Written(beat));
            if self.random.random_bool(0.5) {
                let id = self.run.id_of(beat).unwrap();
                self.tell(seat, Event::Acked { id, offset: Offset(place as u64 + 1), duplicate: true });
            }
        }
    }

    /// The verdict on the events after `tamper` has changed them, and whether the ledger is settled. `tamper` receives
    /// the events, the indexes of the deliveries to seats other than the sender's, and a random number generator.
    fn verdict(&self, tamper: impl FnOnce(&mut Vec<Entry>, Vec<usize>, &mut Xoshiro256PlusPlus)) -> (Faults, bool) {
        let mut entries = self.entries.clone();
        let is_delivery = |entry: &Entry| match &entry.event {
            Event::Received(smile) => self.run.beat_of(&smile.id).is_some_and(|beat| beat.sender() != entry.stream),
            _ => false,
        };
        let deliveries: Vec<usize> = (0..entries.len()).filter(|&place| is_delivery(&entries[place])).collect();
        tamper(&mut entries, deliveries, &mut self.random.clone());
        let mut ledger = Ledger::new(Arc::clone(&self.plan), self.run.clone());
        for entry in entries {
            ledger.record(entry);
        }
        (ledger.verdict(), ledger.settled())
    }
}

#[test]
fn random_histories_are_clean_and_a_lost_duplicated_or_swapped_delivery_is_detected() {
    let base = rand::random::<u64>();
    for seed in (0..200).map(|number| base.wrapping_add(number)) {
        let history = History::play(seed);
        let (faults, settled) = history.verdict(|_, _, _| {});
        assert!(faults.none() && settled, "History::play({seed}) was faulty or unsettled: {:?}", faults.words());

        let (faults, _) = history.verdict(|entries, deliveries, random| {
            entries.remove(deliveries[random.random_range(0..deliveries.len())]);
        });
        assert_eq!(
            by_name(&faults),
            [("lost", 1)],
            "History::play({seed}): a removed delivery did not count as one lost smile: {:?}",
            faults.words()
        );

        let (faults, _) = history.verdict(|entries, deliveries, random| {
            let first = deliveries[random.random_range(0..deliveries.len())];
            let copy = entries[first].clone();
            entries.push(copy);
        });
        assert_eq!(
            by_name(&faults),
            [("duplicated", 1)],
            "History::play({seed}): a repeated delivery did not count as one duplicate: {:?}",
            faults.words()
        );

        let (faults, _) = history.verdict(|entries, deliveries, random| {
            let first = deliveries[random.random_range(0..deliveries.len())];
            let stream = entries[first].stream;
            // The last delivery of a stream has no successor to swap with, so it is repeated instead.
            let next = deliveries.into_iter().find(|&place| place > first && entries[place].stream == stream);
            match next {
                Some(next) => entries.swap(first, next),
                None => entries.push(entries[first].clone()),
            }
        });
        // If the seat reconnected between the two deliveries, the earlier smile may be at the offset at which the new
        // session starts. The smile then counts as duplicated.
        assert!(
            faults.count(Fault::Reordered) + faults.count(Fault::Duplicated) > 0,
            "History::play({seed}): two swapped deliveries were not detected: {:?}",
            faults.words()
        );
    }
}
