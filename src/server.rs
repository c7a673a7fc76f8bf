//! Start-up and shutdown of a replica: the order of their steps, and their time limits. The caller decides when to
//! stop; `main` handles signals.

mod drain;
mod file_limit;
mod listener;
mod tasks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::drain::{CLOSE_RESERVE, drain};
use self::tasks::Tasks;
use crate::config::{InvalidValue, ServeOptions, crash_token};
use crate::http::{self, AppState, RateLimit};
use crate::hub::Hub;
use crate::index::{self, Indexer};
use crate::log::{AppendQueue, Appender};
use crate::protocol::Rates;
use crate::replica::Replica;
use crate::session::Context;
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;

const EPOCH_TIMEOUT: Duration = Duration::from_secs(5);

const STORE_RETRY: Duration = Duration::from_millis(500);

/// Why a replica could not start, or why it stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The replica cannot listen on the address, for example because the address is in use.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The options are invalid, or the content of a file that they name is invalid or cannot be read.
    #[error(transparent)]
    Options(#[from] InvalidValue),
    /// The limit on open files allows no session, or is unknown.
    #[error("the limit of {0} open files leaves none for sessions: raise it, for example with ulimit -n")]
    TooFewFiles(u32),
    /// The store cannot be opened or read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A vital task ended early or failed. The fields are the name of the task and why it ended.
    #[error("the {0} ended: {1}")]
    TaskEnded(&'static str, String),
}

/// The end of a vital task: its name and its result, unless it panicked or was aborted.
type TaskEnd = Result<(&'static str, Result<(), StoreError>), JoinError>;

/// A running replica.
pub struct Server {
    /// The address of the page, the API and `/ws`.
    pub address: SocketAddr,
    /// The address of `/metrics` and the probes. `address` serves the probes as well.
    pub ops_address: SocketAddr,
    app: Arc<AppState>,
    tasks: Tasks,
}

impl Server {
    /// Binds, opens the store, registers the replica and serves. Until the replica is registered, requests get 503,
    /// except those for `/livez`.
    ///
    /// # Errors
    /// [`ServerError`] if any of these steps fails for good.
    pub async fn start(mut options: ServeOptions) -> Result<Self, ServerError> {
        // Bind first: a port in use is the likeliest mistake, and is then reported immediately.
        let (public, address) = bind(options.listen)?;
        let (operations, ops_address) = bind(options.ops_listen)?;
        let crash_token = crash_token(options.crash_token_file.as_deref(), "SMILINGCHAT_CRASH_TOKEN_FILE")?;
        let store_url = options.store_url()?;
        let (max_sessions, connections) = file_limit::divide_files(options.max_sessions)?;
        options.max_sessions = max_sessions;
        let mut tasks = Tasks::default();
        let public = tasks.spawn_listener("public listener", public, connections as usize);
        let operations = tasks.spawn_listener("operations listener", operations, connections as usize);

        let store = Store::open(&store_url).await?;
        let mut waits = false;
        let (context, appender, indexer) = loop {
            match open_replica(&options, &store).await {
                // Another replica's retention may have removed what this replica was about to read.
                Err(error @ (StoreError::Unavailable(_) | StoreError::Trimmed)) if store.is_shared() => {
                    if !std::mem::replace(&mut waits, true) {
                        tracing::warn!(%error, "waiting for the store");
                    }
                    tokio::time::sleep(STORE_RETRY).await;
                }
                opened => break opened?,
            }
        };
        let kept = Duration::from_secs(u64::from(options.retention) * 24 * 60 * 60);
        tasks.spawn_vital(&context, appender, indexer, kept);
        let limit = RateLimit::new(options.client_rate, options.client_burst, options.trusted_proxies.clone());
        let app = Arc::new(AppState {
            context: Arc::new(context),
            sessions: TaskTracker::new(),
            abort_sessions: CancellationToken::new(),
            options,
            crash_token,
            logged_origins: Mutex::default(),
        });
        let _ = public.send(http::public(Arc::clone(&app), limit.as_ref()));
        let _ = operations.send(http::operations(Arc::clone(&app)));
        if let Some(limit) = limit {
            tasks.spawn_endless("rate limit", limit.maintain().map(Ok));
        }
        Ok(Self { address, ops_address, app, tasks })
    }

    /// The id of this replica.
    pub fn replica(&self) -> &str {
        &self.app.context.replica.id
    }

    /// Serves until `stop` completes, then drains and closes the store within the drain timeout. A store that cannot be
    /// closed in time stays open.
    ///
    /// # Errors
    /// [`ServerError::TaskEnded`] when a vital task ends early or fails. The replica then skips the drain or the rest
    /// of it: the process must exit, and clients resume on another replica or after a restart.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), ServerError> {
        tokio::select! {
            () = stop => {}
            Some(ended) = self.tasks.vital.join_next() => return Err(self.ended_early(ended).await),
        }
        let deadline = Instant::now() + Duration::from_secs(self.app.options.drain_timeout.into());
        tokio::select! {
            () = drain(Arc::clone(&self.app), deadline).boxed() => {}
            Some(ended) = self.tasks.vital.join_next() => return Err(self.ended_early(ended).await),
        }
        self.tasks.stop_listening.cancel();
        self.tasks.connections.close();
        let last_requests = deadline.checked_sub(CLOSE_RESERVE / 2).unwrap_or(deadline);
        let last = async { tokio::join!(self.app.sessions.wait(), self.tasks.connections.wait()) };
        let _ = tokio::time::timeout_at(last_requests.into(), last).await;
        // No session accepts smiles any more: append the rest of the queue, and give up the lease.
        self.tasks.stop_work.cancel();
        if let Ok(closed) = tokio::time::timeout_at(deadline.into(), self.close().boxed()).await {
            closed?;
        } else {
            tracing::warn!("the drain timeout has passed; exiting without closing the store");
        }
        tracing::info!("this replica has shut down");
        Ok(())
    }

    /// If the log was replaced or has lost its end, tries to begin a new epoch, so that clients do not resume with old
    /// offsets.
    async fn ended_early(&self, ended: TaskEnd) -> ServerError {
        match ended {
            Ok((name, Ok(()))) => ServerError::TaskEnded(name, "it returned without an error".to_owned()),
            Ok((name, Err(error))) => {
                if matches!(error, StoreError::Replaced) {
                    self.begin_epoch().await;
                }
                ServerError::TaskEnded(name, error.to_string())
            }
            Err(error) => ServerError::TaskEnded("task", error.to_string()),
        }
    }

    async fn begin_epoch(&self) {
        let begin = self.app.context.store.begin_epoch(&self.app.context.tail.epoch);
        let answer = tokio::time::timeout(EPOCH_TIMEOUT, begin).await;
        match answer.unwrap_or_else(|_| Err(StoreError::Unavailable("it did not answer in time".into()))) {
            Ok(true) => tracing::warn!("the log was replaced or has lost its end; a new epoch begins"),
            // The epoch has changed already.
            Ok(false) => {}
            Err(error) => tracing::warn!(
                %error,
                "cannot begin a new epoch; begin one by hand before the next start: see Backup in docs/OPERATING.md"
            ),
        }
    }

    /// Waits for all vital tasks, including the one that renews the lease: a late renewal would register the replica
    /// again.
    async fn close(&mut self) -> Result<(), ServerError> {
        while let Some(ended) = self.tasks.vital.join_next().await {
            if !matches!(ended, Ok((_, Ok(())))) {
                return Err(self.ended_early(ended).await);
            }
        }
        self.app.context.replica.unregister().await;
        self.app.context.store.close().await;
        Ok(())
    }
}

/// The caller must run the appender and the indexer.
async fn open_replica(options: &ServeOptions, store: &Store) -> Result<(Context, Appender, Indexer), StoreError> {
    let metrics = Arc::new(Metrics::new());
    let hub = Arc::new(Hub::default());
    let (tail, index, indexer) = index::open(store, Arc::clone(&hub), Arc::clone(&metrics)).await?;
    let (queue, appender) = AppendQueue::new(store.clone(), Arc::clone(&tail), index.clone(), Arc::clone(&metrics));
    let replica = Replica::join(options, store, Arc::clone(&tail), Arc::clone(&hub), Arc::clone(&metrics)).await?;
    let context = Context {
        replica,
        store: store.clone(),
        queue,
        tail,
        hub,
        index,
        metrics,
        rates: Rates { session_per_second: options.session_rate, session_burst: options.session_burst },
        times: options.session_times,
    };
    Ok((context, appender, indexer))
}

/// The returned address has the actual port instead of port 0.
fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServerError> {
    let bound = listener::bind(address).and_then(|listener| listener.local_addr().map(|bound| (listener, bound)));
    bound.map_err(|error| ServerError::Listen(address, error))
}

#[cfg(test)]
mod tests {
    use axum::http::{Request, StatusCode, header};
    use clap::Parser;
    use tower::ServiceExt;

    use super::*;
    use crate::config::CommandLine;

    async fn started(folder: &tempfile::TempDir) -> Server {
        let store = format!("--store=sqlite:{}", folder.path().join("chat.db").display());
        let ports = ["--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0"];
        let arguments = ["smilingchat", &store].into_iter().chain(ports);
        Server::start(CommandLine::parse_from(arguments).serve).await.unwrap()
    }

    #[tokio::test]
    async fn a_server_stops_when_a_vital_task_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = started(&folder).await;
        server.tasks.vital.abort_all();
        let ended = server.run(std::future::pending()).await;
        assert!(matches!(ended, Err(ServerError::TaskEnded(..))), "unexpected result: {ended:?}");
    }

    /// The request comes over no connection, so the upgrade fails, as when the client has left.
    #[tokio::test]
    async fn a_session_that_never_opened_is_not_counted_as_closed() {
        let folder = tempfile::tempdir().unwrap();
        let server = started(&folder).await;
        let request = Request::get("/ws?user=anna")
            .header(header::HOST, "127.0.0.1")
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .body(String::new())
            .unwrap();
        let answer = http::public(Arc::clone(&server.app), None).oneshot(request).await.unwrap();
        assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
        server.app.sessions.close();
        server.app.sessions.wait().await;
        assert_eq!(server.app.context.metrics.closes.with_label_values(&["0"]).get(), 0);
    }

    #[tokio::test]
    async fn a_log_that_is_replaced_during_the_shutdown_gets_a_new_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let mut server = started(&folder).await;
        let (store, stop) = (server.app.context.store.clone(), server.tasks.stop_work.clone());
        let epoch = server.app.context.tail.epoch.clone();
        server.tasks.vital.spawn(async move {
            stop.cancelled().await;
            ("follower", Err(StoreError::Replaced))
        });
        let ended = server.run(std::future::ready(())).await;
        assert!(matches!(ended, Err(ServerError::TaskEnded("follower", _))), "unexpected result: {ended:?}");
        assert_ne!(store.log_state().await.unwrap().epoch, epoch);
    }
}
