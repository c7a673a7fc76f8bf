//! The tasks of a replica and their stop signals. Dropping [`Tasks`] stops the indexer, waits for its thread, and then
//! aborts the vital tasks.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::listener;
use crate::http;
use crate::index::Indexer;
use crate::log::Appender;
use crate::retention;
use crate::session::Context;
use crate::store::{Store, StoreError};
use crate::tail::Follower;

#[derive(Default)]
pub(super) struct Tasks {
    /// Tasks that must not end early. Each returns its name and its result.
    pub(super) vital: JoinSet<(&'static str, Result<(), StoreError>)>,
    /// Stops every vital task except the listeners.
    pub(super) stop_work: CancellationToken,
    /// Stops the listeners and their HTTP connections.
    pub(super) stop_listening: CancellationToken,
    pub(super) connections: TaskTracker,
    indexer: Option<JoinHandle<()>>,
}

/// The indexer's thread must end before the runtime does.
impl Drop for Tasks {
    fn drop(&mut self) {
        self.stop_work.cancel();
        if let Some(indexer) = self.indexer.take() {
            // If the thread panicked, the panic hook has already reported it.
            let _ = indexer.join();
        }
    }
}

impl Tasks {
    /// Serves up to `connections` concurrent HTTP connections of `listener`. Answers with [`http::starting`] until the
    /// caller sends another router.
    pub(super) fn spawn_listener(
        &mut self,
        name: &'static str,
        listener: TcpListener,
        connections: usize,
    ) -> watch::Sender<Router> {
        let (other_routes, router) = watch::channel(http::starting());
        // Each connection costs a permit and an accept. So under tokio's cooperative budget of 128 operations, the
        // listener would yield after 64 connections until their tasks have run. In the meantime, the accept queue could
        // overflow.
        let serve = tokio::task::unconstrained(listener::serve(
            listener,
            connections,
            router,
            self.connections.clone(),
            self.stop_listening.clone(),
        ));
        self.spawn(name, serve.map(Ok));
        other_routes
    }

    /// Spawns a task that ends once it is signalled to stop. If it ends earlier, the replica exits.
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = Result<(), StoreError>> + Send + 'static) {
        self.vital.spawn(async move { (name, task.await) });
    }

    /// Spawns a task that is dropped once `stop_work` is cancelled. If it ends earlier, the replica exits.
    pub(super) fn spawn_endless(
        &mut self,
        name: &'static str,
        task: impl Future<Output = Result<(), StoreError>> + Send + 'static,
    ) {
        let stop = self.stop_work.clone();
        self.spawn(name, async move { stop.run_until_cancelled(task).await.unwrap_or(Ok(())) });
    }

    /// When stopped, the tasks of the appender and the lease complete their work in progress before they end. Retention
    /// removes smiles older than `kept`.
    pub(super) fn spawn_vital(&mut self, context: &Context, appender: Appender, indexer: Indexer, kept: Duration) {
        let Context { replica, store, tail, metrics, .. } = context;
        self.spawn("appender", Box::pin(appender.run(self.stop_work.clone())));
        self.spawn("lease", Arc::clone(replica).run(self.stop_work.clone()).map(Ok));
        self.spawn_indexer(indexer);
        if let Store::MySql(mysql) = store {
            self.spawn_endless("follower", Box::pin(Follower::new(Arc::clone(mysql), Arc::clone(tail)).run()));
        }
        let retention = retention::run(store.clone(), Arc::clone(tail), Arc::clone(metrics), kept);
        self.spawn_endless("retention", retention.map(Ok));
    }

    /// Runs the indexer on a thread of its own. On the runtime of a busy replica, each of the indexer's many short
    /// steps would wait for the scheduler, and the index would fall behind.
    fn spawn_indexer(&mut self, indexer: Indexer) {
        let (runtime, stop) = (Handle::current(), self.stop_work.clone());
        let (ended, has_ended) = oneshot::channel();
        self.indexer = Some(std::thread::spawn(move || {
            let _ = ended.send(runtime.block_on(stop.run_until_cancelled(indexer.run())));
        }));
        // The channel closes if the thread panics; the task then ends, and with it the replica.
        self.spawn("indexer", async { has_ended.await.ok().flatten().unwrap_or(Ok(())) });
    }
}
