//! Changes that tests make to a store's own connections.

use std::sync::Arc;

use super::connections::Connections;
use super::{MySql, statements};

impl MySql {
    /// From now on, reads of the log show no later batches, as on a server whose replication has stopped.
    pub(crate) async fn freeze_the_follower(&self) {
        let freeze =
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT";
        run(&self.following, freeze).await;
    }

    /// Stops the database's clock at `seconds` seconds from now, for appends and for the reads of retention.
    pub(crate) async fn shift_clock(&self, seconds: i64) {
        let set = format!("SET timestamp = DEFAULT; SET timestamp = UNIX_TIMESTAMP() + {seconds}");
        for connections in [&self.appending, &self.reading] {
            run(connections, &set).await;
        }
    }
}

async fn run(connections: &Arc<Connections>, text: &str) {
    let run = async |mut connection| Ok((statements(text).execute(&mut connection).await?, connection));
    connections.run_once(run).await.unwrap();
}
