//! The benchmark: durable smiles against a bare echo, memory per idle session, time to ready.
//!
//! Figures of one machine and one moment mean little, so what matters is given as a ratio taken in the same run: the
//! same clients, in the same closed loop, against the server and against an axum route that only echoes.
//!
//! ```text
//! cargo bench                    # everything
//! cargo bench -- throughput      # or: memory, ready
//! ```
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::WebSocketUpgrade;
use axum::routing::get;
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// Sessions in the closed loop: each sends a smile, waits for the ack, and sends the next.
const SESSIONS: usize = 100;

/// How long each loop runs, and how often the two are alternated.
const LOOP: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

/// Idle sessions between which memory is compared.
const FEW: usize = 1_000;
const MANY: usize = 10_000;

/// Starts of the server for the time to ready.
const STARTS: usize = 10;

/// Tells this program to be the echo server; it prints its address and serves until it is killed.
const ECHO: &str = "--be-the-echo-server";

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == ECHO) {
        return echo().await;
    }
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let wanted = |name: &str| {
        let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|argument| *argument == name)
    };
    if wanted("ready") {
        time_to_ready().await;
    }
    if wanted("throughput") {
        throughput().await;
    }
    if wanted("memory") {
        memory().await;
    }
}

/// A server process that is killed when dropped.
struct Server {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// The real program, without limits, on a store of its own.
    fn smilingchat() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = format!("sqlite:{}", folder.path().join("bench.db").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_smilingchat"));
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--store", &store]);
        command.args(["--capacity", "0", "--session-rate", "0", "--client-rate", "0"]);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let address = announced(lines, "http://");
        Self { process, address, _folder: folder }
    }

    /// This program again, as a bare axum echo.
    fn echo() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut process = command.arg(ECHO).stdout(Stdio::piped()).spawn().expect("the echo starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let address = announced(lines, "http://");
        Self { process, address, _folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Resident memory in bytes.
    fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The first address a server prints; the rest of its output is read and dropped, so that it never blocks.
fn announced(mut lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static, before: &str) -> SocketAddr {
    let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
        let (_, rest) = line.split_once(before)?;
        rest.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next()?.parse().ok()
    });
    std::thread::spawn(move || lines.for_each(drop));
    address.expect("the server announces its address")
}

async fn echo() {
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

async fn connect(address: SocketAddr, user: &str) -> Socket {
    let config = WebSocketConfig::default().read_buffer_size(1024);
    let url = format!("ws://{address}/ws?user={user}");
    let (socket, _) =
        tokio_tungstenite::connect_async_with_config(url, Some(config), true).await.expect("a session opens");
    socket
}

async fn users(address: SocketAddr) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.expect("the server is there");
    stream.write_all(b"GET /api/users HTTP/1.0\r\n\r\n").await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let names = answer.split("\"name\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    names.map(str::to_owned).collect()
}

/// Runs the closed loop and returns round trips per second and the latencies, sorted.
async fn closed_loop(server: &Server, waits_for: Option<&'static str>) -> (f64, Vec<Duration>) {
    let users = if waits_for.is_some() { users(server.address).await } else { vec!["anna".to_owned()] };
    let mut sockets = Vec::new();
    for session in 0..SESSIONS {
        // Sessions of a pair are neighbours; with more pairs than users have partners, users are shared.
        let user = users[session % users.len()].clone();
        let peer = users[(session ^ 1) % users.len()].clone();
        sockets.push((session, connect(server.address, &user).await, peer));
    }
    let began = Instant::now();
    let tasks: Vec<_> = sockets
        .into_iter()
        .map(|(session, mut socket, peer)| {
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                let run = rand::random::<u32>();
                while began.elapsed() < LOOP {
                    let id = format!("{run:08x}-{session}-{}", latencies.len());
                    let sent = Instant::now();
                    let smile = format!(r#"{{"type":"smile","id":"{id}","to":"{peer}","smile":"😀"}}"#);
                    socket.send(Message::text(smile)).await.expect("a frame is sent");
                    loop {
                        let frame = socket.next().await.expect("an answer").expect("a frame");
                        let Message::Text(text) = frame else { continue };
                        assert!(!text.contains(r#""type":"error""#), "{text}");
                        if waits_for.is_none_or(|mark| text.contains(mark)) {
                            break;
                        }
                    }
                    latencies.push(sent.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.expect("a session"));
    }
    let per_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    (per_second, latencies)
}

async fn throughput() {
    let (chat, echo) = (Server::smilingchat(), Server::echo());
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (echoes, _) = closed_loop(&echo, None).await;
        let (smiles, latencies) = closed_loop(&chat, Some(r#""type":"ack""#)).await;
        ratios.push(smiles / echoes);
        println!(
            "throughput {round}: {smiles:.0} durable smiles/s, ack p50 {:.2} ms p99 {:.2} ms; {echoes:.0} echoes/s; ratio {:.3}",
            milliseconds(percentile(&latencies, 50)),
            milliseconds(percentile(&latencies, 99)),
            smiles / echoes,
        );
    }
    ratios.sort_by(f64::total_cmp);
    println!("throughput: {SESSIONS} sessions, durable smiles per echo: median {:.3}", ratios[ratios.len() / 2]);
}

async fn memory() {
    let server = Server::smilingchat();
    let users = users(server.address).await;
    let mut sockets = Vec::new();
    let mut open = async |sessions: usize| {
        while sockets.len() < sessions {
            let mut socket = connect(server.address, &users[sockets.len() % users.len()]).await;
            socket.next().await.expect("a welcome").expect("a frame");
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

async fn time_to_ready() {
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let server = Server::smilingchat();
        let mut stream = TcpStream::connect(server.address).await.expect("the server is there");
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        "ready: process start to 200 from /readyz, new store: median {:.1} ms, slowest {:.1} ms",
        milliseconds(percentile(&times, 50)),
        milliseconds(times[times.len() - 1])
    );
}

fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
