//! New databases, each for one test, on real MySQL servers, and statements that a test executes on these servers. A
//! server is the one at `TEST_MYSQL_URL`, or one that the test has started.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use url::Url;

use super::PATIENCE;
use super::environment::{clean_up, database_name, server_url};
use super::ledger::StoredLog;

/// Enables GTIDs. The mode can change only one step at a time.
const GTIDS: &str = "SET GLOBAL enforce_gtid_consistency = ON; SET GLOBAL gtid_mode = OFF_PERMISSIVE;
    SET GLOBAL gtid_mode = ON_PERMISSIVE; SET GLOBAL gtid_mode = ON;";

/// Dropping this value removes the database and its restricted user.
pub(crate) struct TestDatabase {
    server: Url,
    name: String,
}

impl TestDatabase {
    /// A new database on the server at `TEST_MYSQL_URL`; `None` if that variable is `none`.
    pub(crate) async fn new() -> Option<Self> {
        Some(Self::at(&server_url()?).await)
    }

    /// The user in the URL must be allowed to create databases.
    pub(crate) async fn at(server: &str) -> Self {
        let server: Url = server.parse().expect("a URL");
        let name = database_name();
        run(server.as_str(), format!("CREATE DATABASE {name}")).await.expect("a database");
        Self { server, name }
    }

    /// The `--store` URL of a new user that has all privileges on this database and no other privileges.
    pub(crate) async fn url_of_a_restricted_user(&self) -> String {
        let statements = format!("CREATE USER {0} IDENTIFIED BY 'restricted'; GRANT ALL ON {0}.* TO {0}", self.name);
        run(self.server.as_str(), statements).await.expect("the user in the URL of the server could not create a user");
        let mut url: Url = self.url().parse().expect("a URL");
        url.set_username(&self.name).expect("no user could be set");
        url.set_password(Some("restricted")).expect("no password could be set");
        url.into()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn run(&self, statements: &str) {
        run(&self.url(), statements.to_owned()).await.expect("a statement failed");
    }

    pub(crate) async fn ask(&self, question: &str) -> i64 {
        ask(self.server.as_str(), question).await.expect("an answer")
    }

    pub(crate) async fn log(&self) -> StoredLog {
        StoredLog::in_mysql(self.server.as_str(), &self.name).await
    }

    pub(crate) async fn sessions(&self) -> usize {
        sessions(self.server.as_str(), &self.name).await
    }

    pub(crate) fn server(&self) -> (String, u16) {
        address(&self.server)
    }

    /// The `--store` URL through a proxy at this address.
    pub(crate) fn url_by(&self, address: SocketAddr) -> String {
        let mut url: Url = self.url().parse().expect("a URL");
        url.set_ip_host(address.ip()).expect("no host could be set");
        url.set_port(Some(address.port())).expect("no port could be set");
        url.into()
    }

    pub(crate) fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.into()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.to_string(), &self.name);
        let drop_it = format!("DROP DATABASE IF EXISTS {name}; DROP USER IF EXISTS {name}");
        // A database whose commits still hang after a failed test is left behind.
        clean_up(PATIENCE, async move { run(&server, drop_it).await });
    }
}

/// A server frozen with SIGSTOP: it keeps its connections but answers nothing. Dropping this value resumes the server.
pub(crate) struct FrozenServer {
    process: String,
}

impl FrozenServer {
    /// Freezes the server that `scripts/mysql` runs in this folder.
    pub(crate) fn freeze(folder: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("mysqld.pid");
        let process = std::fs::read_to_string(file).expect("the id of its process").trim().to_owned();
        let frozen = Self { process };
        assert!(frozen.signal("-STOP"), "MySQL could not be frozen");
        frozen
    }

    fn signal(&self, name: &str) -> bool {
        Command::new("kill").args([name, &self.process]).status().is_ok_and(|status| status.success())
    }
}

impl Drop for FrozenServer {
    fn drop(&mut self) {
        // Best effort: the process may be gone.
        self.signal("-CONT");
    }
}

pub(crate) fn address(server: &Url) -> (String, u16) {
    (server.host_str().expect("a host").to_owned(), server.port().unwrap_or(3306))
}

/// Gives the server at this URL an id, and enables GTIDs for its transactions.
pub(crate) async fn identify(server: &Url, id: usize) {
    let mode: String = ask(server.as_str(), "SELECT @@GLOBAL.gtid_mode").await.expect("an answer");
    let gtids = if mode == "ON" { "" } else { GTIDS };
    run(server.as_str(), format!("{gtids} SET GLOBAL server_id = {id}")).await.expect("a variable could not be set");
}

/// The number of connections that use this database on the server at this URL.
pub(crate) async fn sessions(server: &str, database: &str) -> usize {
    let question = format!("SELECT COUNT(*) FROM performance_schema.threads WHERE processlist_db = '{database}'");
    let count: i64 = ask(server, &question).await.expect("an answer");
    usize::try_from(count).expect("a count")
}

pub(crate) async fn ask<T>(server: &str, question: &str) -> Result<T, sqlx::Error>
where
    T: for<'row> sqlx::Decode<'row, sqlx::MySql> + sqlx::Type<sqlx::MySql> + Send + Unpin,
{
    let mut connection = MySqlConnection::connect(server).await?;
    let answer = sqlx::query_scalar(AssertSqlSafe(question)).fetch_one(&mut connection).await?;
    connection.close().await.map(|()| answer)
}

pub(crate) async fn run(server: &str, statement: String) -> Result<(), sqlx::Error> {
    let mut connection = MySqlConnection::connect(server).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}
