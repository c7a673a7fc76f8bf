//! The tasks of a replica and their stop signals. No task outlives [`Tasks`].

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listener;
use crate::http::{self, AppState, RateLimit};
use crate::index::Indexer;
use crate::log::Appender;
use crate::retention;
use crate::store::StoreError;
use crate::tail::Follower;

/// The tasks that end by themselves after `stop_appending`.
pub(super) const APPENDER: &str = "appender";
pub(super) const LEASE: &str = "lease";
pub(super) const STOPPABLE_TASKS: usize = 2;

/// The tasks of a replica.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    /// Tasks that must not end early. Each returns its name and its result.
    pub(super) vital: JoinSet<(&'static str, Result<(), StoreError>)>,
    pub(super) stop_appending: CancellationToken,
    pub(super) stop_listening: CancellationToken,
    pub(super) connections: TaskTracker,
    indexer: Option<JoinHandle<()>>,
}

/// Joins the thread of the indexer, which must end before its runtime.
impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop_appending.cancel();
        if let Some(indexer) = self.indexer.take() {
            // The panic hook has already reported a panic.
            let _ = indexer.join();
        }
    }
}

impl Tasks {
    /// Serves [`http::starting`] on `listener`, and the router that is sent later.
    pub(super) fn spawn_listener(
        &mut self,
        name: &'static str,
        listener: TcpListener,
        connections: usize,
    ) -> watch::Sender<Router> {
        let (other_routes, router) = watch::channel(http::starting());
        // Under tokio's cooperative budget, `accept` would yield after 128 connections until their tasks have run. The
        // accept queue would overflow meanwhile.
        let serve = tokio::task::unconstrained(listener::serve(
            listener,
            connections,
            router,
            self.connections.clone(),
            self.stop_listening.clone(),
        ));
        self.spawn_vital(name, async {
            serve.await;
            Ok(())
        });
        other_routes
    }

    /// Spawns a task whose end ends the replica.
    fn spawn_vital(&mut self, name: &'static str, task: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        self.vital.spawn(async move { (name, task.await) });
    }

    /// Spawns the appender, the indexer and, on a shared store, the follower.
    pub(super) fn spawn_log(&mut self, appender: Appender, indexer: Indexer, follower: Option<Follower>) {
        let stop = self.stop_appending.clone();
        self.spawn_vital(APPENDER, Box::pin(appender.run(stop)));
        self.spawn_indexer(indexer);
        if let Some(follower) = follower {
            self.spawn_vital("follower", Box::pin(follower.run()));
        }
    }

    /// Runs the indexer on a thread of its own: among the sessions of a busy replica, its many short steps would each
    /// wait for the scheduler, and the index would fall behind.
    fn spawn_indexer(&mut self, indexer: Indexer) {
        let (runtime, stop) = (Handle::current(), self.stop_appending.clone());
        let (ended, has_ended) = oneshot::channel();
        self.indexer = Some(std::thread::spawn(move || {
            let _ = ended.send(runtime.block_on(stop.run_until_cancelled(indexer.run())));
        }));
        // The channel closes if the thread panics; the task then ends, and with it the replica.
        self.spawn_vital("indexer", async { has_ended.await.ok().flatten().unwrap_or(Ok(())) });
    }

    /// Spawns the lease, and the removal of smiles older than `kept` and of replicas lost long ago.
    pub(super) fn spawn_upkeep(&mut self, app: &AppState, kept: Duration) {
        let (replica, stop) = (Arc::clone(&app.replica), self.stop_appending.clone());
        self.spawn_vital(LEASE, async move {
            replica.run(stop).await;
            Ok(())
        });
        let (store, tail) = (app.context.store.clone(), app.context.tail.clone());
        let metrics = Arc::clone(&app.context.metrics);
        self.spawn_vital("retention", async move {
            retention::run(store, tail, kept, metrics).await;
            Ok(())
        });
    }

    pub(super) fn spawn_rate_limit(&mut self, limit: RateLimit) {
        self.spawn_vital("rate limit", async move {
            limit.maintain().await;
            Ok(())
        });
    }
}
