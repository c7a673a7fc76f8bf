//! Two MySQL servers, a primary and its replica, which can switch roles. They connect to each other over the loopback
//! address, so both run on this machine and not in containers.

use url::Url;

use super::environment::script;
use super::mysql::{FrozenServer, address, ask, identify, run};
use super::{eventually, within};

/// The folders of the servers, which only this file uses.
const FOLDERS: [&str; 2] = ["target/mysql-of-failover-1", "target/mysql-of-failover-2"];

/// Removes the state of an earlier test.
const FORGET: &str = "SET GLOBAL transaction_read_only = OFF; STOP REPLICA; RESET REPLICA ALL;
    SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF; RESET BINARY LOGS AND GTIDS";

/// Installs the plugins for both sides of semi-synchronous replication, which stays off at first.
const SEMI_SYNCHRONOUS: &str = "INSTALL PLUGIN rpl_semi_sync_source SONAME 'semisync_source.so';
    INSTALL PLUGIN rpl_semi_sync_replica SONAME 'semisync_replica.so'";
const NOT_SEMI_SYNCHRONOUS: &str =
    "SET GLOBAL rpl_semi_sync_source_enabled = OFF, GLOBAL rpl_semi_sync_replica_enabled = OFF";
const PLUGINS: &str =
    "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.plugins WHERE plugin_name LIKE 'rpl_semi_sync_%'";

pub(crate) struct Pair {
    urls: [Url; 2],
}

impl Pair {
    /// Starts both servers; the first is the primary.
    pub(crate) async fn start() -> Self {
        let [one, two] = FOLDERS.map(|folder| script("start", folder));
        let pair = Self { urls: [one.await, two.await].map(|url| url.parse().expect("the URL should be valid")) };
        for server in [0, 1] {
            identify(&pair.urls[server], server + 1).await;
            if pair.ask(server, PLUGINS).await != "0" {
                pair.run(server, NOT_SEMI_SYNCHRONOUS).await;
            }
            pair.run(server, FORGET).await;
        }
        for server in [0, 1] {
            if pair.ask(server, PLUGINS).await == "0" {
                pair.run(server, SEMI_SYNCHRONOUS).await;
            }
        }
        pair.replicates(1).await;
        pair
    }

    pub(crate) fn url(&self, server: usize) -> &str {
        self.urls[server].as_str()
    }

    pub(crate) fn address(&self, server: usize) -> (String, u16) {
        address(&self.urls[server])
    }

    /// Makes this server read-only and a replica of the other server.
    async fn replicates(&self, server: usize) {
        let source = &self.urls[1 - server];
        let (host, port) = self.address(1 - server);
        let (user, password) = (source.username(), source.password().expect("the URL should have a password"));
        self.run(
            server,
            &format!(
                "SET GLOBAL super_read_only = ON; CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}',
                SOURCE_PORT = {port}, SOURCE_USER = '{user}', SOURCE_PASSWORD = '{password}', SOURCE_AUTO_POSITION = 1,
                SOURCE_CONNECT_RETRY = 1, GET_SOURCE_PUBLIC_KEY = 1; START REPLICA"
            ),
        )
        .await;
    }

    pub(crate) async fn until_replicated(&self) {
        let executed = "SELECT @@GLOBAL.gtid_executed";
        eventually("all transactions are replicated", async || {
            self.ask(0, executed).await == self.ask(1, executed).await
        })
        .await;
    }

    /// Makes the other server the primary in place of this server, without losing transactions.
    pub(crate) async fn hands_over(&self, server: usize) {
        self.run(server, "SET GLOBAL super_read_only = ON").await;
        let executed = self.ask(server, "SELECT @@GLOBAL.gtid_executed").await;
        let wait = format!("SELECT CAST(WAIT_FOR_EXECUTED_GTID_SET('{executed}', 20) AS CHAR)");
        assert_eq!(self.ask(1 - server, &wait).await, "0", "the other server did not catch up within 20 s");
        self.takes_over(1 - server).await;
        self.replicates(server).await;
    }

    /// Makes this server the primary, with the transactions that it has.
    pub(crate) async fn takes_over(&self, server: usize) {
        self.run(
            server,
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF",
        )
        .await;
    }

    pub(crate) fn freezes(server: usize) -> FrozenServer {
        FrozenServer::freeze(FOLDERS[server])
    }

    /// Makes each later commit on the first server wait until the second server has received it, with a timeout that no
    /// test reaches.
    pub(crate) async fn make_semi_synchronous(&self) {
        let source = "SET GLOBAL rpl_semi_sync_source_enabled = ON, GLOBAL rpl_semi_sync_source_timeout = 600000";
        self.run(0, source).await;
        self.run(1, "SET GLOBAL rpl_semi_sync_replica_enabled = ON; STOP REPLICA; START REPLICA").await;
    }

    pub(crate) async fn run(&self, server: usize, statements: &str) {
        run(self.url(server), statements.to_owned()).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    pub(crate) async fn ask(&self, server: usize, question: &str) -> String {
        within("MySQL answers", ask(self.url(server), question)).await.expect("MySQL should answer")
    }
}
