//! Tests of the ledger with correct servers and with faulty ones.

use super::*;
use crate::config::SimulateOptions;
use crate::model::{Faces, Timestamp};

/// The seats of the first conversation.
pub(super) const ANNA: usize = 0;
pub(super) const BRUNO: usize = 1;

pub(super) fn plan(conversations: u32, users: usize) -> Arc<Plan> {
    let users: Vec<_> = (0..users).map(|number| UserName::new(&format!("user{number}"))).collect();
    let options = SimulateOptions {
        url: Vec::new(),
        conversations,
        rate: 10.0,
        duration: 1000.0,
        seed: None,
        crash_every: 0.0,
        crash_token_file: None,
        json: false,
    };
    Arc::new(Plan::new(5, &options, &users).unwrap())
}

pub(super) struct Scene {
    plan: Arc<Plan>,
    run: RunId,
    pub(super) ledger: Ledger,
}

impl Scene {
    /// One conversation of two users, each with a session that starts at offset 100.
    pub(super) fn new() -> Self {
        let (plan, run) = (plan(1, 2), RunId::random());
        let ledger = Ledger::new(Arc::clone(&plan), run.clone());
        let mut scene = Self { plan, run, ledger };
        scene.welcome(ANNA, 100, None, true);
        scene.welcome(BRUNO, 100, None, true);
        scene
    }

    pub(super) fn tell(&mut self, stream: usize, event: Event) {
        self.ledger.record(Entry { stream, at: Duration::ZERO, event });
    }

    pub(super) fn welcome(&mut self, stream: usize, offset: u64, resumed_from: Option<u64>, recovered: bool) {
        self.tell(stream, welcomed("epoch", offset, resumed_from, recovered));
    }

    pub(super) fn id(&self, number: usize) -> SmileId {
        self.run.id_of(beat(number)).unwrap()
    }

    fn smile(&self, number: usize, offset: u64) -> Smile {
        smile(&self.plan, &self.run, beat(number), offset)
    }

    pub(super) fn send(&mut self, number: usize) {
        self.tell(beat(number).sender(), Event::Offered(beat(number)));
        self.write(number);
    }

    pub(super) fn write(&mut self, number: usize) {
        self.tell(beat(number).sender(), Event::Written(beat(number)));
    }

    pub(super) fn ack(&mut self, number: usize, offset: u64, duplicate: bool) {
        let event = Event::Acked { id: self.id(number), offset: Offset(offset), duplicate };
        self.tell(beat(number).sender(), event);
    }

    pub(super) fn receive(&mut self, stream: usize, number: usize, offset: u64) {
        self.tell(stream, Event::Received(self.smile(number, offset)));
    }

    pub(super) fn refuse(&mut self, number: usize, code: ErrorCode) {
        let id = Some(self.id(number).as_str().to_owned());
        self.tell(beat(number).sender(), Event::Refused { id, code });
    }

    pub(super) fn pass(&mut self, number: usize, offset: u64) {
        self.send(number);
        self.ack(number, offset, false);
        self.receive(beat(number).receiver(), number, offset);
    }

    pub(super) fn reconnect(&mut self, stream: usize, from: u64) {
        self.tell(stream, Event::ConnectionLost);
        self.welcome(stream, from, Some(from), true);
    }

    fn finish(&mut self) {
        self.tell(ANNA, Event::NoMoreBeats);
        self.tell(BRUNO, Event::NoMoreBeats);
    }

    pub(super) fn faults(&self) -> Vec<(&'static str, u64)> {
        by_name(&self.ledger.verdict())
    }
}

pub(super) fn by_name(faults: &Faults) -> Vec<(&'static str, u64)> {
    use Fault::{Altered, Breach, Duplicated, Failed, Lost, Reordered, Unanswered};
    let all = [Lost, Duplicated, Reordered, Altered, Failed, Unanswered, Breach];
    all.into_iter().map(|fault| (fault.into(), faults.count(fault))).filter(|&(_, count)| count > 0).collect()
}

fn beat(number: usize) -> Beat {
    Beat { conversation: 0, number }
}

pub(super) fn welcomed(epoch: &str, offset: u64, resumed_from: Option<u64>, recovered: bool) -> Event {
    Event::Welcomed(Welcomed {
        replica: "be1.1".to_owned(),
        epoch: Epoch::new(epoch),
        offset: Offset(offset),
        recovered,
        resumed_from: resumed_from.map(Offset),
    })
}

pub(super) fn smile(plan: &Plan, run: &RunId, beat: Beat, offset: u64) -> Smile {
    Smile {
        offset: Offset(offset),
        id: run.id_of(beat).unwrap(),
        from: plan.user(beat.sender()).clone(),
        to: plan.user(beat.receiver()).clone(),
        faces: Faces::from_stored(&plan.faces(beat)),
        at: Timestamp(0),
    }
}

