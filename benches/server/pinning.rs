//! CPU pinning: in measurements on SQLite, the measured process and the load each get a CPU of their own, if pinning is
//! possible. The measurement `ready` pins no process.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Core {
    /// The CPU of the measured process, if pinning is possible.
    Measured,
    /// The CPU of the load, if pinning is possible.
    Measuring,
    /// Any CPU: for measurements on MySQL, where all processes share the CPUs, for the measurement `ready`, and for
    /// servers that are not measured.
    Any,
}

/// Whether `taskset` exists and can run a process on CPU 0 and on CPU 1.
static POSSIBLE: LazyLock<bool> = LazyLock::new(|| {
    ["0", "1"].iter().all(|processor| {
        let mut trial = Command::new("taskset");
        trial.args(["-c", processor, "true"]).stdout(Stdio::null()).stderr(Stdio::null());
        trial.status().is_ok_and(|status| status.success())
    })
});

pub(crate) fn explained() -> &'static str {
    if *POSSIBLE {
        "On SQLite, the server runs on processor 0 and the load on processor 1, except where the text says otherwise."
    } else {
        "No process is pinned: `taskset` is missing, or cannot use processors 0 and 1. Compare CPU times, not rates."
    }
}

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
