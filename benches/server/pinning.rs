//! Which processor a process runs on: what is measured has one for itself, and what measures it has another.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

/// Where a process runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Core {
    /// On the processor of what is measured.
    Measured,
    /// On the processor of what measures.
    Measuring,
    /// Wherever there is room. With a MySQL of its own in the picture, two processors are shared by all.
    Any,
}

/// Whether `taskset` is there and this process may use both processors.
static POSSIBLE: LazyLock<bool> = LazyLock::new(|| {
    ["0", "1"].iter().all(|processor| {
        let mut trial = Command::new("taskset");
        trial.args(["-c", processor, "true"]).stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    })
});

/// One line about it for people.
pub(crate) fn explained() -> &'static str {
    if *POSSIBLE {
        "On SQLite, what is measured runs on processor 0 and the load on processor 1."
    } else {
        "Nothing is pinned to a processor: `taskset` is missing, or there is but one. Processor time is what to compare."
    }
}

/// A command that runs this program there.
pub(crate) fn command(program: impl AsRef<OsStr>, core: Core) -> Command {
    let processor = match core {
        Core::Measured if *POSSIBLE => "0",
        Core::Measuring if *POSSIBLE => "1",
        _ => return Command::new(program),
    };
    let mut command = Command::new("taskset");
    command.args(["-c", processor]).arg(program);
    command
}
