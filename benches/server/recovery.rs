//! Recovery after `kill -9` of a replica, as the simulator reports it: the time from the loss of a session's connection
//! to the first answer in the session that replaces it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::metrics::sessions;
use crate::mysql::MySql;
use crate::process::{Server, program};
use crate::report::Report;
use crate::scale::Scale;

/// Smiles per second over all conversations. There are few users, so every smile goes to many sessions.
const SMILES: f64 = 25.0;

const SECONDS: &str = "20";

/// Time limit for the simulator to open all sessions.
const OPENING: Duration = Duration::from_mins(1);

/// Kills one of two replicas during each run of the simulator.
pub(crate) async fn after_a_kill(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for _ in 0..scale.rounds {
        let mysql = MySql::new().await;
        let mut replicas = Server::several_on(mysql.store(), 2);
        let urls: Vec<String> = replicas.iter().map(|replica| format!("ws://{}/ws", replica.address)).collect();
        let mut simulator = Command::new(program());
        simulator.args(["simulate", "--json", "--url", &urls.join(","), "--duration", SECONDS]);
        let rate = SMILES / scale.conversations as f64;
        simulator.args(["--conversations", &scale.conversations.to_string(), "--rate", &rate.to_string()]);
        simulator.stdout(Stdio::piped()).stderr(Stdio::null());
        let simulator = simulator.spawn().expect("the simulator did not start");
        let opening = Instant::now();
        let sessions = loop {
            let [here, there] = [sessions(&replicas[0]).await, sessions(&replicas[1]).await];
            if here + there == 2 * scale.conversations {
                break there;
            }
            assert!(opening.elapsed() < OPENING, "only {} of the simulator's sessions opened", here + there);
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        replicas[1].kill();
        let done = tokio::task::spawn_blocking(|| simulator.wait_with_output()).await.expect("the wait panicked");
        let text = String::from_utf8(done.expect("the simulator's output could not be read").stdout)
            .expect("the simulator's output should be UTF-8");
        let report_of: serde_json::Value = serde_json::from_str(&text).expect("the simulator's report should be JSON");
        let recovery = &report_of["recovery_ms"];
        assert_eq!(report_of["clean"], true, "the run was not proven clean: {text}");
        assert!(recovery["count"].as_u64() >= Some(sessions as u64), "a lost session did not recover: {text}");
        let ledger = |name: &str| report_of[name].to_string();
        rows.push(vec![
            sessions.to_string(),
            ledger("reconnects"),
            format!("{}, {}, {}", recovery["p50"], recovery["p99"], recovery["max"]),
            ledger("sent"),
            format!("{}, {}, {}", ledger("lost"), ledger("duplicated"), ledger("reordered")),
        ]);
        drop(replicas);
        mysql.remove().await;
    }
    let header =
        ["sessions lost", "reconnects", "recovery in ms: p50, p99, longest", "smiles", "lost, duplicated, reordered"];
    report.table("recovery", &header, rows);
}
