//! The real program as a child process. Dropping a [`TestProcess`] kills the process.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{PATIENCE, command_line, sqlite, within};

const PROGRAM: &str = env!("CARGO_BIN_EXE_smilingchat");

/// Runs a program with SIGXFSZ ignored, so that a write past the file size limit fails instead of killing the program.
const IGNORE_FILE_SIZE_SIGNAL: &str = r#"trap "" XFSZ; exec "$0" "$@""#;

pub(crate) struct TestProcess {
    /// The address of the page, the API and `/ws`.
    pub(crate) address: SocketAddr,
    pub(crate) ops_address: SocketAddr,
    /// The id of the replica.
    pub(crate) replica: String,
    child: Child,
    log: Arc<Mutex<String>>,
    follower: JoinHandle<()>,
}

impl TestProcess {
    /// Starts the program on this store and waits until it logs that it is ready.
    pub(crate) async fn start(store: &Path, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(command_line(&sqlite(store), options));
        Self::spawn(command).await
    }

    pub(crate) async fn on_mysql(url: &str, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(command_line(url, options));
        Self::spawn(command).await
    }

    /// Starts a new replica on this store, at the address of this replica, which must have exited.
    pub(crate) async fn start_again(&self, store: &Path, options: &[(&str, &str)]) -> Self {
        let address = self.address.to_string();
        Self::start(store, &[options, &[("listen", &address)]].concat()).await
    }

    pub(crate) async fn start_with_environment(
        store: &Path,
        options: &[(&str, &str)],
        environment: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(command_line(&sqlite(store), options)).envs(environment.iter().copied());
        Self::spawn(command).await
    }

    /// Starts the program with only its ports set, so that it uses the default store, which is below this directory.
    pub(crate) async fn start_without_store(data_directory: &Path) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"]).env("XDG_DATA_HOME", data_directory);
        Self::spawn(command).await
    }

    /// Starts the program so that [`TestProcess::limit_file_size`] makes its writes fail.
    pub(crate) async fn start_with_limited_files(store: &Path, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", IGNORE_FILE_SIZE_SIGNAL, PROGRAM]).args(command_line(&sqlite(store), options));
        Self::spawn(command).await
    }

    /// Starts the program with `limit` as the hard limit on open files, and half of that as the soft limit.
    pub(crate) async fn start_with_few_files(store: &Path, limit: u32, options: &[(&str, &str)]) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={}:{limit}", limit / 2)).arg(PROGRAM).args(command_line(&sqlite(store), options));
        Self::spawn(command).await
    }

    async fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program did not start");
        let log = Arc::new(Mutex::new(String::new()));
        let (ready, is_ready) = oneshot::channel();
        let follower = tokio::spawn(follow(child.stderr.take().expect("a piped log"), Arc::clone(&log), ready));
        let Ok(ready) = within("the program is ready", is_ready).await else {
            panic!("the program exited: {}", log.lock().unwrap_or_else(PoisonError::into_inner));
        };
        let address = |field: &str| {
            let url = ready[field].as_str().expect("an address");
            url.strip_prefix("http://").expect("a URL with http").parse().expect("an address")
        };
        Self {
            address: address("page"),
            ops_address: address("operations"),
            replica: ready["replica"].as_str().expect("an id").to_owned(),
            child,
            log,
            follower,
        }
    }

    /// Closes the read end of the log's pipe, as happens when a log collector exits.
    pub(crate) async fn close_log(&mut self) {
        self.follower.abort();
        let _ = (&mut self.follower).await;
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn id(&self) -> String {
        self.child.id().expect("the process had exited").to_string()
    }

    pub(crate) async fn signal(&self, name: &str) {
        run("kill", &[&format!("-{name}"), &self.id()]).await;
    }

    /// Limits the size in bytes of each file that the process writes; `unlimited` removes the limit.
    pub(crate) async fn limit_file_size(&self, limit: &str) {
        run("prlimit", &["--pid", &self.id(), &format!("--fsize={limit}:unlimited")]).await;
    }

    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("the process was not killed");
    }

    /// Waits for the process to exit by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("the process exits", self.child.wait()).await.expect("a status")
    }

    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().expect("a status").is_none()
    }
}

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

pub(crate) fn start_program(arguments: &[&str]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().expect("the program did not start")
}

pub(crate) async fn run_program(arguments: &[impl AsRef<OsStr>]) -> Output {
    run_program_with(arguments, &[]).await
}

pub(crate) async fn run_program_with(arguments: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Output {
    within("the program exits", output(arguments, environment)).await
}

pub(crate) async fn run_program_for(time: Duration, arguments: &[&str]) -> Output {
    let output = tokio::time::timeout(time + PATIENCE, output(arguments, &[])).await;
    output.expect("the program did not exit in time")
}

async fn output(arguments: &[impl AsRef<OsStr>], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).envs(environment.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    command.output().await.expect("the program did not start")
}

pub(crate) async fn run(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output().await.expect("the tool did not start");
    assert!(output.status.success(), "{tool} {arguments:?} failed: {}", String::from_utf8_lossy(&output.stderr));
}
