//! Logs (`tracing`) and metrics (`prometheus`).
//!
//! Each server has its own registry, so that tests can run several in one process.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};
use strum::VariantArray;
use tracing_subscriber::EnvFilter;

use crate::protocol::{CloseReason, ErrorCode};

/// Histogram buckets from 0.1 ms, a commit on a fast disk, to 10 s, the write timeout.
const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The usual close codes of clients: normal, going away, no code (RFC 6455, section 7.4.1).
const CLIENT_CLOSES: [u16; 3] = [1000, 1001, 1005];

/// The label of all other close codes of clients.
const OTHER_CLOSES: &str = "other";

/// The label of broken connections.
const NO_CLOSE: &str = "0";

/// The time between two log lines about a store that did not answer a client.
const STORE_FAILURE_INTERVAL: Duration = Duration::from_mins(1);

/// Starts logging to standard error: text on a terminal, JSON otherwise. `RUST_LOG` sets the filter; the default is
/// `info`.
pub fn start_logging() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        subscriber.with_target(false).init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
}

/// The metrics of a server.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sessions: IntGauge,
    /// Sessions opened, by start: `fresh`, `recovered`, `not_recovered`.
    pub sessions_opened: IntCounterVec,
    /// Sessions closed, by close code: `0` for broken connections, `other` for unusual codes of clients.
    pub closes: IntCounterVec,
    /// Sessions handed over to an emptier replica.
    pub sessions_handed_over: IntCounter,
    /// Refused frames and requests, by code.
    pub errors: IntCounterVec,
    /// Smiles stored through this replica.
    pub smiles_stored: IntCounter,
    /// Smiles whose id was stored before.
    pub smiles_duplicate: IntCounter,
    /// Smiles that the tail published.
    pub smiles_published: IntCounter,
    /// Smiles that sessions read from the log after a resume or a lag.
    pub smiles_caught_up: IntCounter,
    /// How often an outbox overflowed.
    pub lagged: IntCounter,
    /// Seconds from a frame to its ack, both at this server.
    pub ack_seconds: Histogram,
    /// Seconds from a frame to its delivery to another session of this server.
    pub delivery_seconds: Histogram,
    /// Seconds per append, including the commit.
    pub append_seconds: Histogram,
    /// Smiles in one append.
    pub append_smiles: Histogram,
    /// Smiles removed by retention.
    pub smiles_trimmed: IntCounter,
    /// Published smiles that are not indexed.
    pub index_behind: IntGauge,
    /// Whether this replica is ready: 1 or 0.
    pub ready: IntGauge,
    /// Whether the replica follows the binary log: 1, or 0 if it polls.
    pub following_binlog: IntGauge,
    /// When a store failure that a client met was last logged.
    store_failure_logged_at: Mutex<Option<Instant>>,
}

impl Metrics {
    /// Creates all metrics at zero.
    ///
    /// # Panics
    /// Never: all names are valid and unique.
    pub fn new() -> Self {
        let builder = MetricBuilder { registry: Registry::new() };
        let metrics = Self {
            sessions: builder.gauge("sessions", "Sessions open now"),
            sessions_opened: builder.counters("sessions_opened_total", "Sessions opened, by how they started", "start"),
            closes: builder.counters(
                "closes_total",
                "Sessions closed, by close code; 0 is a broken connection",
                "code",
            ),
            sessions_handed_over: builder
                .counter("sessions_handed_over_total", "Sessions handed over to an emptier replica"),
            errors: builder.counters("errors_total", "Refused frames and requests, by code", "code"),
            smiles_stored: builder.counter("smiles_stored_total", "Smiles stored through this replica"),
            smiles_duplicate: builder.counter("smiles_duplicate_total", "Smiles whose id was stored before"),
            smiles_published: builder.counter("smiles_published_total", "Smiles published on this replica"),
            smiles_caught_up: builder.counter("smiles_caught_up_total", "Smiles that sessions read from the log"),
            lagged: builder.counter("lagged_total", "How often an outbox overflowed"),
            ack_seconds: builder.histogram("ack_seconds", "Seconds from a frame to its ack", &SECONDS),
            delivery_seconds: builder.histogram(
                "delivery_seconds",
                "Seconds from a frame to its delivery to another session",
                &SECONDS,
            ),
            append_seconds: builder.histogram("append_seconds", "Seconds per append, including the commit", &SECONDS),
            append_smiles: builder.histogram(
                "append_smiles",
                "Smiles in one append",
                &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0],
            ),
            smiles_trimmed: builder.counter("smiles_trimmed_total", "Smiles removed by retention"),
            index_behind: builder.gauge("index_behind", "Published smiles that are not indexed"),
            ready: builder.gauge("ready", "Whether this replica is ready"),
            following_binlog: builder.gauge("following_binlog", "Whether the binary log is followed; 0 is polling"),
            store_failure_logged_at: Mutex::default(),
            registry: builder.registry,
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
            .expect("the process collector is registered once");
        metrics
    }

    /// Counts a refusal.
    pub fn error(&self, code: ErrorCode) {
        self.errors.with_label_values(&[<&str>::from(code)]).inc();
    }

    /// Says that the store did not answer a client, once a minute: an outage may be met by each of thousands.
    pub fn store_failed(&self, error: &dyn Display, what: &str) {
        let mut logged_at = self.store_failure_logged_at.lock();
        if logged_at.is_none_or(|at| at.elapsed() > STORE_FAILURE_INTERVAL) {
            tracing::warn!(%error, "{what}");
            *logged_at = Some(Instant::now());
        }
    }

    /// Counts a close by the server.
    pub fn closed_by_server(&self, reason: CloseReason) {
        self.closes.with_label_values(&[&reason.code().to_string()]).inc();
    }

    /// Counts a close by the client. Unusual codes share one label, so that clients cannot create time series.
    pub fn closed_by_client(&self, code: u16) {
        if CLIENT_CLOSES.contains(&code) {
            self.closes.with_label_values(&[&code.to_string()]).inc();
        } else {
            self.closes.with_label_values(&[OTHER_CLOSES]).inc();
        }
    }

    /// Counts a broken connection.
    pub fn connection_broke(&self) {
        self.closes.with_label_values(&[NO_CLOSE]).inc();
    }

    /// Renders all metrics in the Prometheus text format, version 0.0.4, with the current number of `sessions`.
    pub fn render(&self, sessions: usize) -> Vec<u8> {
        self.sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot encode the metrics");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Records a duration in seconds.
pub fn observe(histogram: &Histogram, time: Duration) {
    histogram.observe(time.as_secs_f64());
}

/// Creates and registers metrics with the prefix `smilingchat_`.
struct MetricBuilder {
    registry: Registry,
}

impl MetricBuilder {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("a valid name");
        self.registry.register(Box::new(metric.clone())).expect("a unique name");
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
