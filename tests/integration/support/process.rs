//! The real program as a process of its own: started, signalled, killed, and asked how it ended.
//!
//! Owns the child; it never outlives the test. What it logs is kept to be shown when something fails.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;

use super::{command_line, within};

/// The program under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_smilingchat");

/// Runs the program after it in a process that a file past its size limit does not kill: writes fail instead.
const IGNORE_FILE_SIZE_SIGNAL: &str = r#"trap "" XFSZ; exec "$0" "$@""#;

/// A replica that runs as a process.
pub(crate) struct TestProcess {
    /// Where the page, the API and `/ws` are.
    pub(crate) address: SocketAddr,
    /// Where `/metrics` is.
    pub(crate) ops_address: SocketAddr,
    /// Its id.
    pub(crate) replica: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl TestProcess {
    /// Starts the program on this store and waits until it says that it is ready.
    pub(crate) async fn start(store: &Path, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(command_line(store, options));
        Self::spawn(command).await
    }

    /// Starts the program with these environment variables as well.
    pub(crate) async fn start_with_environment(
        store: &Path,
        options: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(command_line(store, options)).envs(environment.iter().copied());
        Self::spawn(command).await
    }

    /// Starts the program with nothing but free ports, so that it keeps its smiles where the platform wants them.
    pub(crate) async fn start_without_store(data_directory: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"]).env("XDG_DATA_HOME", data_directory);
        Self::spawn(command).await
    }

    /// Starts the program so that [`TestProcess::limit_file_size`] makes its writes fail.
    pub(crate) async fn start_with_limited_files(store: &Path, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", IGNORE_FILE_SIZE_SIGNAL, PROGRAM]).args(command_line(store, options));
        Self::spawn(command).await
    }

    /// Starts the program where no process may open more than `limit` files.
    pub(crate) async fn start_with_few_files(store: &Path, limit: u32, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={}:{limit}", limit / 2)).arg(PROGRAM).args(command_line(store, options));
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = oneshot::channel();
        tokio::spawn(follow(child.stderr.take().expect("its log"), Arc::clone(&log), ready));
        let Ok(ready) = within("the program is ready", is_ready).await else {
            panic!("the program ended: {}", log.lock().unwrap_or_else(PoisonError::into_inner));
        };
        let address = |field: &str| {
            let url = ready[field].as_str().expect("an address");
            url.strip_prefix("http://").expect("http").parse().expect("an address")
        };
        Self {
            address: address("page"),
            ops_address: address("operations"),
            replica: ready["replica"].as_str().expect("an id").to_owned(),
            child,
            log,
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn id(&self) -> String {
        self.child.id().expect("it was not waited for").to_string()
    }

    /// Sends a signal, named as `kill` names it.
    pub(crate) async fn signal(&self, name: &str) {
        run("kill", &[&format!("-{name}"), &self.id()]).await;
    }

    /// No file of the process may grow past this size; `unlimited` lifts that.
    pub(crate) async fn limit_file_size(&self, limit: &str) {
        run("prlimit", &["--pid", &self.id(), &format!("--fsize={limit}:unlimited")]).await;
    }

    /// Kills it as a power cut would, and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("the process is killed");
    }

    /// How it ends by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("the process ends", self.child.wait()).await.expect("a status")
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }
}

/// Keeps the log, and tells when it says that the replica is ready.
async fn follow(stderr: ChildStderr, log: Arc<Mutex<String>>, ready: oneshot::Sender<Value>) {
    let mut ready = Some(ready);
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(entry) = serde_json::from_str::<Value>(&line)
            && entry["message"] == "ready"
            && let Some(ready) = ready.take()
        {
            let _ = ready.send(entry);
        }
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}

/// Starts the program with these arguments; it ends with the test.
pub(crate) fn start_program(arguments: &[&str]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("the program starts")
}

/// Runs the program to its end with these arguments.
pub(crate) async fn run_program(arguments: &[&str]) -> Output {
    run_program_with(arguments, &[]).await
}

/// Runs the program to its end with these arguments and these environment variables.
pub(crate) async fn run_program_with(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    within("the program ends", command.output()).await.expect("the program starts")
}

pub(crate) async fn run(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output().await.expect("the tool starts");
    assert!(output.status.success(), "{tool} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
