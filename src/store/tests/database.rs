//! A new database for each test, removed afterwards.
//!
//! An SQLite database is a file in a temporary folder. A MySQL database is on a real server, usually at the URL in
//! `TEST_MYSQL_URL`. The user in this URL must be allowed to create databases and users. `scripts/mysql start` prints
//! such a URL.

use std::path::Path;
use std::time::Duration;

use sqlx::mysql::MySqlConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, SqliteConnection};

use super::PATIENCE;
use super::environment::{clean_up, database_name, server_url};
use crate::config::{MySqlUrl, StoreUrl};
use crate::store::Store;

#[derive(Debug)]
pub(crate) enum Database {
    /// A file in this folder.
    Sqlite(tempfile::TempDir),
    /// Dropping this value drops the database.
    MySql(MySqlUrl),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// Returns `None` if the tests with MySQL are skipped on purpose.
    pub(crate) async fn mysql() -> Option<Self> {
        Some(Self::mysql_at(&server_url()?).await)
    }

    pub(crate) async fn mysql_at(server: &str) -> Self {
        let Ok(StoreUrl::MySql(server)) = server.parse() else {
            panic!("the URL of the server must be mysql://USER:PASSWORD@HOST:PORT/DATABASE")
        };
        let name = database_name();
        let mut connection = options(&server).connect().await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
        Self::MySql(MySqlUrl { database: name, ..server })
    }

    pub(crate) fn url(&self) -> StoreUrl {
        match self {
            Self::Sqlite(folder) => StoreUrl::Sqlite(folder.path().join("new").join("chat.db")),
            Self::MySql(url) => StoreUrl::MySql(url.clone()),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url()).await.unwrap()
    }

    /// Executes statements over a connection outside the store.
    pub(crate) async fn run(&self, statements: &str) {
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self.url() {
            StoreUrl::Sqlite(path) => statements.execute(&mut connect_to(&path).await).await.map(|_| ()),
            StoreUrl::MySql(_) => statements.execute(&mut self.connect().await).await.map(|_| ()),
        }
        .unwrap();
    }

    /// Runs a query that selects one integer per row, over a connection outside the store.
    pub(crate) async fn numbers(&self, query: &str) -> Vec<i64> {
        let query = AssertSqlSafe(query.to_owned());
        match self.url() {
            StoreUrl::Sqlite(path) => sqlx::query_scalar(query).fetch_all(&mut connect_to(&path).await).await,
            StoreUrl::MySql(_) => sqlx::query_scalar(query).fetch_all(&mut self.connect().await).await,
        }
        .unwrap()
    }

    /// A new connection that has executed this statement, for example to hold a lock until the connection is dropped.
    pub(crate) async fn holding(&self, statement: &'static str) -> sqlx::MySqlConnection {
        let mut connection = self.connect().await;
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection
    }

    /// Waits until this many sessions of the database in MySQL are in this state.
    pub(crate) async fn until_in_state(&self, state: &str, count: i64) {
        let query = format!(
            "SELECT CAST(COUNT(*) AS SIGNED) FROM performance_schema.threads \
             WHERE processlist_db = DATABASE() AND processlist_state = '{state}'"
        );
        let reached = async {
            while self.numbers(&query).await != [count] {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("MySQL's sessions should reach the state");
    }

    pub(crate) async fn connect(&self) -> sqlx::MySqlConnection {
        let Self::MySql(url) = self else { panic!("only a MySQL database has a server") };
        options(url).connect().await.unwrap()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Self::MySql(url) = self else { return };
        let (options, drop_it) = (options(url), format!("DROP DATABASE IF EXISTS {}", url.database));
        clean_up(PATIENCE, async move {
            let mut connection = options.connect().await?;
            sqlx::raw_sql(AssertSqlSafe(drop_it)).execute(&mut connection).await
        });
    }
}

async fn connect_to(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(10));
    options.connect().await.unwrap()
}

fn options(url: &MySqlUrl) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new().host(&url.host).port(url.port).username(&url.user).database(&url.database);
    let options = options.disable_statement_logging();
    match &url.password {
        Some(password) => options.password(password),
        None => options,
    }
}
