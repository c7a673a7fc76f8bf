//! The report: tables on the console and, for a run of all measurements, a document with plots. After a full run, the
//! document is docs/RESULTS.md.

mod machine;
mod plot;

use std::collections::BTreeMap;
use std::path::Path;

use crate::mysql::MySql;
use crate::process;
use crate::scale::Scale;
pub(crate) use plot::Bar;

/// The template. `{{name}}` becomes a fact or a table, or `not measured`.
const TEMPLATE: &str = include_str!("report/results.md");

const DOCUMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs");

const DRAFTS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/results");

/// The markers around the handwritten part, which each new document takes over from docs/RESULTS.md.
const BY_HAND: [&str; 2] = ["<!-- by hand: what falls short -->", "<!-- end of what is by hand -->"];

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Store {
    /// SQLite: the measured process has a CPU of its own, if processes can be pinned.
    Sqlite,
    /// MySQL: all processes share the CPUs.
    MySql,
}

/// The figures by their names in the template, and the bars of the plots.
#[derive(Default)]
pub(crate) struct Report {
    figures: BTreeMap<String, String>,
    bars: BTreeMap<Store, Vec<Bar>>,
}

impl Report {
    pub(crate) fn fact(&mut self, name: &str, value: String) {
        println!("{name}: {value}");
        self.figures.insert(name.to_owned(), value);
    }

    pub(crate) fn table(&mut self, name: &str, header: &[&str], rows: Vec<Vec<String>>) {
        let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
        let mut table = line(header.to_vec()) + &line(vec!["---"; header.len()]);
        for row in rows {
            table += &line(row.iter().map(String::as_str).collect());
        }
        println!("{name}:\n{table}");
        self.figures.insert(name.to_owned(), table.trim_end().to_owned());
    }

    pub(crate) fn bar(&mut self, store: Store, bar: Bar) {
        self.bars.entry(store).or_default().push(bar);
    }

    /// Writes the document and its plots: in `docs/` after a full run, otherwise as drafts under `target/`.
    pub(crate) async fn write(mut self, full: bool, scale: &Scale) {
        self.figures.extend(machine::facts().await);
        self.figures
            .insert("command".to_owned(), (if full { "cargo bench -- full" } else { "cargo bench" }).to_owned());
        self.figures.insert("program".to_owned(), process::described().to_owned());
        self.figures.insert("rounds".to_owned(), scale.rounds.to_string());
        self.figures.insert("sustained".to_owned(), format!("{} s", scale.sustained.as_secs()));
        let folder = Path::new(if full { DOCUMENTS } else { DRAFTS });
        std::fs::create_dir_all(folder).expect("the folder for the results should be created");
        let kept = std::fs::read_to_string(Path::new(DOCUMENTS).join("RESULTS.md")).unwrap_or_default();
        std::fs::write(folder.join("RESULTS.md"), self.document(&kept)).expect("the results should be written");
        let with_mysql = if MySql::process().is_some() { "MySQL included" } else { "without MySQL" };
        for (store, title, times_of, file) in [
            (Store::Sqlite, "One replica on SQLite", "database included", "results-sqlite.svg"),
            (Store::MySql, "Replicas on MySQL", with_mysql, "results-mysql.svg"),
        ] {
            let bars = self.bars.remove(&store).unwrap_or_default();
            svg::save(folder.join(file), &plot::draw(title, times_of, &bars)).expect("the plot should be written");
        }
        println!("written: {}", folder.join("RESULTS.md").display());
    }

    /// Fills the template with all figures, and with the handwritten part of the previous document, `so_far`, if that
    /// document has one.
    fn document(&self, so_far: &str) -> String {
        let mut document = String::new();
        let mut rest = TEMPLATE;
        while let Some((before, after)) = rest.split_once("{{") {
            let (name, after) = after.split_once("}}").expect("every `{{` in the template should have a `}}`");
            document += before;
            document += self.figures.get(name).map_or("not measured", String::as_str);
            rest = after;
        }
        document += rest;
        match (by_hand(so_far), by_hand(&document)) {
            (Some(kept), Some(default)) => document.replacen(default, kept, 1),
            _ => document,
        }
    }
}

fn by_hand(document: &str) -> Option<&str> {
    Some(document.split_once(BY_HAND[0])?.1.split_once(BY_HAND[1])?.0)
}

/// Formats a number rounded to an integer, with commas as thousands separators.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

pub(crate) fn micros(value: f64) -> String {
    format!("{value:.1} µs")
}

pub(crate) fn millis(value: f64) -> String {
    format!("{value:.2} ms")
}

pub(crate) fn ratio(value: f64) -> String {
    format!("{value:.2}")
}

/// Formats a share of one CPU.
pub(crate) fn share(value: f64) -> String {
    format!("{value:.3}")
}
