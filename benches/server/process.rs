//! Servers as processes of their own: started, and killed when dropped.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::pinning::{self, Core};
use crate::{cpu, echo};

/// Names another program to be measured than the one that Cargo built.
const OTHER_PROGRAM: &str = "BENCH_SERVER";

/// No limits: what is measured is the server, not its brakes.
const WITHOUT_LIMITS: [&str; 6] = ["--capacity", "0", "--session-rate", "0", "--client-rate", "0"];

/// How many replicas are many.
pub(crate) const REPLICAS: usize = 4;

/// A server process that is killed when dropped.
pub(crate) struct Server {
    process: Child,
    /// Where it serves.
    pub(crate) address: SocketAddr,
    /// Where its metrics are, if it is ours.
    pub(crate) operations: Option<SocketAddr>,
    /// Kept as long as the server.
    folder: Option<tempfile::TempDir>,
}

impl Server {
    /// Our server on an SQLite store of its own.
    pub(crate) fn on_sqlite(core: Core) -> Self {
        let folder = folder();
        let mut server = Self::on(&format!("sqlite:{}", folder.path().join("bench.db").display()), &[], core);
        server.folder = Some(folder);
        server
    }

    /// Our server without limits, on that store, with more options.
    pub(crate) fn on(store: &str, options: &[&str], core: Core) -> Self {
        let mut command = pinning::command(program(), core);
        command.args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--store", store]);
        command.args(WITHOUT_LIMITS).args(options);
        Self::announcing_on_stderr(command)
    }

    /// Several replicas on that store, wherever there is room.
    pub(crate) fn several_on(store: &str, count: usize) -> Vec<Self> {
        (1..=count).map(|number| Self::on(store, &["--replica", &format!("be{number}")], Core::Any)).collect()
    }

    /// The bare echo.
    pub(crate) fn echo(core: Core) -> Self {
        let mut command = pinning::command(std::env::current_exe().expect("this program"), core);
        command.arg(echo::ROLE);
        Self::announcing_on_stdout(command)
    }

    /// A server whose output tells its address.
    pub(crate) fn announcing_on_stdout(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let output = process.stdout.take().expect("its output");
        Self::announced(process, output)
    }

    /// A server whose log tells its address.
    pub(crate) fn announcing_on_stderr(mut command: Command) -> Self {
        let mut process = command.stderr(Stdio::piped()).spawn().expect("the server starts");
        let output = process.stderr.take().expect("its log");
        Self::announced(process, output)
    }

    fn announced(process: Child, output: impl Read + Send + 'static) -> Self {
        let addresses = first_addresses(BufReader::new(output).lines());
        Self { process, address: addresses[0], operations: addresses.get(1).copied(), folder: None }
    }

    /// The number of its process.
    pub(crate) fn number(&self) -> u32 {
        self.process.id()
    }

    /// Kills it as a power cut would, with the processes that it started.
    pub(crate) fn kill(&mut self) {
        for child in cpu::children(self.process.id()) {
            let _ = Command::new("kill").args(["-KILL", &child.to_string()]).status();
        }
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

/// The program that is measured.
pub(crate) fn program() -> OsString {
    std::env::var_os(OTHER_PROGRAM).unwrap_or_else(|| env!("CARGO_BIN_EXE_smilingchat").into())
}

/// Which program that is, for people.
pub(crate) fn described() -> &'static str {
    if std::env::var_os(OTHER_PROGRAM).is_some() { "another build of the server" } else { "the server of that commit" }
}

/// A folder on the disk of the build: the system's one for temporary files may be in memory, where a sync costs nothing.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

/// The addresses in the first line that has any; the rest of the output is read and dropped, so that it never blocks.
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
    found.expect("the server announces its addresses")
}
