//! The real program as a process of its own, on a store that outlives it.
//!
//! Owns the child; it never outlives the test.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, Command};

use super::within;

/// A replica that runs as a process.
pub(crate) struct ServerProcess {
    /// Where the page, the API and `/ws` are.
    pub(crate) address: SocketAddr,
    child: Child,
}

impl ServerProcess {
    /// Starts the program on any free port with the default options, and waits until it says that it is ready.
    pub(crate) async fn start(store: &Path) -> Self {
        Self::start_at(store, ([127, 0, 0, 1], 0).into()).await
    }

    /// The same at this address, where one ran before.
    pub(crate) async fn start_at(store: &Path, address: SocketAddr) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_smilingchat"))
            .arg(format!("--store=sqlite:{}", store.display()))
            .arg(format!("--listen={address}"))
            .args(["--ops-listen=127.0.0.1:0", "--replica=test"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
        let address = within("the program is ready", address_when_ready(&mut log)).await;
        // Whoever does not read the log would stop a program that writes one.
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { address, child }
    }

    /// How it ends by itself.
    pub(crate) async fn exit(&mut self) -> ExitStatus {
        within("the process ends", self.child.wait()).await.expect("a status")
    }
}

async fn address_when_ready(log: &mut Lines<BufReader<ChildStderr>>) -> SocketAddr {
    let mut seen = String::new();
    while let Ok(Some(line)) = log.next_line().await {
        if let Ok(entry) = serde_json::from_str::<Value>(&line)
            && entry["message"] == "ready"
        {
            let page = entry["page"].as_str().and_then(|page| page.strip_prefix("http://")).expect("an address");
            return page.parse().expect("an address");
        }
        seen = seen + &line + "\n";
    }
    panic!("the program ended: {seen}");
}
