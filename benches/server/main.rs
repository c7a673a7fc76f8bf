//! The benchmark measures TheSmilingChat, a bare echo, plain inserts and alternatives side by side in one run.
//!
//! Absolute figures depend on the machine, so compare the ratios within one run.
//!
//! ```text
//! cargo bench                    # everything, about three minutes; writes the results under target/
//! cargo bench -- full            # everything, about twenty minutes; writes docs/RESULTS.md and its plots
//! cargo bench -- throughput      # one or more of the names below, with or without full; only prints the results
//! ```
//!
//! The measurements on SQLite are ready, memory, throughput, sustained, sessions, log and peers; those on MySQL are
//! replicas, replicas-sustained, latency, following, recovery and replicas-peers.
//!
//! The measurements on MySQL use the server at `TEST_MYSQL_URL`, or one that `scripts/mysql` starts. The CPU time of
//! MySQL is unknown if MySQL is remote or in a container. `BENCH_SERVER` names another server program to measure, such
//! as an older build. The alternatives (`peers` and `replicas-peers`) need Node with npm, and Python with venv.
#![expect(clippy::print_stdout, reason = "this program prints its figures")]
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "printed figures are rounded")]

mod client;
mod cpu;
mod echo;
mod following;
mod helper;
mod inserts;
mod latency;
mod load;
mod long_log;
mod memory;
mod metrics;
mod mysql;
mod peers;
mod pinning;
mod process;
mod ready;
mod recovery;
mod replicas;
mod report;
mod scale;
mod sessions;
mod sustained;
mod throughput;

use report::{Report, Store};
use scale::Scale;

fn main() {
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == load::ROLE) {
        return load::work();
    }
    let runtime = tokio::runtime::Runtime::new().expect("the runtime should start");
    runtime.block_on(async {
        match arguments.first().map(String::as_str) {
            Some(echo::ROLE) => echo::serve().await,
            Some(inserts::ROLE) => inserts::work().await,
            _ => measure(&arguments).await,
        }
    });
}

async fn measure(arguments: &[String]) {
    let full = arguments.iter().any(|argument| argument == "full");
    let scale = if full { Scale::FULL } else { Scale::QUICK };
    let names: Vec<&str> =
        arguments.iter().map(String::as_str).filter(|name| *name != "full" && !name.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    let mut report = Report::default();
    println!("{}", pinning::explained());
    on_sqlite(&scale, &mut report, wanted).await;
    on_mysql(&scale, &mut report, wanted).await;
    if names.is_empty() {
        report.write(full, &scale).await;
    }
}

async fn on_sqlite(scale: &Scale, report: &mut Report, wanted: impl Fn(&str) -> bool) {
    if wanted("ready") {
        ready::measure(report).await;
    }
    if wanted("memory") {
        memory::measure(report).await;
    }
    if wanted("throughput") {
        throughput::measure(scale, report).await;
    }
    if wanted("sustained") {
        sustained::on_sqlite(scale, report).await;
    }
    if wanted("sessions") {
        sessions::measure(scale, report).await;
    }
    if wanted("log") {
        long_log::measure(scale, report).await;
    }
    if wanted("peers") {
        peers::measure(Store::Sqlite, scale, report).await;
    }
}

async fn on_mysql(scale: &Scale, report: &mut Report, wanted: impl Fn(&str) -> bool) {
    if wanted("replicas") {
        replicas::measure(scale, report).await;
    }
    if wanted("replicas-sustained") {
        sustained::on_mysql(scale, report).await;
    }
    if wanted("latency") {
        latency::across_replicas(scale, report).await;
    }
    if wanted("following") {
        following::idle(scale, report).await;
    }
    if wanted("recovery") {
        recovery::after_a_kill(scale, report).await;
    }
    if wanted("replicas-peers") {
        peers::measure(Store::MySql, scale, report).await;
    }
}
