//! Shows the progress of a run on standard error: one changing line on a terminal, plain lines otherwise.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{Fault, Ledger};

const ON_TERMINAL: Duration = Duration::from_millis(250);
const IN_LINES: Duration = Duration::from_secs(1);

/// The progress display.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    shown_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Terminal,
    Lines,
    Silent,
}

impl Progress {
    /// A display in the style that suits standard error.
    pub fn on_standard_error() -> Self {
        let style = if std::io::stderr().is_terminal() { Style::Terminal } else { Style::Lines };
        Self { style, shown_at: None }
    }

    /// A display that shows nothing.
    pub fn silent() -> Self {
        Self { style: Style::Silent, shown_at: None }
    }

    /// Prints a text on a line of its own, unless the display is silent.
    pub fn say(&self, text: &str) {
        // A closed standard error must not end the run.
        let _ = match self.style {
            Style::Terminal => writeln!(std::io::stderr(), "\r\x1b[2K{text}"),
            Style::Lines => writeln!(std::io::stderr(), "{text}"),
            Style::Silent => Ok(()),
        };
    }

    /// Shows the progress of the run, at most every 250 ms on a terminal and once a second otherwise.
    pub fn show(&mut self, stage: &str, elapsed: Duration, ledger: &Ledger) {
        let every = if self.style == Style::Terminal { ON_TERMINAL } else { IN_LINES };
        if self.style == Style::Silent || self.shown_at.is_some_and(|shown_at| shown_at.elapsed() < every) {
            return;
        }
        self.shown_at = Some(Instant::now());
        let line = line(stage, elapsed, ledger);
        let mut stderr = std::io::stderr();
        // Turns off wrapping for this line, so that a narrow terminal truncates it: a wrapped line could not be
        // overwritten.
        let _ = match self.style {
            Style::Terminal => write!(stderr, "\r\x1b[2K\x1b[?7l{line}\x1b[?7h").and_then(|()| stderr.flush()),
            Style::Lines | Style::Silent => writeln!(stderr, "{line}"),
        };
    }

    /// Clears the changing line of a terminal.
    pub fn finish(&self) {
        if self.style == Style::Terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K");
        }
    }
}

fn line(stage: &str, elapsed: Duration, ledger: &Ledger) -> String {
    let (counts, faults) = (ledger.counts(), ledger.faults());
    let refused: u64 = counts.errors.values().sum();
    let mut line = format!(
        "{stage} {:.0}s: {} live, sent {}, acked {}, delivered {}, open {}",
        elapsed.as_secs_f64(),
        ledger.live(),
        counts.sent,
        counts.acked,
        counts.delivered,
        ledger.open()
    );
    let rest = [
        ("refused", refused),
        ("reconnects", counts.reconnects),
        ("DUPLICATED", faults.count(Fault::Duplicated)),
        ("REORDERED", faults.count(Fault::Reordered)),
    ];
    for (name, count) in rest.into_iter().filter(|&(_, count)| count > 0) {
        line += ", ";
        line += name;
        line += " ";
        line += &count.to_string();
    }
    line
}
