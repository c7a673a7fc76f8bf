//! A replica in the test's own process, on ports of its own and a store that goes with it.
//!
//! Owns the folder of the store, unless the test keeps it to start another replica on the same log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use smilingchat::config::{CommandLine, ServeOptions};
use smilingchat::server::{Server, ServerError};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{command_line, within};

/// A folder with a store in it, gone when the last holder lets go.
#[derive(Clone)]
pub(crate) struct TestStore {
    folder: Arc<TempDir>,
}

impl TestStore {
    /// An empty folder.
    pub(crate) fn new() -> Self {
        Self { folder: Arc::new(TempDir::new().expect("a temporary folder")) }
    }

    /// The database file.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("smilingchat.db")
    }

    /// A connection to the database, for tests that change what no client can.
    pub(crate) async fn open(&self) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.expect("the store opens")
    }
}

/// A replica that runs inside the test.
pub(crate) struct TestReplica {
    /// Where the page, the API and `/ws` are.
    pub(crate) address: SocketAddr,
    /// Where `/metrics` is.
    pub(crate) ops_address: SocketAddr,
    /// What it keeps its log in.
    pub(crate) store: TestStore,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), ServerError>>,
}

impl TestReplica {
    /// A replica with a new store and these options.
    pub(crate) async fn start(options: &[(&str, &str)]) -> Self {
        Self::on(&TestStore::new(), options).await
    }

    /// A replica on a store that may hold a log already.
    pub(crate) async fn on(store: &TestStore, options: &[(&str, &str)]) -> Self {
        Self::with(store, Self::options(store, options)).await
    }

    /// What a command line with these options says.
    pub(crate) fn options(store: &TestStore, options: &[(&str, &str)]) -> ServeOptions {
        let arguments = std::iter::once("smilingchat".to_owned()).chain(command_line(&store.path(), options));
        CommandLine::try_parse_from(arguments).expect("options of the contract").serve
    }

    /// A replica with options that were changed beyond what the command line offers.
    pub(crate) async fn with(store: &TestStore, options: ServeOptions) -> Self {
        let server = Server::start(options).await.expect("the replica starts");
        let (stop, stopped) = oneshot::channel();
        Self {
            address: server.address,
            ops_address: server.ops_address,
            store: store.clone(),
            stop: Some(stop),
            running: tokio::spawn(server.run(async {
                let _ = stopped.await;
            })),
        }
    }

    /// Asks the replica to drain.
    pub(crate) fn start_stopping(&mut self) {
        drop(self.stop.take());
    }

    /// Drains the replica and waits until it has left.
    pub(crate) async fn stop(mut self) {
        self.start_stopping();
        let ended = within("the replica leaves", self.running).await;
        ended.expect("the replica does not panic").expect("the replica leaves in order");
    }
}
