//! One replica on SQLite, measured alternately with the bare echo and with plain inserts in batches of the same size.

use std::slice::from_ref;

use crate::inserts::{self, Inserts};
use crate::load::{DEPTHS, Figures, Plan};
use crate::pinning::Core;
use crate::process::Server;
use crate::report::{Bar, Report, Store, micros, millis, ratio, thousands};
use crate::scale::Scale;

/// The medians of all rounds.
pub(crate) struct Compared {
    pub(crate) echo: Figures,
    pub(crate) ours: Figures,
    pub(crate) inserts: Inserts,
}

pub(crate) async fn measure(scale: &Scale, report: &mut Report) {
    let mut rows = Vec::new();
    for unanswered in DEPTHS {
        let ours = Server::on_sqlite(Core::Measured);
        let compared = compare(&ours, unanswered, scale).await;
        let Compared { echo, ours, inserts } = compared;
        report.bar(Store::Sqlite, Bar::new("bare echo", unanswered, echo.per_second, echo.processor_micros));
        report.bar(
            Store::Sqlite,
            Bar::new("plain SQLite insert", unanswered, inserts.smiles_per_second, inserts.processor_micros),
        );
        report.bar(Store::Sqlite, Bar::new("TheSmilingChat", unanswered, ours.per_second, ours.processor_micros));
        rows.extend(compared.rows(&unanswered.to_string()));
    }
    report.table("throughput", &HEADER, rows);
}

pub(crate) const HEADER: [&str; 7] = [
    "unanswered",
    "what",
    "per second",
    "CPU of the server",
    "busy: server, load",
    "answer p50, p99",
    "compared with ours",
];

pub(crate) async fn compare(server: &Server, unanswered: usize, scale: &Scale) -> Compared {
    let echo = Server::echo(Core::Measured);
    let echoing = Plan::echoes(&echo, unanswered, scale.round);
    let smiling = Plan::smiles(from_ref(server), unanswered, scale.round).await;
    let (mut echoes, mut ours, mut inserts) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.rounds {
        echoes.push(echoing.run(from_ref(&echo), Core::Measuring).await);
        let smiles = smiling.run(from_ref(server), Core::Measuring).await;
        inserts.push(inserts::on_sqlite(&server.store, &smiles, scale.round));
        ours.push(smiles);
    }
    Compared { echo: Figures::median(&echoes), ours: Figures::median(&ours), inserts: Inserts::median(&inserts) }
}

impl Compared {
    pub(crate) fn rows(&self, unanswered: &str) -> [Vec<String>; 3] {
        let Self { echo, ours, inserts } = self;
        let row = |what: String, cells: [String; 5]| [unanswered.to_owned(), what].into_iter().chain(cells).collect();
        let served = |figures: &Figures, beside: String| {
            [
                thousands(figures.per_second),
                micros(figures.processor_micros),
                format!("{}, {}", ratio(figures.busy()), ratio(figures.load_busy)),
                format!("{}, {}", millis(figures.p50_millis), millis(figures.p99_millis)),
                beside,
            ]
        };
        let beside_echo = format!(
            "we reach {} of its rate; it takes {} of our CPU",
            ratio(ours.per_second / echo.per_second),
            ratio(echo.processor_micros / ours.processor_micros)
        );
        let inserted = [
            format!("{} rows, {} smiles", thousands(inserts.rows_per_second), thousands(inserts.smiles_per_second)),
            micros(inserts.processor_micros),
            String::new(),
            String::new(),
            format!("we reach {} of its smiles", ratio(ours.per_second / inserts.smiles_per_second)),
        ];
        [
            row("bare echo".to_owned(), served(echo, beside_echo)),
            row(
                format!("plain insert of {:.0} smiles in {} bytes", ours.batch, thousands(inserts.bytes as f64)),
                inserted,
            ),
            row("TheSmilingChat".to_owned(), served(ours, String::new())),
        ]
    }
}
