//! CPU time of servers, of helper processes and of MySQL.

use std::time::Instant;

use crate::mysql::MySql;
use crate::process::Server;

/// The CPU time of some processes and of MySQL since this value was created.
pub(crate) struct Processes {
    since: Instant,
    servers: Vec<(u32, f64)>,
    mysql: Option<(u32, f64)>,
}

impl Processes {
    pub(crate) fn of(servers: &[Server]) -> Self {
        Self::numbered(servers.iter().map(Server::number))
    }

    /// Starts to measure the processes with these ids, and MySQL if its process id is known.
    pub(crate) fn numbered(numbers: impl IntoIterator<Item = u32>) -> Self {
        let now = |number| (number, seconds(number));
        Self {
            since: Instant::now(),
            servers: numbers.into_iter().map(now).collect(),
            mysql: MySql::process().map(now),
        }
    }

    /// The CPU seconds that the processes have used, without MySQL.
    pub(crate) fn seconds(&self) -> f64 {
        self.servers.iter().map(|(number, before)| seconds(*number) - before).sum()
    }

    pub(crate) fn mysql_seconds(&self) -> Option<f64> {
        self.mysql.map(|(number, before)| seconds(number) - before)
    }

    /// The average CPU use, in cores, of the processes and of MySQL.
    pub(crate) fn cores(&self) -> (f64, Option<f64>) {
        let elapsed = self.since.elapsed().as_secs_f64();
        (self.seconds() / elapsed, self.mysql_seconds().map(|seconds| seconds / elapsed))
    }
}

/// User and system CPU seconds of a process and of the living descendants that [`children`] finds.
fn seconds(number: u32) -> f64 {
    own_seconds(number) + children(number).into_iter().map(seconds).sum::<f64>()
}

/// CPU seconds of a process without its children: the sum of fields 14 and 15 of `proc_pid_stat(5)`, which are in
/// hundredths of a second.
fn own_seconds(number: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let hundredths: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    hundredths as f64 / 100.0
}

/// The living child processes that the main thread of a process has started.
pub(crate) fn children(number: u32) -> Vec<u32> {
    let listed = std::fs::read_to_string(format!("/proc/{number}/task/{number}/children")).unwrap_or_default();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
