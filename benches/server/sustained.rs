//! Sustained throughput: a long load, and the index lag at its end.

use std::slice::from_ref;

use crate::load::{DEPTHS, Figures, Plan};
use crate::mysql::MySql;
use crate::pinning::Core;
use crate::process::{REPLICAS, Server};
use crate::report::{Report, micros, millis, thousands};
use crate::scale::Scale;

/// The largest index lag, in smiles, at which a rate counts as sustained.
const BEHIND_AT_MOST: f64 = 50_000.0;

const HEADER: [&str; 8] = [
    "replicas",
    "unanswered",
    "smiles/s",
    "CPU of the server",
    "ack p50",
    "ack p99",
    "refused, never answered",
    "index lag",
];

pub(crate) async fn on_sqlite(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for unanswered in DEPTHS {
        let server = Server::on_sqlite(Core::Measured);
        let plan = Plan::smiles(from_ref(&server), unanswered, scale.sustained).await;
        let figures = plan.run(from_ref(&server), Core::Measuring).await;
        rows.push(row(1, unanswered, &figures));
    }
    report.table("sustained_sqlite", &HEADER, rows);
}

pub(crate) async fn on_mysql(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for count in [1, REPLICAS] {
        let mysql = MySql::new().await;
        let replicas = Server::several_on(mysql.store(), count);
        let plan = Plan::smiles(&replicas, DEPTHS[1], scale.sustained).await;
        let figures = plan.run(&replicas, Core::Any).await;
        rows.push(row(count, DEPTHS[1], &figures));
        drop(replicas);
        mysql.remove().await;
    }
    report.table("sustained_mysql", &HEADER, rows);
}

fn row(replicas: usize, unanswered: usize, figures: &Figures) -> Vec<String> {
    let behind = match figures.index_behind {
        None => "unknown: this server does not report it".to_owned(),
        Some(behind) if behind <= BEHIND_AT_MOST => format!("{} smiles: sustained", thousands(behind)),
        Some(behind) => format!("{} smiles: **not sustained**", thousands(behind)),
    };
    vec![
        replicas.to_string(),
        unanswered.to_string(),
        thousands(figures.per_second),
        micros(figures.processor_micros),
        millis(figures.p50_millis),
        millis(figures.p99_millis),
        format!("{}, {}", thousands(figures.refused), thousands(figures.unanswered)),
        behind,
    ]
}
