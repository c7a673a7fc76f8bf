//! What operators see: logs through `tracing`, numbers through `prometheus`.
//!
//! Owns the set-up of both and the name of every metric; it is the only home of `prometheus` and
//! `tracing_subscriber`. Must not know what the numbers mean to anybody: others count, this keeps.
//!
//! There is no global registry: each server has its own [`Metrics`], so that several can live in one process.

use std::fmt::Display;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use strum::VariantArray;
use tracing_subscriber::EnvFilter;

use crate::protocol::{CloseReason, ErrorCode};

/// From a tenth of a millisecond, a commit on a fast disk, to ten seconds, a write that is given up.
const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How well-behaved clients close: normal, going away, without a code (RFC 6455, section 7.4.1).
const CLIENT_CLOSES: [u16; 3] = [1000, 1001, 1005];

/// The label of all other codes that clients close with.
const OTHER_CLOSES: &str = "other";

/// The label of connections that broke without a close.
const NO_CLOSE: &str = "0";

/// From one line about a store that did not answer a client to the next.
const BETWEEN_STORE_FAILURES: Duration = Duration::from_mins(1);

/// Starts logging to standard error: for people on a terminal, JSON otherwise. `RUST_LOG` filters; default `info`.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        subscriber.with_target(false).init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
}

/// Every number this server keeps.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions: IntGauge,
    /// Sessions opened, by whether they resumed: `fresh`, `recovered`, `not_recovered`.
    pub sessions_opened: IntCounterVec,
    /// Sessions closed, by close code; `0` where the connection broke without one, `other` for a client's odd ones.
    pub closes: IntCounterVec,
    /// Sessions that were told to go to an emptier replica.
    pub sessions_handed_over: IntCounter,
    /// Refused frames and requests, by code.
    pub errors: IntCounterVec,
    /// Smiles stored through this replica.
    pub smiles_stored: IntCounter,
    /// Smiles that were sent again and stored before.
    pub smiles_duplicate: IntCounter,
    /// Smiles of the log that the tail published here.
    pub smiles_published: IntCounter,
    /// Smiles that a session read from the log because it resumed or had lagged.
    pub smiles_caught_up: IntCounter,
    /// Times a session's outbox was full.
    pub lagged: IntCounter,
    /// Seconds from a frame to its ack, both at this server.
    pub ack_seconds: Histogram,
    /// Seconds from a frame to its delivery to another session of this server.
    pub delivery_seconds: Histogram,
    /// Seconds one append took, commit included.
    pub append_seconds: Histogram,
    /// Smiles in one append.
    pub append_smiles: Histogram,
    /// Smiles removed by retention.
    pub smiles_trimmed: IntCounter,
    /// Smiles of the log that the index does not have yet.
    pub index_behind: IntGauge,
    /// Whether this replica is ready: 1 or 0.
    pub ready: IntGauge,
    /// Whether the binary log tells this replica of what others append: 1, or 0 where it reads the log itself.
    pub following_binlog: IntGauge,
    /// When it was last said that the store did not answer a client.
    store_failure_said_at: Mutex<Option<Instant>>,
}

