//! The load: sessions in a closed loop. Each session that sends keeps a fixed number of smiles unanswered. The load
//! runs as a separate process; in measurements on SQLite it has a CPU of its own, if processes can be pinned.

mod dialect;
mod frames;
mod polling;
mod session;
mod tally;
mod worker;

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use dialect::Dialect;
pub(crate) use worker::{ROLE, work};

use crate::client::users;
use crate::cpu::Processes;
use crate::helper::Helper;
use crate::metrics;
use crate::pinning::Core;
use crate::process::Server;
use tally::Outcome;

/// The default number of sessions.
pub(crate) const SESSIONS: usize = 100;

/// Unanswered smiles per session: one, and the maximum that this crate's client allows.
pub(crate) const DEPTHS: [usize; 2] = [1, 16];

#[derive(Clone, Deserialize, Serialize)]
pub(crate) struct Plan {
    pub(crate) dialect: Dialect,
    /// The addresses of the servers. Consecutive sessions go to consecutive servers.
    pub(crate) addresses: Vec<SocketAddr>,
    /// If there are more sessions than users, several sessions share a user.
    pub(crate) users: Vec<String>,
    pub(crate) sessions: usize,
    /// The number of sessions that send; the other sessions only listen. With [`Dialect::Polling`], all sessions send.
    pub(crate) senders: usize,
    /// Unanswered smiles per sender; 1 with [`Dialect::Polling`], whatever this value is.
    pub(crate) unanswered: usize,
    /// For how long smiles are sent.
    pub(crate) duration: Duration,
}

impl Plan {
    pub(crate) async fn smiles(servers: &[Server], unanswered: usize, duration: Duration) -> Self {
        Self::new(Dialect::Smiles, servers, users(servers[0].address).await, unanswered, duration)
    }

    pub(crate) fn echoes(echo: &Server, unanswered: usize, duration: Duration) -> Self {
        let users = vec!["anna".to_owned(), "bruno".to_owned()];
        Self::new(Dialect::Echo, std::slice::from_ref(echo), users, unanswered, duration)
    }

    /// A plan with the default number of sessions, all of which send.
    pub(crate) fn new(
        dialect: Dialect,
        servers: &[Server],
        users: Vec<String>,
        unanswered: usize,
        duration: Duration,
    ) -> Self {
        let addresses = servers.iter().map(|server| server.address).collect();
        Self { dialect, addresses, users, sessions: SESSIONS, senders: SESSIONS, unanswered, duration }
    }

    /// At most [`SESSIONS`] of the sessions send.
    pub(crate) fn with_sessions(self, sessions: usize) -> Self {
        Self { sessions, senders: sessions.min(SESSIONS), ..self }
    }

    pub(crate) async fn run(&self, servers: &[Server], core: Core) -> Figures {
        let mut helper = Helper::start(ROLE, core, self);
        let before = metrics::appends(servers).await;
        let (processes, load) = (Processes::of(servers), Processes::numbered([helper.process()]));
        let outcome: Outcome = helper.work();
        let load_busy = load.cores().0;
        let index_behind = metrics::index_behind(servers).await;
        // Deferred indexing is part of the cost of a smile.
        metrics::index_settled(servers).await;
        let (seconds, mysql_seconds) = (processes.seconds(), processes.mysql_seconds());
        let after = metrics::appends(servers).await;
        let micros = |seconds: f64| seconds * 1e6 / outcome.answers as f64;
        Figures {
            per_second: outcome.answers as f64 / outcome.seconds,
            delivered_per_second: outcome.delivered as f64 / outcome.seconds,
            processor_micros: micros(seconds),
            load_busy,
            index_behind,
            mysql_micros: mysql_seconds.map(micros),
            p50_millis: outcome.p50_millis,
            p99_millis: outcome.p99_millis,
            batch: (after.1 - before.1) / (after.0 - before.0),
            refused: outcome.refused as f64,
            unanswered: (outcome.sent - outcome.answers - outcome.refused) as f64,
        }
    }
}

/// The figures of one run of the load, or the medians of the figures of several runs.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    /// Answers per second: acks, or echoes.
    pub(crate) per_second: f64,
    /// Smiles per second delivered to sessions, not counting acks.
    pub(crate) delivered_per_second: f64,
    /// CPU time of the servers per answer, measured until their index has caught up or makes no more progress.
    pub(crate) processor_micros: f64,
    /// The share of one CPU that the load uses. The load has one thread; if its share is near 1, it is the bottleneck.
    pub(crate) load_busy: f64,
    /// The index lag in smiles when the load ends, if the servers report it. For several runs, the maximum.
    pub(crate) index_behind: Option<f64>,
    /// CPU time of MySQL per answer, if known.
    pub(crate) mysql_micros: Option<f64>,
    /// Median latency from a smile to its ack or echo.
    pub(crate) p50_millis: f64,
    /// 99th percentile of the latency from a smile to its ack or echo.
    pub(crate) p99_millis: f64,
    /// Smiles per append; NaN for servers that report no appends.
    pub(crate) batch: f64,
    /// Smiles that a server refused temporarily.
    pub(crate) refused: f64,
    /// Smiles that were neither answered nor refused.
    pub(crate) unanswered: f64,
}

impl Figures {
    pub(crate) fn all_micros(&self) -> f64 {
        self.processor_micros + self.mysql_micros.unwrap_or_default()
    }

    /// The share of one CPU that the servers use, as if the deferred indexing ended together with the load.
    pub(crate) fn busy(&self) -> f64 {
        self.processor_micros * self.per_second / 1e6
    }

    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            per_second: of(|run| run.per_second),
            delivered_per_second: of(|run| run.delivered_per_second),
            processor_micros: of(|run| run.processor_micros),
            load_busy: of(|run| run.load_busy),
            index_behind: runs.iter().filter_map(|run| run.index_behind).reduce(f64::max),
            mysql_micros: runs[0].mysql_micros.map(|_| of(|run| run.mysql_micros.unwrap_or(f64::NAN))),
            p50_millis: of(|run| run.p50_millis),
            p99_millis: of(|run| run.p99_millis),
            batch: of(|run| run.batch),
            refused: of(|run| run.refused),
            unanswered: of(|run| run.unanswered),
        }
    }
}

/// The median; the greater of the two middle values if there is an even number of values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
