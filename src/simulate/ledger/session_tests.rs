//! Tests of the ledger with sessions that end and begin again, with gaps, and with a second reading.

use super::stream::Stream;
use super::tests::{ANNA, BRUNO, Scene, welcomed};
use super::*;

#[test]
fn the_smiles_in_a_gap_are_lost() {
    for (smiles_in_the_gap, expected) in [(false, vec![]), (true, vec![("lost", 1)])] {
        let mut scene = Scene::new();
        scene.pass(0, 101);
        scene.tell(BRUNO, Event::ConnectionLost);
        if smiles_in_the_gap {
            scene.send(2);
            scene.ack(2, 102, false);
        }
        scene.welcome(BRUNO, 110, Some(101), false);
        scene.pass(4, 111);
        assert_eq!(scene.faults(), expected);
        assert_eq!(scene.ledger.counts().gaps, 1);
    }
}

#[test]
fn a_resumed_session_must_start_at_the_requested_offset() {
    let mut scene = Scene::new();
    scene.tell(BRUNO, Event::ConnectionLost);
    scene.welcome(BRUNO, 105, Some(100), true);
    assert_eq!(scene.faults(), [("breach of contract", 1)]);
}

#[test]
fn a_session_on_another_log_is_a_breach_and_its_smiles_do_not_count() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    scene.tell(BRUNO, Event::ConnectionLost);
    scene.tell(BRUNO, welcomed("other", 3, Some(101), false));
    scene.send(2);
    scene.ack(2, 102, false);
    scene.receive(BRUNO, 2, 4);
    assert_eq!(scene.faults(), [("lost", 1), ("breach of contract", 1)]);
    assert!(!scene.ledger.caught_up());
}

#[test]
fn a_session_is_owed_only_the_smiles_after_its_start() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    let mut late = Stream::new(UserName::new("user1"));
    late.begin_session(Offset(101), false);
    scene.ledger.streams.push(late);
    assert_eq!(scene.faults(), []);
    scene.pass(2, 102);
    assert_eq!(scene.faults(), [("lost", 1)]);
}

#[test]
fn a_smile_missing_from_the_second_reading_is_lost() {
    let mut scene = Scene::new();
    (0..4).for_each(|number| scene.pass(number, 101 + number as u64));
    let again = scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
    assert_eq!(
        (again.start, again.head, scene.ledger.readers(), scene.ledger.reread()),
        (Offset(100), Offset(104), 1, 0)
    );
    scene.welcome(again.stream, 100, Some(100), true);
    for number in [0, 1, 3] {
        scene.receive(again.stream, number, 101 + number as u64);
    }
    assert_eq!(scene.ledger.reread(), 1);
    assert_eq!(scene.faults(), [("lost", 1)]);
    scene.pass(4, 105);
    assert_eq!(scene.faults(), [("lost", 1)], "a smile after the end of the second reading counted as lost");
    assert!(scene.ledger.begin_reread(&UserName::new("nobody")).is_none());
}

#[test]
fn the_verdict_on_an_unfinished_second_reading_depends_on_why_it_is_unfinished() {
    for (interrupted, connected, expected) in
        [(true, true, vec![]), (true, false, vec![]), (false, false, vec![]), (false, true, vec![("lost", 1)])]
    {
        let mut scene = Scene::new();
        scene.pass(0, 101);
        let again = scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
        scene.welcome(again.stream, 100, Some(100), true);
        if !connected {
            scene.tell(again.stream, Event::ConnectionLost);
        }
        scene.ledger.end_reread(!interrupted);
        assert_eq!(scene.faults(), expected, "interrupted: {interrupted}, connected: {connected}");
        let proven = !interrupted && connected;
        assert_eq!(scene.ledger.proven(), proven, "interrupted: {interrupted}, connected: {connected}");
    }
}

#[test]
fn a_reader_that_is_only_refused_temporarily_leaves_the_run_unproven() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    let again = scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
    scene.tell(again.stream, Event::NotConnected { cause: "overloaded".to_owned() });
    scene.ledger.end_reread(true);
    assert_eq!(scene.faults(), []);
    assert!(!scene.ledger.proven());
}

/// Reads the streams of both users again, without a fault.
fn read_again(scene: &mut Scene, smiles: &[usize]) {
    for user in ["user0", "user1"] {
        let again = scene.ledger.begin_reread(&UserName::new(user)).unwrap();
        scene.welcome(again.stream, 100, Some(100), true);
        for (&number, offset) in smiles.iter().zip(101..) {
            scene.receive(again.stream, number, offset);
        }
    }
    assert_eq!(scene.ledger.reread(), 2);
    scene.ledger.end_reread(true);
}

#[test]
fn smiles_that_a_seat_without_a_session_lacks_are_not_lost_but_unproven() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    scene.tell(BRUNO, Event::ConnectionLost);
    scene.send(2);
    scene.ack(2, 102, false);
    read_again(&mut scene, &[0, 2]);
    assert_eq!(scene.faults(), []);
    assert!(!scene.ledger.proven());
}

