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
        let mut url: Url = server.parse().expect("a URL");
        let name = format!("chat_bench_{:016x}", rand::random::<u64>());
        let mut connection = MySqlConnection::connect(url.as_str()).await.expect("MySQL is there");
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.expect("a database");
        url.set_path(&name);
        Self { url }
    }

    /// What `--store` takes.
    pub(crate) fn store(&self) -> &str {
        self.url.as_str()
    }

    /// The number of the server's process, if it is our own.
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
