//! Servers as processes of their own: started, measured, and killed when dropped.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::mysql::MySql;

/// Tells this program to be the echo server; it prints its address and serves until it is killed.
pub(crate) const ECHO: &str = "--be-the-echo-server";

/// No limits: what is measured is the server, not its brakes.
const WITHOUT_LIMITS: [&str; 6] = ["--capacity", "0", "--session-rate", "0", "--client-rate", "0"];

/// How many replicas are many.
pub(crate) const REPLICAS: usize = 4;

/// A server process that is killed when dropped.
pub(crate) struct Server {
    process: Child,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    /// Where its metrics are.
    pub(crate) operations: SocketAddr,
    /// Kept as long as the server.
    folder: Option<tempfile::TempDir>,
}

impl Server {
    /// The real program, without limits, on an SQLite store of its own.
    pub(crate) fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = format!("sqlite:{}", folder.path().join("bench.db").display());
        let mut server = Self::on(&store, &[]);
        server.folder = Some(folder);
        server
    }

    /// The real program, without limits, on that store, with more options.
    pub(crate) fn on(store: &str, options: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_smilingchat"));
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--store", store]);
        command.args(WITHOUT_LIMITS).args(options);
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let lines = BufReader::new(process.stderr.take().expect("its log")).lines();
        let [address, operations] = announced(lines)[..] else { panic!("two addresses") };
        Self { process, address, operations, folder: None }
    }

    /// Several replicas on that store.
    pub(crate) fn several_on(store: &str, count: usize) -> Vec<Self> {
        (1..=count).map(|number| Self::on(store, &["--replica", &format!("be{number}")])).collect()
    }

    /// This program again, as a bare axum echo.
    pub(crate) fn echo() -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        let mut process = command.arg(ECHO).stdout(Stdio::piped()).spawn().expect("the echo starts");
        let lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let address = announced(lines)[0];
        Self { process, address, operations: address, folder: None }
    }

    /// Kills it as a power cut would.
    pub(crate) fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("its status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its resident memory");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Processor time since a moment: of our own MySQL, if that is used, and of the replicas.
pub(crate) struct Processes {
    since: Instant,
    mysql: Option<(u32, f64)>,
    replicas: Vec<(u32, f64)>,
}

impl Processes {
    /// From now on.
    pub(crate) fn of(replicas: &[Server]) -> Self {
        let now = |process| (process, processor_seconds(process));
        Self {
            since: Instant::now(),
            mysql: MySql::process().map(now),
            replicas: replicas.iter().map(|replica| now(replica.process.id())).collect(),
        }
    }

    /// In cores, for people.
    pub(crate) fn cores_used(&self) -> String {
        let seconds = self.since.elapsed().as_secs_f64();
        let cores = |(process, before): &(u32, f64)| (processor_seconds(*process) - before) / seconds;
        let replicas: f64 = self.replicas.iter().map(cores).sum();
        let mysql = self.mysql.as_ref().map_or("unknown".to_owned(), |mysql| format!("{:.3}", cores(mysql)));
        format!("MySQL {mysql}, all replicas {replicas:.3}")
    }
}

/// Seconds of processor time that a process has used (`proc_pid_stat(5)`: fields 14 and 15, in hundredths).
fn processor_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let hundredths: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    hundredths as f64 / 100.0
}

/// The addresses in the first line that has any; the rest of the output is read and dropped, so that it never blocks.
fn announced(mut lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static) -> Vec<SocketAddr> {
    let addresses = |line: String| {
        let after = line.split("http://").skip(1);
        let found: Vec<SocketAddr> = after
            .filter_map(|rest| rest.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next()?.parse().ok())
            .collect();
        (!found.is_empty()).then_some(found)
    };
    let found = lines.by_ref().map_while(Result::ok).find_map(addresses);
    std::thread::spawn(move || lines.for_each(drop));
    found.expect("the server announces its addresses")
}