#[test]
fn a_seat_is_owed_what_was_known_while_it_had_a_session_and_nothing_moved() {
    for (in_time, reconnects, expected) in
        [(true, false, vec![("lost", 1), ("unanswered", 1)]), (true, true, vec![]), (false, false, vec![])]
    {
        let mut scene = Scene::new();
        scene.pass(0, 101);
        scene.send(2);
        scene.ack(2, 102, false);
        scene.send(4);
        scene.send(6);
        scene.ledger.cut_settling(in_time);
        // Acked too late to be owed to BRUNO.
        scene.ack(4, 103, false);
        if reconnects {
            scene.reconnect(ANNA, 103);
            scene.reconnect(BRUNO, 101);
        }
        read_again(&mut scene, &[0, 2, 4]);
        assert_eq!(scene.faults(), expected, "in time: {in_time}, reconnects: {reconnects}");
        assert!(!scene.ledger.proven(), "in time: {in_time}, reconnects: {reconnects}");
    }
}

#[test]
fn without_an_answering_replica_unseen_smiles_are_not_faults() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    scene.send(2);
    scene.ack(2, 102, false);
    scene.send(4);
    for seat in [ANNA, BRUNO] {
        scene.tell(seat, Event::ConnectionLost);
    }
    assert_eq!(scene.faults(), [("lost", 1), ("unanswered", 1)]);
    scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
    scene.ledger.end_reread(true);
    assert!(!scene.ledger.proven());
    assert_eq!(scene.faults(), []);
}

#[test]
fn a_run_stays_proven_if_replicas_die_after_the_second_reading() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    let again = scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
    scene.welcome(again.stream, 100, Some(100), true);
    scene.receive(again.stream, 0, 101);
    for seat in [ANNA, BRUNO] {
        scene.tell(seat, Event::ConnectionLost);
    }
    scene.ledger.end_reread(true);
    assert!(scene.ledger.proven());
}

#[test]
fn a_log_that_no_longer_reaches_back_to_the_start_of_the_run_is_a_breach() {
    let mut scene = Scene::new();
    scene.pass(0, 101);
    let again = scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
    scene.welcome(again.stream, 101, Some(100), false);
    assert_eq!(scene.ledger.reread(), 1);
    assert_eq!(scene.faults(), [("breach of contract", 1)]);
}

/// Both users receive these smiles of ANNA in this order. Then ANNA receives acks that call the smiles duplicates.
fn replay(scene: &mut Scene, order: [usize; 2]) {
    let smiles = || order.into_iter().zip(101..);
    for (number, offset) in smiles() {
        scene.receive(ANNA, number, offset);
        scene.receive(BRUNO, number, offset);
    }
    for (number, offset) in smiles() {
        scene.ack(number, offset, true);
    }
}

#[test]
fn the_order_of_smiles_in_flight_at_a_lost_connection_is_checked() {
    for (order, expected) in [([0, 2], vec![]), ([2, 0], vec![("reordered", 1)])] {
        let mut scene = Scene::new();
        scene.send(0);
        scene.send(2);
        scene.reconnect(ANNA, 100);
        scene.write(0);
        scene.write(2);
        replay(&mut scene, order);
        assert_eq!(scene.faults(), expected);
    }
}

#[test]
fn the_ack_of_a_duplicate_does_not_say_which_of_several_sessions_admitted_the_smile() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    scene.reconnect(ANNA, 100);
    // The first replica stored smile 2 alone. The second one refused smile 2, and stored smile 0 before it hung.
    scene.write(0);
    scene.write(2);
    scene.refuse(2, ErrorCode::Overloaded);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.write(2);
    replay(&mut scene, [2, 0]);
    assert_eq!(scene.faults(), []);
}

#[test]
fn a_smile_sent_again_after_a_refusal_has_its_last_place_in_the_session() {
    let mut scene = Scene::new();
    scene.send(0);
    scene.send(2);
    scene.refuse(0, ErrorCode::Overloaded);
    scene.write(0);
    scene.reconnect(ANNA, 100);
    scene.write(0);
    scene.write(2);
    replay(&mut scene, [2, 0]);
    assert_eq!(scene.faults(), []);
}

#[test]
fn a_reader_on_another_log_has_nothing_left_to_read() {
    for recovered in [false, true] {
        let mut scene = Scene::new();
        scene.pass(0, 101);
        let again = scene.ledger.begin_reread(&UserName::new("user0")).unwrap();
        scene.tell(again.stream, welcomed("other", 100, Some(100), recovered));
        assert_eq!(scene.ledger.reread(), 1, "recovered: {recovered}");
        scene.ledger.end_reread(true);
        assert_eq!(scene.faults(), [("breach of contract", 1 + u64::from(!recovered))], "recovered: {recovered}");
    }
}

#[test]
fn recovery_lasts_from_the_loss_to_the_first_answer() {
    let mut scene = Scene::new();
    let tell = |scene: &mut Scene, seconds, event| {
        scene.ledger.record(Entry { stream: ANNA, at: Duration::from_secs(seconds), event });
    };
    tell(&mut scene, 1, Event::Answering);
    tell(&mut scene, 10, Event::ConnectionLost);
    tell(&mut scene, 12, welcomed("epoch", 100, Some(100), true));
    tell(&mut scene, 13, Event::ConnectionLost);
    tell(&mut scene, 14, welcomed("epoch", 100, Some(100), true));
    tell(&mut scene, 15, Event::Answering);
    let recovery = scene.ledger.times().recovery;
    assert_eq!(recovery.count, 1);
    assert!((4990.0..5010.0).contains(&recovery.max), "the recovery did not take 5 s: {recovery:?}");
    assert_eq!(scene.ledger.counts().reconnects, 2);
}
