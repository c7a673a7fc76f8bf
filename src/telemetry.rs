//! Logs (`tracing`) and metrics (`prometheus`).
//!
//! Each server has its own registry, so that tests can run several servers in one process.

use std::fmt::Display;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{
    Histogram, IntCounter, IntCounterVec, IntGauge, Registry, TextEncoder,
    register_histogram_with_registry as histogram, register_int_counter_vec_with_registry as counters,
    register_int_counter_with_registry as counter, register_int_gauge_with_registry as gauge,
};
use strum::VariantArray;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::protocol::{CloseReason, ErrorCode, Refusal};

/// Histogram buckets from 0.1 ms, a commit on a fast disk, to 10 s, the write timeout.
const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// Histogram buckets for the number of smiles in one append. A batch holds at most 2,000 smiles on SQLite, and fewer on
/// MySQL.
const SMILES: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0];

const STORE_FAILURE_INTERVAL: Duration = Duration::from_mins(1);

/// Starts logging to standard error: text on a terminal, JSON otherwise. `RUST_LOG` sets the filter; if the variable is
/// unset, empty or invalid, the filter is `info`.
///
/// # Panics
/// If logging has already been started in this process.
pub fn start_logging() {
    let builder = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let filter = builder.from_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // A line that cannot be written, for example because the disk is full, is lost. Without
    // `log_internal_errors(false)`, the library would report the failure on standard error, and panic if that report
    // failed as well.
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    if std::io::stderr().is_terminal() {
        subscriber.with_target(false).init();
    } else {
        subscriber.json().flatten_event(true).init();
    }
}

/// Declares [`Metrics`]: the field and the type of each metric, its name after `smilingchat_`, and its help.
macro_rules! metrics {
    ($($field:ident: $type:ty = $register:ident($name:literal, $help:literal $(, $more:expr)?),)+) => {
        pub(crate) struct Metrics {
            registry: Registry,
            store_failure_logged_at: Mutex<Option<Instant>>,
            $(#[doc = $help] pub(crate) $field: $type,)+
        }

        impl Metrics {
            fn registered() -> prometheus::Result<Self> {
                let registry = Registry::new();
                Ok(Self {
                    $($field: $register!(concat!("smilingchat_", $name), $help, $($more,)? registry)?,)+
                    store_failure_logged_at: Mutex::default(),
                    registry,
                })
            }
        }
    };
}

metrics! {
    sessions: IntGauge = gauge("sessions", "Open sessions"),
    sessions_opened: IntCounterVec =
        counters("sessions_opened_total", "Opened sessions, by how they started", &["start"]),
    closes: IntCounterVec =
        counters("closes_total", "Closed sessions, by close code; 0 means broken or aborted", &["code"]),
    sessions_handed_over: IntCounter =
        counter("sessions_handed_over_total", "Sessions asked to leave for a replica with fewer sessions"),
    errors: IntCounterVec = counters("errors_total", "Refused frames and requests, by code", &["code"]),
    smiles_stored: IntCounter = counter("smiles_stored_total", "Smiles stored through this replica"),
    smiles_duplicate: IntCounter = counter("smiles_duplicate_total", "Repeated smiles: their ids were already stored"),
    smiles_published: IntCounter = counter("smiles_published_total", "Smiles published by this replica"),
    smiles_caught_up: IntCounter =
        counter("smiles_caught_up_total", "Smiles read from the log for sessions that resumed or lagged"),
    lagged: IntCounter = counter("lagged_total", "Overflows of session outboxes"),
    ack_seconds: Histogram =
        histogram("ack_seconds", "Seconds from the receipt of a smile to its ack", SECONDS.to_vec()),
    delivery_seconds: Histogram =
        histogram("delivery_seconds",
            "Seconds from the receipt of a smile to its delivery to another session on this replica", SECONDS.to_vec()),
    append_seconds: Histogram =
        histogram("append_seconds", "Seconds per append, including its waits and the commit", SECONDS.to_vec()),
    append_smiles: Histogram = histogram("append_smiles", "Smiles in one append", SMILES.to_vec()),
    smiles_trimmed: IntCounter = counter("smiles_trimmed_total", "Smiles removed by retention"),
    index_behind: IntGauge = gauge("index_behind", "Published smiles that are not indexed yet"),
    ready: IntGauge = gauge("ready", "1 if this replica is ready, else 0"),
    following_binlog: IntGauge =
        gauge("following_binlog", "1 if this replica follows the binary log; 0 if it polls or uses SQLite"),
}

impl Metrics {
    /// Creates all metrics at zero. On Linux, also registers the metrics of the process.
    pub(crate) fn new() -> Self {
        let metrics = Self::registered().expect("the names should be valid and unique");
        for code in ErrorCode::VARIANTS {
            metrics.errors.with_label_values(&[<&str>::from(code)]);
        }
        let by_server = CloseReason::VARIANTS.iter().map(|reason| reason.code().to_string());
        for code in by_server.chain(["0", "1000", "1001", "1005", "other"].map(str::to_owned)) {
            metrics.closes.with_label_values(&[&code]);
        }
        for start in ["fresh", "recovered", "not_recovered"] {
            metrics.sessions_opened.with_label_values(&[start]);
        }
        #[cfg(target_os = "linux")]
        metrics
            .registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("the process collector should be registered only once");
        metrics
    }

    pub(crate) fn error(&self, code: ErrorCode) {
        self.errors.with_label_values(&[<&str>::from(code)]).inc();
    }

    /// Logs an error of the store that affected a client, with the message `what`, at most once a minute: an outage may
    /// affect thousands of clients.
    pub(crate) fn log_store_failure(&self, error: &dyn Display, what: &str) -> Refusal {
        let mut logged_at = self.store_failure_logged_at.lock();
        if logged_at.is_none_or(|at| at.elapsed() > STORE_FAILURE_INTERVAL) {
            tracing::warn!(%error, "{what}");
            *logged_at = Some(Instant::now());
        }
        Refusal::store_unavailable()
    }

    pub(crate) fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).expect("the names and labels should be valid")
    }
}
