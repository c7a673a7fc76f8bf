//! From `kill -9` of a replica to the resumption of its sessions on another, with the simulator's exact ledger.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::client::get;
use crate::mysql::MySql;
use crate::process::Server;

/// Two users each. They are spread over two replicas, so half of the sessions lose theirs.
const CONVERSATIONS: &str = "1000";

/// Smiles per second and conversation. Users are few and sessions many, so every smile goes to dozens of sessions.
const RATE: &str = "0.1";

const SECONDS: &str = "20";

const ROUNDS: usize = 3;

/// Kills one of two replicas in the middle of a run.
pub(crate) async fn after_a_kill() {
    for round in 1..=ROUNDS {
        let mysql = MySql::new().await;
        let mut replicas = Server::several_on(mysql.store(), 2);
        let urls: Vec<String> = replicas.iter().map(|replica| format!("ws://{}/ws", replica.address)).collect();
        let mut simulator = Command::new(env!("CARGO_BIN_EXE_smilingchat"));
        simulator.args(["simulate", "--json", "--url", &urls.join(","), "--conversations", CONVERSATIONS]);
        simulator.args(["--rate", RATE, "--duration", SECONDS]).stdout(Stdio::piped()).stderr(Stdio::null());
        let simulator = simulator.spawn().expect("the simulator starts");
        let sessions = loop {
            let [here, there] = [sessions(&replicas[0]).await, sessions(&replicas[1]).await];
            if here + there == 2 * CONVERSATIONS.parse::<usize>().expect("a number") {
                break there;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        replicas[1].kill();
        let done = tokio::task::spawn_blocking(|| simulator.wait_with_output()).await.expect("it is waited for");
        let report = String::from_utf8(done.expect("the simulator ends").stdout).expect("text");
        let report: serde_json::Value = serde_json::from_str(&report).expect("a report");
        println!(
            "recovery {round}: {sessions} sessions on the replica that was killed: {} reconnects, recovery_ms {}; sent {}, lost {}, duplicated {}, reordered {}",
            report["reconnects"],
            report["recovery_ms"],
            report["sent"],
            report["lost"],
            report["duplicated"],
            report["reordered"],
        );
    }
}

/// How many sessions are open on a replica.
async fn sessions(replica: &Server) -> usize {
    let answer = get(replica.operations, "/metrics").await;
    let line = answer.lines().find(|line| line.starts_with("smilingchat_sessions ")).expect("its gauge");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
