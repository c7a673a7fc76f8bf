//! The closed loop: sessions that each keep a number of smiles unanswered, and send the next when an answer comes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use futures_util::SinkExt;

use crate::client::{connect, next_text, smile, users};
use crate::process::Server;

/// What is in the answer to a smile that is durable.
pub(crate) const ACK: &str = r#""type":"ack""#;

/// How long it runs.
const LOOP: Duration = Duration::from_secs(3);

/// Round trips per second, and how long each took. The sessions are spread over the servers; an echo has no users, and
/// any answer of its will do.
pub(crate) async fn closed_loop(
    servers: &[Server],
    sessions: usize,
    unanswered: usize,
    waits_for: Option<&'static str>,
) -> (f64, Vec<Duration>) {
    let users = if waits_for.is_some() { users(servers[0].address).await } else { vec!["anna".to_owned()] };
    let mut sockets = Vec::new();
    for session in 0..sessions {
        // Sessions of a pair are neighbours; with more pairs than users have partners, users are shared.
        let user = users[session % users.len()].clone();
        let peer = users[(session ^ 1) % users.len()].clone();
        let server = servers[session % servers.len()].address;
        sockets.push((session, connect(server, &user, "").await.expect("a session opens"), peer));
    }
    let began = Instant::now();
    let tasks: Vec<_> = sockets
        .into_iter()
        .map(|(session, mut socket, peer)| {
            tokio::spawn(async move {
                let (mut latencies, mut waiting) = (Vec::new(), VecDeque::new());
                let run = rand::random::<u32>();
                while began.elapsed() < LOOP {
                    while waiting.len() < unanswered {
                        let id = format!("{run:08x}-{session}-{}", latencies.len() + waiting.len());
                        waiting.push_back(Instant::now());
                        socket.feed(smile(&id, &peer)).await.expect("a frame is sent");
                    }
                    socket.flush().await.expect("frames are sent");
                    // Acks come in the order of the smiles.
                    while waiting.len() == unanswered {
                        let text = next_text(&mut socket).await.expect("an answer");
                        assert!(!text.contains(r#""type":"error""#), "{text}");
                        if waits_for.is_none_or(|mark| text.contains(mark)) {
                            latencies.extend(waiting.pop_front().map(|sent: Instant| sent.elapsed()));
                        }
                    }
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a session"));
    }
    (latencies.len() as f64 / began.elapsed().as_secs_f64(), latencies)
}
