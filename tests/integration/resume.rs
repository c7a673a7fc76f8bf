//! Resuming with `after` and `epoch` (promise 5): the replay, and the cases in which a session cannot resume.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use smilingchat::client::{Client, Event, Patience};
use smilingchat::model::{SmileId, UserName};

use crate::support::client::{TestClient, id, offset};
use crate::support::replica::TestReplica;
use crate::support::{UNLIMITED, within};

async fn fill(replica: &TestReplica, count: usize) -> String {
    let mut anna = TestClient::connect(replica.address, "anna").await;
    for number in 1..=count {
        anna.smile(&format!("c{number}"), if number % 3 == 0 { "carla" } else { "bruno" }).await;
    }
    anna.epoch()
}

#[tokio::test]
async fn everything_after_the_offset_is_replayed_before_live_smiles() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let epoch = fill(&replica, 9).await;
    let mut bruno = TestClient::resume(replica.address, "bruno", 2, &epoch).await;
    assert_eq!((bruno.offset(), bruno.recovered(), bruno.epoch()), (2, true, epoch.clone()));
    for expected in [4, 5, 7, 8] {
        let frame = bruno.expect("smile").await;
        assert_eq!((offset(&frame), id(&frame)), (expected, format!("c{expected}")));
    }
    bruno.expect_alive().await;

    let mut anna = TestClient::resume(replica.address, "anna", 6, &epoch).await;
    for expected in [7, 8, 9] {
        let frame = anna.expect("smile").await;
        assert_eq!((offset(&frame), id(&frame)), (expected, format!("c{expected}")), "anna's own smile was missing");
        assert_eq!(frame["from"], "anna");
    }
    assert_eq!(anna.smile("c10", "bruno").await, 10);
    assert_eq!(offset(&bruno.expect("smile").await), 10);
}

#[tokio::test]
async fn a_resume_from_the_head_succeeds_and_replays_nothing() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let empty = TestClient::connect(replica.address, "bruno").await;
    let mut from_empty = TestClient::resume(replica.address, "bruno", 0, &empty.epoch()).await;
    assert!(from_empty.recovered());
    from_empty.expect_alive().await;
    let epoch = fill(&replica, 2).await;
    let mut from_head = TestClient::resume(replica.address, "bruno", 2, &epoch).await;
    assert_eq!((from_head.offset(), from_head.recovered()), (2, true));
    from_head.expect_alive().await;
}

#[tokio::test]
async fn a_session_with_another_epoch_or_an_offset_beyond_the_head_does_not_resume() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let epoch = fill(&replica, 5).await;
    let beyond = ["6", "9007199254740991", "9007199254740992", "18446744073709551616", "99999999999999999999999999"];
    let beyond = beyond.map(|after| format!("?user=bruno&after={after}&epoch={epoch}"));
    let wrong = ["other", "", "%F0%9F%98%80"].map(|epoch| format!("?user=bruno&after=1&epoch={epoch}"));
    for query in beyond.iter().chain(&wrong) {
        let mut client = TestClient::open(replica.address, query).await.unwrap();
        assert_eq!((client.offset(), client.recovered()), (5, false), "{query}");
        client.expect_alive().await;
    }
    let other_log = TestReplica::start(&[]).await;
    let client = TestClient::resume(other_log.address, "bruno", 0, &epoch).await;
    assert!(!client.recovered(), "a session resumed with the epoch of another log");
    assert_ne!(client.epoch(), epoch);
}

#[tokio::test]
async fn a_replay_longer_than_one_page_is_complete_and_in_order() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let epoch = fill(&replica, 601).await;
    let mut anna = TestClient::resume(replica.address, "anna", 0, &epoch).await;
    for expected in 1..=601 {
        assert_eq!(offset(&anna.expect("smile").await), expected);
    }
    anna.expect_alive().await;
}

#[tokio::test]
async fn a_resume_works_across_a_restart() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let store = replica.store.clone();
    let epoch = fill(&replica, 4).await;
    replica.stop().await;
    let replica = TestReplica::on(&store, &UNLIMITED).await;
    let mut bruno = TestClient::resume(replica.address, "bruno", 1, &epoch).await;
    assert!(bruno.recovered());
    for expected in [2, 4] {
        assert_eq!(offset(&bruno.expect("smile").await), expected);
    }
    bruno.expect_alive().await;
}

async fn send_on(mut client: TestClient, name: &str, stop: Arc<AtomicBool>) -> u64 {
    let mut last = 0;
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        last = client.persist(&format!("{name}{number}"), "bruno").await;
    }
    last
}

/// All smiles are to bruno, so a missed smile shows as a gap in the offsets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_under_load_has_no_gap() {
    let replica = TestReplica::start(&UNLIMITED).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = tokio::task::JoinSet::new();
    let mut epoch = String::new();
    for user in ["anna", "carla", "dario", "elena"] {
        let client = TestClient::connect(replica.address, user).await;
        epoch = client.epoch();
        senders.spawn(send_on(client, user, Arc::clone(&stop)));
    }
    let mut seen = 0;
    for round in 0..40 {
        let after = seen - if round % 4 == 3 { seen / 2 } else { 0 };
        let mut bruno = TestClient::resume(replica.address, "bruno", after, &epoch).await;
        assert!(bruno.recovered());
        let reach = seen + 25;
        for expected in after + 1..=reach {
            assert_eq!(offset(&bruno.expect("smile").await), expected, "resumed from {after}");
        }
        seen = reach;
    }
    stop.store(true, Ordering::Relaxed);
    let last = senders.join_all().await.into_iter().max().unwrap();
    let mut bruno = TestClient::resume(replica.address, "bruno", seen, &epoch).await;
    for expected in seen + 1..=last {
        assert_eq!(offset(&bruno.expect("smile").await), expected);
    }
    bruno.expect_alive().await;
}

#[tokio::test]
async fn a_smile_from_another_user_does_not_settle_a_smile_with_the_same_id() {
    let replica = TestReplica::start(&[("session-rate", "2"), ("session-burst", "1")]).await;
    let urls = vec![format!("ws://{}/ws", replica.address).parse().expect("a URL")];
    let mut bruno = Client::new(urls, UserName::new("bruno"), Patience::default());
    for id in ["first", "same"] {
        assert!(bruno.offer(SmileId::parse(id).expect("an id"), UserName::new("anna"), "🙂"));
    }
    within("a smile is refused", async { while !matches!(bruno.next().await, Event::Refused { .. }) {} }).await;
    TestClient::connect(replica.address, "carla").await.smile("same", "bruno").await;
    within("the smile with the same id arrives", async { while !matches!(bruno.next().await, Event::Received(_)) {} })
        .await;
    let acked = |event| matches!(event, Event::Acked { id, .. } if id.as_str() == "same");
    within("the refused smile is acked", async { while !acked(bruno.next().await) {} }).await;
}
