//! The throughput and the start-up time of a server with a long log.

use std::slice::from_ref;
use std::time::Instant;

use crate::client::{field, get};
use crate::load::{DEPTHS, Plan};
use crate::pinning::Core;
use crate::process::{Server, folder};
use crate::report::{Report, thousands};
use crate::scale::Scale;
use crate::throughput::{HEADER, compare};

/// Unanswered smiles per session while the log is filled.
const UNANSWERED: usize = 64;

/// Fills the log through the protocol, measures the throughput, kills the server and measures the next start.
pub(crate) async fn measure(scale: &Scale, report: &mut Report) {
    let folder = folder();
    let file = folder.path().join("long.db");
    let store = format!("sqlite:{}", file.display());
    let server = Server::on(&store, &[], Core::Measured);
    let filling = fill(&server, scale).await;
    let mut rows = Vec::new();
    for unanswered in DEPTHS {
        rows.extend(compare(&server, unanswered, scale).await.rows(&unanswered.to_string()));
    }
    report.table("long_log", &HEADER, rows);
    let smiles = head(&server).await;
    drop(server);
    let size = |suffix| std::fs::metadata(format!("{}{suffix}", file.display())).map_or(0, |metadata| metadata.len());
    let bytes = size("") + size("-wal");
    let began = Instant::now();
    let _server = Server::on(&store, &[], Core::Measured);
    let ready = began.elapsed();
    report.fact("long_log_smiles", thousands(smiles as f64));
    report.fact("long_log_filling", filling);
    report.fact("long_log_bytes", format!("{:.0}", bytes as f64 / smiles as f64));
    report.fact("long_log_ready", format!("{:.0} ms", ready.as_secs_f64() * 1e3));
}

/// Returns a summary: the duration, including the pauses between the runs of the load, the rate, and the number of
/// refusals.
async fn fill(server: &Server, scale: &Scale) -> String {
    let began = Instant::now();
    let plan = Plan::smiles(from_ref(server), UNANSWERED, scale.sustained).await;
    let mut refused = 0.0;
    while head(server).await < scale.long_log {
        let figures = plan.run(from_ref(server), Core::Measuring).await;
        refused += figures.refused;
        let behind = figures.index_behind.map_or("unknown".to_owned(), thousands);
        println!("long log: {} smiles/s, index lag: {behind}", thousands(figures.per_second));
    }
    let (seconds, smiles) = (began.elapsed().as_secs_f64(), head(server).await as f64);
    format!("{seconds:.0} s, {} smiles/s, {} refusals", thousands(smiles / seconds), thousands(refused))
}

/// The number of smiles in the log.
async fn head(server: &Server) -> u64 {
    let answer = get(server.address, "/api/replicas").await;
    field(&answer, "head")
        .and_then(|head| head.parse().ok())
        .expect("the list of replicas should name the head of the log")
}
