//! Exactly once, in order and complete (promises 2, 3 and 4): the smiles that sessions receive, and repeated ids.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::UNLIMITED;
use crate::support::client::{TestClient, id, offset};
use crate::support::replica::TestReplica;

#[tokio::test]
async fn all_sessions_of_both_users_except_the_sending_one_receive_a_smile_and_no_stranger_does() {
    let replica = TestReplica::start(&[]).await;
    let mut sender = TestClient::connect(replica.address, "anna").await;
    let mut others = Vec::new();
    for user in ["anna", "anna", "bruno", "bruno"] {
        others.push(TestClient::connect(replica.address, user).await);
    }
    let mut stranger = TestClient::connect(replica.address, "carla").await;
    let first = sender.smile("c1", "bruno").await;
    let second = sender.smile("c2", "carla").await;
    for (place, other) in others.iter_mut().enumerate() {
        let frame = other.expect("smile").await;
        assert_eq!((offset(&frame), id(&frame)), (first, "c1".to_owned()));
        assert_eq!((&frame["from"], &frame["to"]), (&json!("anna"), &json!("bruno")));
        if place < 2 {
            assert_eq!(offset(&other.expect("smile").await), second, "the second smile was not the next one");
        }
        other.expect_alive().await;
    }
    assert_eq!(offset(&stranger.expect("smile").await), second, "the stranger received a smile to another user");
    stranger.expect_alive().await;
    sender.expect_alive().await;
}

/// Returns the ids and offsets of the admitted smiles, in the order of the acks.
async fn send_many(mut client: TestClient, name: &str, count: usize) -> Vec<(String, u64)> {
    let ids: Vec<String> = (0..count).map(|number| format!("{name}{number}")).collect();
    let mut acked = Vec::new();
    for window in ids.chunks(40) {
        for id in window {
            client.send_smile(id, "bruno").await;
        }
        for _ in window {
            let answer = client.next().await;
            if answer["type"] == "ack" {
                assert_eq!(answer["duplicate"], false);
                acked.push((id(&answer), offset(&answer)));
            } else {
                assert_eq!(answer["code"], "overloaded", "{answer}");
            }
        }
    }
    let admitted = ids.iter().filter(|id| acked.iter().any(|(acked, _)| acked == *id));
    assert!(admitted.eq(acked.iter().map(|(id, _)| id)), "the acks were not in the order of the smiles");
    assert!(acked.is_sorted_by(|(_, one), (_, next)| one < next), "the offsets of the acks did not increase");
    acked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_senders_keep_their_order_and_all_receivers_see_one_order() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(TestClient::connect(replica.address, "bruno").await);
    }
    let mut senders = tokio::task::JoinSet::new();
    for user in ["anna", "carla", "dario"] {
        let client = TestClient::connect(replica.address, user).await;
        senders.spawn(send_many(client, user, 200));
    }
    let mut acked = BTreeMap::new();
    for (id, offset) in senders.join_all().await.into_iter().flatten() {
        assert_eq!(acked.insert(offset, id), None, "two smiles got the offset {offset}");
    }
    assert!(acked.len() >= 200, "only {} smiles were admitted", acked.len());
    assert!(acked.keys().copied().eq(1..=acked.len() as u64), "the offsets had gaps");
    for listener in &mut listeners {
        for (expected, expected_id) in &acked {
            let frame = listener.expect("smile").await;
            assert_eq!((offset(&frame), &id(&frame)), (*expected, expected_id));
        }
        listener.expect_alive().await;
    }
}

/// The answers to a session: the acked offset of each id, and the offsets of all smiles in the order of arrival.
type Answers = (BTreeMap<String, u64>, Vec<u64>);

/// Reads until the client has acks for `count` ids and has received `count` smiles. An ack with `duplicate: false`
/// counts as a received smile.
async fn answers(client: &mut TestClient, count: usize) -> Answers {
    let (mut acked, mut received) = (BTreeMap::new(), Vec::new());
    while acked.len() < count || received.len() < count {
        let frame = client.next().await;
        if frame["type"] == "ack" {
            assert_eq!(acked.insert(id(&frame), offset(&frame)), None, "one id got two acks");
        }
        if frame["code"] == "overloaded" {
            client.send_smile(&id(&frame), "bruno").await;
            continue;
        }
        if frame["type"] == "smile" || frame["duplicate"] == false {
            received.push(offset(&frame));
        }
    }
    (acked, received)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_id_from_many_sessions_at_the_same_time_is_one_smile() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(TestClient::connect(replica.address, "anna").await);
    }
    let mut sessions = tokio::task::JoinSet::new();
    for mut client in clients {
        sessions.spawn(async move {
            for number in 0..30 {
                client.send_smile(&format!("c{number}"), "bruno").await;
            }
            let answers = answers(&mut client, 30).await;
            client.expect_alive().await;
            answers
        });
    }
    let mut all = sessions.join_all().await;
    let acked = all[0].0.clone();
    for (other, received) in &mut all {
        assert_eq!(*other, acked, "two sessions got different offsets");
        assert!(received.iter().copied().eq(1..=30), "a session did not get each smile once in order: {received:?}");
    }
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    assert_eq!(bruno.history("anna").await.len(), 30);
}

#[tokio::test]
async fn each_of_two_frames_with_one_id_is_answered() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let mut anna = TestClient::connect(replica.address, "anna").await;
    for number in 1..=30 {
        let id = format!("c{number}");
        anna.send_smile(&id, "bruno").await;
        anna.send_smile(&id, "bruno").await;
        for duplicate in [false, true] {
            let ack = json!({"type": "ack", "id": id, "offset": number, "duplicate": duplicate});
            assert_eq!(anna.next().await, ack);
        }
    }
    anna.expect_alive().await;
}

#[tokio::test]
async fn a_repeated_id_is_one_smile_across_sessions_and_restarts() {
    let replica = TestReplica::start(&[]).await;
    let store = replica.store.clone();
    let mut first = TestClient::connect(replica.address, "anna").await;
    let at = first.smile("c1", "bruno").await;
    let mut second = TestClient::connect(replica.address, "anna").await;
    let mut bruno = TestClient::connect(replica.address, "bruno").await;
    let duplicate = json!({"type": "ack", "id": "c1", "offset": at, "duplicate": true});
    second.send_smile("c1", "bruno").await;
    assert_eq!(second.expect("ack").await, duplicate);
    assert_eq!(second.smile("c2", "bruno").await, at + 1);
    assert_eq!(bruno.expect("smile").await["id"], "c2", "the duplicate was delivered");
    let epoch = first.epoch();
    replica.stop().await;

    let replica = TestReplica::on(&store, &[]).await;
    let mut third = TestClient::connect(replica.address, "anna").await;
    assert_eq!(third.epoch(), epoch, "the restart changed the epoch");
    third.send_smile("c1", "bruno").await;
    assert_eq!(third.expect("ack").await, duplicate);
    assert_eq!(third.smile("c3", "bruno").await, at + 2);
    assert_eq!(third.history("bruno").await.len(), 3);
}
