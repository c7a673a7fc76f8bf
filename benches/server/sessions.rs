//! The cost of many sessions on one replica. The sessions share at most 64 users, so in the runs with many sessions,
//! every smile goes to many sessions.

use std::slice::from_ref;

use crate::load::{Figures, Plan};
use crate::pinning::Core;
use crate::process::Server;
use crate::report::{Report, micros, millis, thousands};
use crate::scale::Scale;

const HEADER: [&str; 8] = [
    "sessions",
    "smiles/s",
    "frames/s",
    "CPU of the server per frame",
    "ack p50",
    "ack p99",
    "sessions per smile",
    "smiles per append",
];

/// All sessions listen, and at most 100 of them send.
pub(crate) async fn measure(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for &sessions in scale.sessions {
        let server = Server::on_sqlite(Core::Measured);
        let plan = Plan::smiles(from_ref(&server), 1, scale.round).await.with_sessions(sessions);
        let mut runs = Vec::new();
        for _ in 0..scale.rounds {
            runs.push(plan.run(from_ref(&server), Core::Measuring).await);
        }
        let figures = Figures::median(&runs);
        let frames = figures.per_second + figures.delivered_per_second;
        rows.push(vec![
            thousands(sessions as f64),
            thousands(figures.per_second),
            thousands(frames),
            micros(figures.processor_micros * figures.per_second / frames),
            millis(figures.p50_millis),
            millis(figures.p99_millis),
            format!("{:.1}", frames / figures.per_second),
            format!("{:.1}", figures.batch),
        ]);
    }
    report.table("sessions", &HEADER, rows);
}