#[test]
fn correctly_delivered_smiles_are_counted_without_faults() {
    let mut scene = Scene::new();
    (0..10).for_each(|number| scene.pass(number, 101 + number as u64));
    assert!(!scene.ledger.settled(), "the ledger settled before the users stopped sending");
    scene.finish();
    assert!(scene.ledger.settled() && scene.ledger.all_live());
    assert_eq!(scene.faults(), []);
    let counts = scene.ledger.counts();
    assert_eq!((counts.sent, counts.acked, counts.delivered, counts.retried), (10, 10, 10, 0));
}

#[test]
fn a_lost_smile_is_detected_in_the_middle_and_at_the_end() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.ack(0, 101, false);
    assert!(!scene.ledger.caught_up());
    assert_eq!(scene.faults(), [("lost", 1)]);
    scene.pass(2, 102);
    assert!(scene.ledger.caught_up());
    assert_eq!(scene.faults(), [("lost", 1)]);
}

#[test]
fn a_smile_without_an_ack_is_detected() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.receive(BRUNO, 0, 101);
    assert_eq!(scene.faults(), [("lost", 1), ("unanswered", 1)]);
}

#[test]
fn a_duplicated_smile_is_detected() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    scene.receive(BRUNO, 0, 101);
    assert_eq!(scene.faults(), [("duplicated", 1)]);
    scene.pass(2, 102);
    scene.receive(BRUNO, 0, 101);
    assert_eq!(scene.faults(), [("duplicated", 2)]);
    scene.receive(ANNA, 2, 102);
    assert_eq!(scene.faults(), [("duplicated", 3)], "a smile received after its ack did not count as a duplicate");
    assert_eq!(scene.ledger.counts().delivered, 2);
}

#[test]
fn a_smile_at_two_offsets_is_detected() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    scene.receive(ANNA, 0, 102);
    scene.receive(BRUNO, 0, 102);
    assert_eq!(scene.faults(), [("duplicated", 2)]);
    scene.ack(0, 103, true);
    let expected = [("duplicated", 3), ("breach of contract", 1)];
    assert_eq!(scene.faults(), expected, "a duplicate's ack without an earlier attempt did not count as a breach");
}

#[test]
fn reordered_smiles_are_detected() {
    let mut scene = Scene::new();
    for (number, offset) in [(0, 101), (2, 102)] {
        scene.send(number);
        scene.ack(number, offset, false);
    }
    scene.receive(BRUNO, 2, 102);
    scene.receive(BRUNO, 0, 101);
    assert_eq!(scene.faults(), [("reordered", 1)]);
}

#[test]
fn sessions_that_disagree_on_offsets_are_detected() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(1);
    scene.ack(0, 101, false);
    scene.receive(ANNA, 1, 102);
    scene.ack(1, 101, false);
    scene.receive(BRUNO, 0, 102);
    assert_eq!(scene.faults(), [("duplicated", 2)], "the second offsets of two smiles did not count as two duplicates");

    let mut scene = Scene::new();
    scene.send(0);
    scene.send(1);
    scene.ack(0, 101, false);
    scene.ack(1, 101, false);
    scene.receive(ANNA, 1, 102);
    scene.receive(BRUNO, 0, 102);
    let faults = scene.ledger.verdict();
    assert!(faults.count(Fault::Reordered) > 0, "two smiles at one offset were not detected: {:?}", faults.words());
}

#[test]
fn the_order_of_a_session_is_checked() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    for (number, offset) in [(2, 101), (0, 102)] {
        scene.ack(number, offset, false);
        scene.receive(BRUNO, number, offset);
    }
    assert_eq!(scene.faults(), [("reordered", 1)]);
}

#[test]
fn a_refused_smile_may_be_overtaken() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    scene.refuse(0, ErrorCode::Overloaded);
    scene.ack(2, 101, false);
    scene.receive(BRUNO, 2, 101);
    scene.write(0);
    scene.ack(0, 102, false);
    scene.receive(BRUNO, 0, 102);
    assert_eq!(scene.faults(), []);
    let counts = scene.ledger.counts();
    assert_eq!((counts.errors["overloaded"], counts.retried), (1, 1));
}

#[test]
fn a_smile_stored_although_every_transmission_was_refused_is_a_breach() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.refuse(0, ErrorCode::StoreUnavailable);
    scene.receive(BRUNO, 0, 101);
    scene.receive(ANNA, 0, 101);
    assert_eq!(scene.faults(), [("breach of contract", 1)]);

    let mut scene = Scene::new();
    scene.send(0);
    scene.refuse(0, ErrorCode::StoreUnavailable);
    scene.write(0);
    scene.receive(ANNA, 0, 101);
    scene.ack(0, 101, true);
    scene.receive(BRUNO, 0, 101);
    assert_eq!(scene.faults(), [("breach of contract", 1)], "a duplicate of a refused smile did not count as a breach");

    // The first transmission had no answer, and the refusal of the second says nothing about the first.
    let mut scene = Scene::new();
    scene.send(0);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.refuse(0, ErrorCode::StoreUnavailable);
    scene.write(0);
    scene.receive(ANNA, 0, 101);
    scene.ack(0, 101, true);
    scene.receive(BRUNO, 0, 101);
    assert_eq!(scene.faults(), []);
}

