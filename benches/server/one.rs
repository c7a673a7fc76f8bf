//! One replica on SQLite: durable smiles against a bare echo, memory per idle session, time to ready.

use std::slice;
use std::time::Instant;

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;

use crate::client::{connect, get as http_get, next_text, percentile, users};
use crate::closed_loop::{ACK, closed_loop};
use crate::process::Server;

/// Sessions in the closed loop.
const SESSIONS: usize = 100;

/// How often the two are alternated.
const ROUNDS: usize = 3;

/// Idle sessions between which memory is compared.
const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// Starts of the server for the time to ready.
const STARTS: usize = 10;

/// Serves a bare echo until it is killed.
pub(crate) async fn echo() {
    let serve = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            while let Some(Ok(message)) = socket.recv().await {
                if socket.send(message).await.is_err() {
                    break;
                }
            }
        })
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    println!("http://{}", listener.local_addr().expect("its address"));
    axum::serve(listener, Router::new().route("/ws", get(serve))).await.expect("the echo serves");
}

/// Durable smiles per second, and as a share of the echoes that the same clients get from a bare echo.
pub(crate) async fn throughput() {
    let (chat, echo) = (Server::on_sqlite(), Server::echo());
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (echoes, _) = closed_loop(slice::from_ref(&echo), SESSIONS, 1, None).await;
        let (smiles, mut latencies) = closed_loop(slice::from_ref(&chat), SESSIONS, 1, Some(ACK)).await;
        ratios.push(smiles / echoes);
        println!(
            "throughput {round}: {smiles:.0} durable smiles/s, ack p50 {:.2} ms p99 {:.2} ms; {echoes:.0} echoes/s; ratio {:.3}",
            percentile(&mut latencies, 50.0),
            percentile(&mut latencies, 99.0),
            smiles / echoes,
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("throughput: {SESSIONS} sessions, durable smiles per echo: median {:.3}", ratios[ratios.len() / 2]);
}

/// What one more idle session costs.
pub(crate) async fn memory() {
    let server = Server::on_sqlite();
    let users = users(server.address).await;
    let mut sockets = Vec::new();
    let mut open = async |sessions: usize| {
        while sockets.len() < sessions {
            let mut socket = connect(server.address, &users[sockets.len() % users.len()], "").await.expect("a session");
            next_text(&mut socket).await.expect("a welcome");
            sockets.push(socket);
        }
        server.resident()
    };
    let few = open(FEW).await;
    let many = open(MANY).await;
    println!(
        "memory: {:.1} MiB with {FEW} idle sessions, {:.1} MiB with {MANY}: {:.2} KiB per session",
        few as f64 / 1_048_576.0,
        many as f64 / 1_048_576.0,
        (many - few) as f64 / 1024.0 / (MANY - FEW) as f64
    );
}

/// From the start of the process to `200` from `/readyz`.
pub(crate) async fn time_to_ready() {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = Server::on_sqlite();
        let answer = http_get(server.address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
        times.push(began.elapsed());
    }
    println!(
        "ready: process start to 200 from /readyz, new store: median {:.1} ms, slowest {:.1} ms",
        percentile(&mut times, 50.0),
        percentile(&mut times, 100.0)
    );
}
