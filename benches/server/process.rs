//! Servers as child processes, which are killed on drop.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::pinning::{self, Core};
use crate::{cpu, echo};

const OTHER_PROGRAM: &str = "BENCH_SERVER";

const WITHOUT_LIMITS: [&str; 6] = ["--capacity", "0", "--session-rate", "0", "--client-rate", "0"];

pub(crate) const REPLICAS: usize = 4;

pub(crate) struct Server {
    process: Child,
    /// The address for clients.
    pub(crate) address: SocketAddr,
    /// The address of the metrics; `None` for the echo and the peers.
    pub(crate) operations: Option<SocketAddr>,
    /// The URL of the store; empty for the echo and the peers.
    pub(crate) store: String,
    /// The folder of the store, if this server created it.
    folder: Option<tempfile::TempDir>,
}

impl Server {
    pub(crate) fn on_sqlite(core: Core) -> Self {
        let folder = folder();
        let mut server = Self::on(&format!("sqlite:{}", folder.path().join("bench.db").display()), &[], core);
        server.folder = Some(folder);
        server
    }

    pub(crate) fn on(store: &str, options: &[&str], core: Core) -> Self {
        let mut command = pinning::command(program(), core);
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--store", store]);
        command.args(WITHOUT_LIMITS).args(options);
        let mut server = Self::announcing_on_stderr(command);
        store.clone_into(&mut server.store);
        server
    }

    pub(crate) fn several_on(store: &str, count: usize) -> Vec<Self> {
        (1..=count).map(|number| Self::on(store, &["--replica", &format!("be{number}")], Core::Any)).collect()
    }

    pub(crate) fn echo(core: Core) -> Self {
        let mut command = pinning::command(std::env::current_exe().expect("this program should have a path"), core);
        command.arg(echo::ROLE);
        Self::announcing_on_stdout(command)
    }

    pub(crate) fn announcing_on_stdout(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the server should start");
        let output = process.stdout.take().expect("the output should be piped");
        Self::announced(process, output)
    }

    pub(crate) fn announcing_on_stderr(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server should start");
        let output = process.stderr.take().expect("the log should be piped");
        Self::announced(process, output)
    }

    fn announced(process: Child, output: impl Read + Send + 'static) -> Self {
        let addresses = first_addresses(BufReader::new(output).lines());
        Self {
            process,
            address: addresses[0],
            operations: addresses.get(1).copied(),
            store: String::new(),
            folder: None,
        }
    }

    /// The process id.
    pub(crate) fn number(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGKILL to the children that [`cpu::children`] finds, and then to the server itself.
    pub(crate) fn kill(&mut self) {
        for child in cpu::children(self.process.id()) {
            let _ = Command::new("kill").args(["-KILL", &child.to_string()]).status();
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("the server should be running");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("the status should have a VmRSS line");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("VmRSS should be a number") * 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn program() -> OsString {
    std::env::var_os(OTHER_PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_smilingchat").into())
}

pub(crate) fn described() -> &'static str {
    if std::env::var_os(OTHER_PROGRAM).is_some() { "another build of the server" } else { "the server of that commit" }
}

/// A folder on the build's disk: the system's temporary folder may be in memory, where a sync is free.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the folder should be created")
}

/// The addresses in the first line that contains any. A thread discards all later lines, so that the pipe never fills.
fn first_addresses(mut lines: impl Iterator<Item = std::io::Result<String>> + Send + 'static) -> Vec<SocketAddr> {
    let addresses = |line: String| {
        let after = line.split("http://").skip(1);
        let found: Vec<SocketAddr> = after
            .filter_map(|rest| rest.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next()?.parse().ok())
            .collect();
        (!found.is_empty()).then_some(found)
    };
    let found = lines.by_ref().map_while(Result::ok).find_map(addresses);
    std::thread::spawn(move || lines.for_each(drop));
    found.expect("the server should announce its addresses")
}