#[test]
fn an_unanswered_smile_may_have_been_admitted_in_either_session() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.write(2);
    // The old replica shed smile 0, and admitted and stored smile 2. Then the new replica stored smile 0.
    for (number, offset) in [(2, 101), (0, 102)] {
        scene.ack(number, offset, false);
        scene.receive(BRUNO, number, offset);
    }
    assert_eq!(scene.faults(), []);
}

#[test]
fn a_replay_shows_a_sender_its_own_smiles_and_their_order() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.receive(ANNA, 0, 101);
    scene.ack(0, 101, true);
    scene.receive(ANNA, 2, 102);
    scene.receive(BRUNO, 0, 101);
    scene.receive(BRUNO, 2, 102);
    scene.finish();
    assert!(scene.ledger.settled());
    assert_eq!(scene.faults(), []);
    assert_eq!(scene.ledger.counts().acked, 2);

    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    scene.reconnect(ANNA, 100);
    for (number, offset) in [(2, 101), (0, 102)] {
        scene.receive(ANNA, number, offset);
        scene.receive(BRUNO, number, offset);
    }
    assert_eq!(scene.faults(), [("reordered", 1)], "the order of the first session was not checked");
}

#[test]
fn the_ack_of_a_duplicate_does_not_advance_the_stream() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.ack(0, 102, true);
    scene.receive(BRUNO, 0, 102);
    scene.send(1);
    scene.ack(1, 103, false);
    scene.receive(ANNA, 0, 102);
    scene.finish();
    assert!(!scene.ledger.settled(), "the ledger settled before offset 103 arrived");
    scene.receive(ANNA, 1, 103);
    assert!(scene.ledger.settled());
    assert_eq!(scene.faults(), []);
}

#[test]
fn the_ack_of_a_duplicate_does_not_stand_in_for_the_smile() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.ack(0, 101, true);
    scene.receive(BRUNO, 0, 101);
    scene.finish();
    assert!(!scene.ledger.settled(), "the ledger settled before offset 101 arrived");
    assert_eq!(scene.faults(), [("lost", 1)]);
    scene.receive(ANNA, 0, 101);
    assert!(scene.ledger.settled());
    assert_eq!(scene.faults(), []);
}

#[test]
fn smiles_from_outside_the_run_are_checked_for_duplicates_and_order() {
    let foreign = |scene: &Scene, offset| {
        Event::Received(Smile {
            id: SmileId::parse("c1").unwrap(),
            from: UserName::new("somebody"),
            ..scene.smile(0, offset)
        })
    };
    let mut scene = Scene::new();
    scene.tell(BRUNO, foreign(&scene, 105));
    scene.tell(BRUNO, foreign(&scene, 106));
    assert_eq!(scene.faults(), []);
    scene.tell(BRUNO, foreign(&scene, 106));
    assert_eq!(scene.faults(), [("duplicated", 1)]);
    scene.tell(BRUNO, foreign(&scene, 103));
    assert_eq!(scene.faults(), [("duplicated", 1), ("reordered", 1)]);
    // Another sender may use the same id: ids are unique per sender.
    let same_id = Smile { from: UserName::new("somebody"), ..scene.smile(0, 107) };
    scene.tell(BRUNO, Event::Received(same_id));
    assert_eq!(scene.faults(), [("duplicated", 1), ("reordered", 1)]);
}

#[test]
fn frames_about_unsent_smiles_or_other_users_are_breaches() {
    let mut scene = Scene::new();
    scene.receive(BRUNO, 0, 101);
    scene.ack(2, 102, false);
    scene.refuse(4, ErrorCode::Overloaded);
    assert_eq!(scene.faults(), [("breach of contract", 3)]);
    let elsewhere = Smile { from: UserName::new("x"), to: UserName::new("y"), ..scene.smile(0, 103) };
    scene.tell(BRUNO, Event::Received(elsewhere));
    assert_eq!(scene.faults(), [("breach of contract", 4)]);
}

#[test]
fn an_altered_smile_is_detected() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.ack(0, 101, false);
    let altered = Smile { faces: Faces::from_stored("🙈"), ..scene.smile(0, 101) };
    scene.tell(BRUNO, Event::Received(altered));
    assert_eq!(scene.faults(), [("altered", 1)]);
}

#[test]
fn failed_unanswered_and_given_up_smiles_are_distinguished() {
    let mut scene = Scene::new();
    for number in [0, 2, 4] {
        scene.send(number);
    }
    assert!(!scene.ledger.answered());
    scene.refuse(0, ErrorCode::NotASmile);
    scene.refuse(2, ErrorCode::Overloaded);
    assert_eq!(scene.faults(), [("failed", 1), ("unanswered", 1)]);
    assert_eq!((scene.ledger.given_up(), scene.ledger.open(), scene.ledger.counts().failed), (1, 2, 1));
    scene.refuse(4, ErrorCode::StoreUnavailable);
    assert!(scene.ledger.answered());
    assert_eq!(scene.faults(), [("failed", 1)]);
}
