//! What tests do on a store's own connections.

use super::{MySql, statements};

impl MySql {
    /// The follower keeps seeing the log as it is now, as on a server whose replication has stopped.
    pub(crate) async fn reads_the_past(&self) {
        let freeze =
            "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ; START TRANSACTION WITH CONSISTENT SNAPSHOT";
        let set = async |mut connection| Ok((statements(freeze).execute(&mut connection).await?, connection));
        self.following.ask_once(set).await.unwrap();
    }
}
