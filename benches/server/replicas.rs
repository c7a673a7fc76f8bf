//! One replica and several replicas on MySQL, measured alternately with plain inserts in batches of the same size. The
//! bare echo is measured first.
//!
//! No replica runs during the plain inserts: it would read their rows from the binary log, and slow them down. Each
//! round has a new database, because a replica appends small batches while it loads the ids of an existing log.

use std::slice::from_ref;

use crate::inserts::{self, Inserts};
use crate::load::{DEPTHS, Figures, Plan};
use crate::mysql::MySql;
use crate::pinning::Core;
use crate::process::{REPLICAS, Server};
use crate::report::{Bar, Report, Store, micros, millis, ratio, thousands};
use crate::scale::Scale;

const HEADER: [&str; 9] = [
    "replicas",
    "unanswered",
    "smiles/s",
    "CPU of the replicas",
    "CPU of MySQL",
    "ack p50, p99",
    "smiles per append",
    "plain insert, one connection",
    "plain insert, one connection per replica",
];

pub(crate) async fn measure(scale: &Scale, report: &mut Report) {
    echo(scale, report).await;
    let mut rows = Vec::new();
    for count in [1, REPLICAS] {
        for unanswered in DEPTHS {
            let (mut ours, mut alone, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..scale.rounds {
                let mysql = MySql::new().await;
                let replicas = Server::several_on(mysql.store(), count);
                let plan = Plan::smiles(&replicas, unanswered, scale.round).await;
                let smiles = plan.run(&replicas, Core::Any).await;
                drop(replicas);
                alone.push(inserts::on_mysql(mysql.store(), 1, &smiles, scale.round));
                at_once.push(inserts::on_mysql(mysql.store(), count, &smiles, scale.round));
                ours.push(smiles);
                mysql.remove().await;
            }
            let (ours, alone, at_once) = (Figures::median(&ours), Inserts::median(&alone), Inserts::median(&at_once));
            if count == 1 {
                let (rate, processor) =
                    (alone.smiles_per_second, alone.processor_micros + alone.mysql_micros.unwrap_or_default());
                report.bar(Store::MySql, Bar::new("plain MySQL insert", unanswered, rate, processor));
            }
            let name = if count == 1 { "TheSmilingChat, 1 replica" } else { "TheSmilingChat, 4 replicas" };
            report.bar(Store::MySql, Bar::new(name, unanswered, ours.per_second, ours.all_micros()));
            rows.push(row(count, unanswered, &ours, &alone, &at_once));
        }
    }
    report.table("replicas", &HEADER, rows);
}

/// Measures the bare echo without pinning, since the replicas are not pinned here either.
async fn echo(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    let echo = Server::echo(Core::Any);
    for unanswered in DEPTHS {
        let mut runs = Vec::new();
        for _ in 0..scale.rounds {
            runs.push(Plan::echoes(&echo, unanswered, scale.round).run(from_ref(&echo), Core::Any).await);
        }
        let Figures { per_second, processor_micros, .. } = Figures::median(&runs);
        report.bar(Store::MySql, Bar::new("bare echo", unanswered, per_second, processor_micros));
        rows.push(vec![unanswered.to_string(), thousands(per_second), micros(processor_micros)]);
    }
    report.table("shared_echo", &["unanswered", "echoes/s", "CPU of the server"], rows);
}

fn row(count: usize, unanswered: usize, ours: &Figures, alone: &Inserts, at_once: &Inserts) -> Vec<String> {
    let against = |inserts: &Inserts| {
        format!(
            "{} rows/s, {} smiles/s; we reach {} of its rate",
            thousands(inserts.rows_per_second),
            thousands(inserts.smiles_per_second),
            ratio(ours.per_second / inserts.smiles_per_second)
        )
    };
    vec![
        count.to_string(),
        unanswered.to_string(),
        thousands(ours.per_second),
        micros(ours.processor_micros),
        ours.mysql_micros.map_or("unknown".to_owned(), micros),
        format!("{}, {}", millis(ours.p50_millis), millis(ours.p99_millis)),
        format!("{:.0}", ours.batch),
        against(alone),
        against(at_once),
    ]
}
