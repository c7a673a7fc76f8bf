//! A replica in the test's process, on free ports.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use smilingchat::config::{CommandLine, ServeOptions};
use smilingchat::server::{Server, ServerError};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{command_line, sqlite, within};

/// A temporary folder with a store. Clones share the folder, and dropping the last clone removes it.
#[derive(Clone)]
pub(crate) struct TestStore {
    folder: Arc<TempDir>,
}

impl TestStore {
    pub(crate) fn new() -> Self {
        Self { folder: Arc::new(TempDir::new().expect("a temporary folder")) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("smilingchat.db")
    }

    /// Connects to the database, for changes that no client can make.
    pub(crate) async fn open(&self) -> sqlx::SqliteConnection {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&options).await.expect("the store did not open")
    }
}

pub(crate) struct TestReplica {
    /// The address of the page, the API and `/ws`.
    pub(crate) address: SocketAddr,
    pub(crate) ops_address: SocketAddr,
    pub(crate) store: TestStore,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), ServerError>>,
}

impl TestReplica {
    pub(crate) async fn start(options: &[(&str, &str)]) -> Self {
        Self::on(&TestStore::new(), options).await
    }

    pub(crate) async fn on(store: &TestStore, options: &[(&str, &str)]) -> Self {
        Self::with(store, Self::options(store, options)).await
    }

    pub(crate) fn options(store: &TestStore, options: &[(&str, &str)]) -> ServeOptions {
        let arguments = std::iter::once("smilingchat".to_owned()).chain(command_line(&sqlite(&store.path()), options));
        CommandLine::try_parse_from(arguments).expect("valid options").serve
    }

    /// Starts a replica with options that a test may have changed beyond what the command line allows.
    pub(crate) async fn with(store: &TestStore, options: ServeOptions) -> Self {
        let server = Server::start(options).await.expect("the replica did not start");
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

    pub(crate) async fn stop(mut self) {
        self.start_stopping();
        let ended = within("the replica stops", self.running).await;
        ended.expect("the replica panicked").expect("the replica failed");
    }
}
