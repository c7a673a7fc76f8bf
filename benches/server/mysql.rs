//! The MySQL that replicas are measured on.

use std::process::Command;

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use url::Url;

/// Where `scripts/mysql` keeps the server of the benchmark.
const FOLDER: &str = "target/mysql-bench";

/// A server, and a new database on it.
pub(crate) struct MySql {
    url: Url,
}

impl MySql {
    /// The server that `TEST_MYSQL_URL` names, or one of our own.
    pub(crate) async fn new() -> Self {
        let server = std::env::var("TEST_MYSQL_URL").unwrap_or_else(|_| script("start"));
        let mut mysql = Self { url: server.parse().expect("a URL") };
        let name = format!("chat_bench_{:016x}", rand::random::<u64>());
        mysql.run(format!("CREATE DATABASE {name}")).await;
        mysql.url.set_path(&name);
        mysql
    }

    /// The same with an account that may not follow the binary log.
    pub(crate) async fn without_binlog() -> Self {
        let mut mysql = Self::new().await;
        let (name, password) = (mysql.url.path()[1..].to_owned(), "polling");
        let user = &name[name.len() - 16..];
        mysql.run(format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")).await;
        mysql.run(format!("GRANT ALL ON {name}.* TO '{user}'@'%'")).await;
        mysql.url.set_username(user).expect("a URL with a host");
        mysql.url.set_password(Some(password)).expect("a URL with a host");
        mysql
    }

    /// Removes the database, once nobody uses it.
    pub(crate) async fn remove(self) {
        self.run(format!("DROP DATABASE {}", &self.url.path()[1..])).await;
    }

    async fn run(&self, statement: String) {
        let mut connection = MySqlConnection::connect(self.store()).await.expect("MySQL is there");
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("a statement");
    }

    /// What `--store` takes.
    pub(crate) fn store(&self) -> &str {
        self.url.as_str()
    }

    /// The version of the server.
    pub(crate) async fn version(&self) -> String {
        let mut connection = MySqlConnection::connect(self.store()).await.expect("MySQL is there");
        let version: (String,) =
            sqlx::query_as("SELECT VERSION()").fetch_one(&mut connection).await.expect("its version");
        version.0
    }

    /// The number of the server's process, if it is our own and runs.
    pub(crate) fn process() -> Option<u32> {
        std::env::var("TEST_MYSQL_URL").err()?;
        std::fs::read_to_string(format!("{FOLDER}/mysqld.pid")).ok()?.trim().parse().ok()
    }
}

fn script(command: &str) -> String {
    let done = Command::new("scripts/mysql").args([command, FOLDER]).output().expect("scripts/mysql runs");
    assert!(done.status.success(), "scripts/mysql: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