impl Metrics {
    /// All numbers at zero.
    ///
    /// # Panics
    /// Never: every name is registered once, and is valid.
    #[must_use]
    pub fn new() -> Self {
        let maker = Maker { registry: Registry::new() };
        let metrics = Self {
            sessions: maker.gauge("sessions", "Sessions open now"),
            sessions_opened: maker.counters("sessions_opened_total", "Sessions opened, by how they started", "start"),
            closes: maker.counters("closes_total", "Sessions closed, by close code; 0 is a broken connection", "code"),
            sessions_handed_over: maker
                .counter("sessions_handed_over_total", "Sessions told to go to an emptier replica"),
            errors: maker.counters("errors_total", "Refused frames and requests, by code", "code"),
            smiles_stored: maker.counter("smiles_stored_total", "Smiles stored through this replica"),
            smiles_duplicate: maker.counter("smiles_duplicate_total", "Smiles sent again that were stored before"),
            smiles_published: maker.counter("smiles_published_total", "Smiles of the log published on this replica"),
            smiles_caught_up: maker.counter("smiles_caught_up_total", "Smiles sessions read from the log"),
            lagged: maker.counter("lagged_total", "Times an outbox was full"),
            ack_seconds: maker.histogram("ack_seconds", "From a frame to its ack", &SECONDS),
            delivery_seconds: maker.histogram("delivery_seconds", "From a frame to another session", &SECONDS),
            append_seconds: maker.histogram("append_seconds", "One append, commit included", &SECONDS),
            append_smiles: maker.histogram(
                "append_smiles",
                "Smiles in one append",
                &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0],
            ),
            smiles_trimmed: maker.counter("smiles_trimmed_total", "Smiles removed by retention"),
            index_behind: maker.gauge("index_behind", "Smiles of the log that the index does not have yet"),
            ready: maker.gauge("ready", "Whether this replica is ready"),
            following_binlog: maker.gauge("following_binlog", "Whether the binary log is followed; 0 is polling"),
            store_failure_said_at: Mutex::default(),
            registry: maker.registry,
        };
        for code in ErrorCode::OF_FRAMES {
            metrics.errors.with_label_values(&[<&str>::from(code)]);
        }
        for code in CLIENT_CLOSES.into_iter().chain(CloseReason::VARIANTS.iter().map(|reason| reason.code())) {
            metrics.closes.with_label_values(&[&code.to_string()]);
        }
        for code in [NO_CLOSE, OTHER_CLOSES] {
            metrics.closes.with_label_values(&[code]);
        }
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("the process is collected once");
        metrics
    }

    /// Counts a refusal.
    pub fn error(&self, code: ErrorCode) {
        self.errors.with_label_values(&[<&str>::from(code)]).inc();
    }

    /// Says that the store did not answer a client, once a minute: an outage may be met by each of thousands.
    pub fn store_failed(&self, error: &dyn Display, what: &str) {
        let mut said_at = self.store_failure_said_at.lock().unwrap_or_else(PoisonError::into_inner);
        if said_at.is_none_or(|at| at.elapsed() > BETWEEN_STORE_FAILURES) {
            tracing::warn!(%error, "{what}");
            *said_at = Some(Instant::now());
        }
    }

    /// Counts a close by the server.
    pub fn closed_by_server(&self, reason: CloseReason) {
        self.closes.with_label_values(&[&reason.code().to_string()]).inc();
    }

    /// Counts a close by the client. Clients may say any code; those that no well-behaved one says count together, so
    /// that nobody can make series of their own.
    pub fn closed_by_client(&self, code: u16) {
        if CLIENT_CLOSES.contains(&code) {
            self.closes.with_label_values(&[&code.to_string()]).inc();
        } else {
            self.closes.with_label_values(&[OTHER_CLOSES]).inc();
        }
    }

    /// Counts a connection that broke.
    pub fn connection_broke(&self) {
        self.closes.with_label_values(&[NO_CLOSE]).inc();
    }

    /// Everything in the Prometheus text format, version 0.0.4, with the number of sessions that somebody else keeps.
    #[must_use]
    pub fn render(&self, sessions: usize) -> Vec<u8> {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Adds a time to a histogram.
pub fn observe(histogram: &Histogram, time: Duration) {
    histogram.observe(time.as_secs_f64());
}

/// Makes metrics under our prefix and registers them.
struct Maker {
    registry: Registry,
}

impl Maker {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("a valid name");
        self.registry.register(Box::new(metric.clone())).expect("a name of its own");
        metric
    }

    fn options(name: &str, help: &str) -> Opts {
        Opts::new(format!("smilingchat_{name}"), help)
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::with_opts(Self::options(name, help)))
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::with_opts(Self::options(name, help)))
    }

    fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        self.register(IntCounterVec::new(Self::options(name, help), &[label]))
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(format!("smilingchat_{name}"), help).buckets(buckets.to_vec());
        self.register(Histogram::with_opts(options))
    }
}
