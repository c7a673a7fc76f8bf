//! The latencies of deliveries and acks on one replica and between replicas, on MySQL.

use std::time::{Duration, Instant};

use futures_util::stream::SplitStream;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::client::{Socket, connect, field, percentile, smile, users};
use crate::cpu::Processes;
use crate::mysql::MySql;
use crate::process::{REPLICAS, Server};
use crate::report::{Report, millis, share, thousands};
use crate::scale::Scale;

/// Offered smiles per second over all replicas.
const OFFERED: u32 = 2_000;

const ROUND: Duration = Duration::from_secs(8);

/// How long smiles are sent before the latencies and the rate are measured. The refusals and the CPU shares are
/// measured from the start.
const WARM_UP: Duration = Duration::from_secs(2);

const HEADER: [&str; 10] = [
    "replicas",
    "smiles/s",
    "send to receipt p50",
    "p99",
    "p99.9",
    "send to ack p50",
    "p99",
    "refused",
    "cores of MySQL",
    "cores of all replicas",
];

/// Measures two latencies at a fixed rate, both from the due time of a smile: to the receipt on another replica, and to
/// the ack. Both include the commit. Reports the round with the median p50 of the receipts. If there is only one
/// replica, the sender and the receiver share it.
pub(crate) async fn across_replicas(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for count in [1, REPLICAS] {
        let mut rounds = Vec::new();
        for _ in 0..scale.rounds {
            let mysql = MySql::new().await;
            let replicas = Server::several_on(mysql.store(), count);
            let processes = Processes::of(&replicas);
            let (mut received, mut acked, refused) = exchange(&replicas).await;
            let (cores, mysql_cores) = processes.cores();
            let p50 = percentile(&mut received, 50.0);
            let mut row = vec![count.to_string(), thousands(received.len() as f64 / ROUND.as_secs_f64()), millis(p50)];
            row.extend([99.0, 99.9].map(|percent| millis(percentile(&mut received, percent))));
            row.extend([50.0, 99.0].map(|percent| millis(percentile(&mut acked, percent))));
            row.extend([refused.to_string(), mysql_cores.map_or("unknown".to_owned(), share), share(cores)]);
            rounds.push((p50, row));
            drop(replicas);
            mysql.remove().await;
        }
        rounds.sort_by(|one, other| one.0.total_cmp(&other.0));
        rows.push(rounds.swap_remove(rounds.len() / 2).1);
    }
    report.table("latency", &HEADER, rows);
}

/// Runs one round: of each pair of users, one user sends on one replica, and the other receives on the next replica.
/// Returns the latencies of receipts and of acks, and the number of refused smiles.
async fn exchange(replicas: &[Server]) -> (Vec<Duration>, Vec<Duration>, usize) {
    let users = users(replicas[0].address).await;
    let start = Instant::now() + Duration::from_millis(200);
    let (mut tasks, mut senders) = (Vec::new(), Vec::new());
    for (number, pair) in users.chunks_exact(2).enumerate() {
        let here = replicas[number % replicas.len()].address;
        let there = replicas[(number + 1) % replicas.len()].address;
        let sender = connect(here, &pair[0]).await.expect("a session should open");
        let receiver = connect(there, &pair[1]).await.expect("a session should open");
        let (due, dues) = mpsc::unbounded_channel();
        senders.push(due);
        tasks.push((
            tokio::spawn(hear(receiver.split().1, start, "smile")),
            tokio::spawn(send(sender, pair[1].clone(), start, dues)),
        ));
    }
    std::thread::spawn(move || beat(start, &senders));
    let (mut received, mut acked, mut refused) = (Vec::new(), Vec::new(), 0);
    for (hearing, sending) in tasks {
        received.extend(hearing.await.expect("no receiver should panic").0);
        let (latencies, refusals) = sending.await.expect("no sender should panic");
        acked.extend(latencies);
        refused += refusals;
    }
    (received, acked, refused)
}

/// Triggers the senders in turn at the offered rate. Each trigger is the time at which a smile is due, so that a late
/// sender does not hide latency (coordinated omission). Runs on a thread of its own, because the runtime's timers have
/// a resolution of one millisecond.
#[expect(clippy::disallowed_methods, reason = "nothing else runs on this thread")]
fn beat(start: Instant, senders: &[UnboundedSender<Instant>]) {
    let interval = Duration::from_secs(1) / OFFERED;
    let mut due = start;
    for sender in senders.iter().cycle() {
        if due >= start + WARM_UP + ROUND {
            return;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let _ = sender.send(due);
        due += interval;
    }
}

/// Does not wait for answers, and does not repeat a refused smile. Returns the latencies of the acks, and the number of
/// refusals.
async fn send(
    socket: Socket,
    to: String,
    start: Instant,
    mut dues: UnboundedReceiver<Instant>,
) -> (Vec<Duration>, usize) {
    let (mut sink, stream) = socket.split();
    let acks = tokio::spawn(hear(stream, start, "ack"));
    let run = rand::random::<u32>();
    while let Some(due) = dues.recv().await {
        let id = format!("{run:08x}-{}", due.duration_since(start).as_nanos());
        sink.send(smile(&id, &to)).await.expect("the frame should be sent");
    }
    acks.await.expect("the task that reads the acks should not panic")
}

/// Reads frames until half a second after the end of the round. Returns the latencies of the frames of the type `what`,
/// measured from the due times of their smiles, and the number of error frames.
async fn hear(mut stream: SplitStream<Socket>, start: Instant, what: &'static str) -> (Vec<Duration>, usize) {
    let (mut latencies, mut errors) = (Vec::new(), 0);
    let end = start + WARM_UP + ROUND + Duration::from_millis(500);
    while let Ok(Some(Ok(message))) = tokio::time::timeout_at(end.into(), stream.next()).await {
        let Ok(frame) = message.into_text() else { continue };
        let kind = field(&frame, "type");
        errors += usize::from(kind == Some("error"));
        if kind != Some(what) {
            continue;
        }
        let due = field(&frame, "id").and_then(|id| id.rsplit('-').next()?.parse().ok()).map(Duration::from_nanos);
        if let Some(due) = due.filter(|due| *due >= WARM_UP) {
            latencies.push(start.elapsed().saturating_sub(due));
        }
    }
    (latencies, errors)
}
