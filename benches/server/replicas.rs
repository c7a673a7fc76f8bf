//! Many replicas on one MySQL: how soon the others hear.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};

use crate::client::{Socket, connect, field, percentile, smile, users};
use crate::mysql::MySql;
use crate::process::{Server, processor_seconds};

const REPLICAS: usize = 4;

/// Smiles per second over all replicas, while latency is measured.
const OFFERED: u32 = 2_000;

const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(8);

/// Not measured: connections are made, pages are read, the plan is found.
const WARM_UP: Duration = Duration::from_secs(2);

fn start(mysql: &MySql, count: usize) -> Vec<Server> {
    (1..=count).map(|number| Server::on(mysql.store(), &["--replica", &format!("be{number}")])).collect()
}

/// From one user's send to the other user's receipt on another replica, commit included, at a given rate.
pub(crate) async fn latency() {
    let mysql = MySql::new().await;
    for round in 1..=ROUNDS {
        for count in [1, REPLICAS] {
            let replicas = start(&mysql, count);
            let processes: Vec<u32> = MySql::process().into_iter().chain(replicas.iter().map(Server::id)).collect();
            let before: Vec<f64> = processes.iter().map(|process| processor_seconds(*process)).collect();
            let (mut received, mut acked) = exchange(&replicas).await;
            let used: Vec<String> = processes
                .iter()
                .zip(before)
                .map(|(process, before)| {
                    format!("{:.2}", (processor_seconds(*process) - before) / (ROUND + WARM_UP).as_secs_f64())
                })
                .collect();
            println!(
                "latency {round}: {count} replicas, {:.0} smiles/s: send to receipt on another p50 {:.2} ms p99 {:.2} ms p99.9 {:.2} ms; to ack p50 {:.2} ms p99 {:.2} ms; cores used: {used:?}",
                received.len() as f64 / ROUND.as_secs_f64(),
                percentile(&mut received, 50.0),
                percentile(&mut received, 99.0),
                percentile(&mut received, 99.9),
                percentile(&mut acked, 50.0),
                percentile(&mut acked, 99.0),
            );
        }
    }
}

/// Every pair of users is on two neighbouring replicas, one sends and the other receives.
async fn exchange(replicas: &[Server]) -> (Vec<Duration>, Vec<Duration>) {
    let users = users(replicas[0].address).await;
    let pairs: Vec<&[String]> = users.chunks_exact(2).collect();
    let count = u32::try_from(pairs.len()).expect("few pairs");
    let interval = Duration::from_secs(1) * count / OFFERED;
    let start = Instant::now() + Duration::from_millis(200);
    let mut tasks = Vec::new();
    for (number, pair) in pairs.iter().enumerate() {
        let here = replicas[number % replicas.len()].address;
        let there = replicas[(number + 1) % replicas.len()].address;
        let sender = connect(here, &pair[0], "").await.expect("a session opens");
        let receiver = connect(there, &pair[1], "").await.expect("a session opens");
        // Evenly, so that the smiles of all pairs come one after the other.
        let first = start + interval * u32::try_from(number).expect("few pairs") / count;
        tasks.push((
            tokio::spawn(hear(receiver, start, "smile")),
            tokio::spawn(send(sender, pair[1].clone(), start, first, interval)),
        ));
    }
    let (mut received, mut acked) = (Vec::new(), Vec::new());
    for (hearing, sending) in tasks {
        received.extend(hearing.await.expect("a receiver"));
        acked.extend(sending.await.expect("a sender"));
    }
    (received, acked)
}

/// Sends at a given rate, whatever comes back, and returns how long each ack took.
async fn send(socket: Socket, to: String, start: Instant, first: Instant, interval: Duration) -> Vec<Duration> {
    let (mut sink, stream) = socket.split();
    let acks = tokio::spawn(hear_stream(stream, start, "ack"));
    let run = rand::random::<u32>();
    let mut at = first;
    while at < start + WARM_UP + ROUND {
        tokio::time::sleep_until(at.into()).await;
        // When it was due, not when it was sent: a sender that is late does not make the server look quick.
        let id = format!("{run:08x}-{}", at.duration_since(start).as_nanos());
        sink.send(smile(&id, &to)).await.expect("a frame is sent");
        at += interval;
    }
    acks.await.expect("the acks")
}

async fn hear(socket: Socket, start: Instant, what: &'static str) -> Vec<Duration> {
    hear_stream(socket.split().1, start, what).await
}

/// How long each frame of this type took from when its smile was due, those of the warm-up aside.
async fn hear_stream(
    mut stream: futures_util::stream::SplitStream<Socket>,
    start: Instant,
    what: &'static str,
) -> Vec<Duration> {
    let mut latencies = Vec::new();
    let end = start + WARM_UP + ROUND + Duration::from_millis(500);
    while let Ok(Some(Ok(message))) = tokio::time::timeout_at(end.into(), stream.next()).await {
        let Ok(frame) = message.into_text() else { continue };
        assert!(field(&frame, "type") != Some("error"), "{frame}");
        if field(&frame, "type") != Some(what) {
            continue;
        }
        let due = field(&frame, "id").and_then(|id| id.rsplit('-').next()?.parse().ok()).map(Duration::from_nanos);
        if let Some(due) = due.filter(|due| *due >= WARM_UP) {
            latencies.push(start.elapsed().saturating_sub(due));
        }
    }
    latencies
}
