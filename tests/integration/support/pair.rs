//! Two MySQL servers, a primary and its replica, which can switch roles. They connect over the loopback address, so
//! both run on this machine and not in containers.

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use url::Url;

use super::mysql::{run, script};
use super::within;

/// The folders of the servers, which only this file uses.
const FOLDERS: [&str; 2] = ["target/mysql-of-failover-1", "target/mysql-of-failover-2"];

/// Enables GTIDs. The mode changes one step at a time.
const IDENTITIES: &str = "SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE;
    SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON";

/// Removes the state of an earlier test.
const FORGET: &str = "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF;
    RESET BINARY LOGS AND GTIDS";

/// Two servers.
pub(crate) struct Pair {
    urls: [Url; 2],
}

impl Pair {
    /// Starts both servers; the first is the primary.
    pub(crate) async fn start() -> Self {
        let [one, two] = FOLDERS.map(|folder| script("start", folder));
        let pair = Self { urls: [one.await, two.await].map(|url| url.parse().expect("a URL")) };
        for (server, id) in [(0, 1), (1, 2)] {
            if pair.ask(server, "SELECT @@GLOBAL.gtid_mode").await != "ON" {
                pair.run(server, IDENTITIES).await;
            }
            pair.run(server, &format!("{FORGET}; SET GLOBAL server_id = {id}")).await;
        }
        pair.replicates(1).await;
        pair
    }

    /// The URL for clients.
    pub(crate) fn url(&self, server: usize) -> &str {
        self.urls[server].as_str()
    }

    /// Host and port of a server.
    pub(crate) fn address(&self, server: usize) -> (String, u16) {
        (self.urls[server].host_str().expect("a host").to_owned(), self.urls[server].port().expect("a port"))
    }

    /// Makes this server read-only and a replica of the other one.
    async fn replicates(&self, server: usize) {
        let source = &self.urls[1 - server];
        let (host, port) = self.address(1 - server);
        let (user, password) = (source.username(), source.password().expect("a password"));
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

    /// Makes the other server the primary, without loss.
    pub(crate) async fn hands_over(&self, server: usize) {
        self.run(server, "SET GLOBAL super_read_only = ON").await;
        let executed = self.ask(server, "SELECT @@GLOBAL.gtid_executed").await;
        self.run(1 - server, &format!("SELECT WAIT_FOR_EXECUTED_GTID_SET('{executed}', 20)")).await;
        self.takes_over(1 - server).await;
        self.replicates(server).await;
    }

    /// Makes this server the primary as it is.
    pub(crate) async fn takes_over(&self, server: usize) {
        self.run(
            server,
            "STOP REPLICA; RESET REPLICA ALL; SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF",
        )
        .await;
    }

    /// Executes statements.
    pub(crate) async fn run(&self, server: usize, statements: &str) {
        run(self.url(server), statements.to_owned()).await.unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The single value of a query, as text.
    pub(crate) async fn ask(&self, server: usize, question: &str) -> String {
        let answer = async {
            let mut connection = MySqlConnection::connect(self.url(server)).await?;
            let answer = sqlx::query_scalar(AssertSqlSafe(question)).fetch_one(&mut connection).await?;
            connection.close().await.map(|()| answer)
        };
        within("MySQL answers", answer).await.expect("an answer")
    }
}
