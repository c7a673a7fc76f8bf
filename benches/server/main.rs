//! The benchmark: one replica against a bare echo, many replicas against bare inserts into the same MySQL.
//!
//! Figures of one machine and one moment mean little, so what matters is given as a ratio taken in the same run.
//!
//! ```text
//! cargo bench                    # everything
//! cargo bench -- throughput      # or any of: ready, throughput, memory; latency, inserts, following, recovery
//! ```
//!
//! Those after the semicolon need a MySQL: the one that `TEST_MYSQL_URL` names, or else one that `scripts/mysql` starts.
//! Processor time of MySQL is told of the latter only.
#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index made of a share")]

mod client;
mod closed_loop;
mod following;
mod inserts;
mod latency;
mod mysql;
mod one;
mod process;
mod recovery;

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == process::ECHO) {
        return one::echo().await;
    }
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let wanted = |name: &str| {
        let names: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
        names.is_empty() || names.iter().any(|argument| *argument == name)
    };
    if wanted("ready") {
        one::time_to_ready().await;
    }
    if wanted("throughput") {
        one::throughput().await;
    }
    if wanted("memory") {
        one::memory().await;
    }
    if wanted("latency") {
        latency::across_replicas().await;
    }
    if wanted("inserts") {
        inserts::share().await;
    }
    if wanted("following") {
        following::idle().await;
    }
    if wanted("recovery") {
        recovery::after_a_kill().await;
    }
}
