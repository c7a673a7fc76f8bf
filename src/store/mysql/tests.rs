//! What tests do on a store's own connections.

use super::{MySql, statements};

impl MySql {
    /// The follower keeps seeing the log as it is now, as on a server whose replication has stopped.
    pub(crate) async fn reads_the_past(&self) {
        let mut pooled = self.following.take().await.unwrap();
        let freeze =
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT";
        statements(freeze.to_owned()).execute(&mut pooled.connection).await.unwrap();
        pooled.keep();
    }
}
