//! The MySQL server of the benchmark.

use std::process::Command;
use std::sync::OnceLock;

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};
use url::Url;

/// The folder of the server that `scripts/mysql` starts.
const FOLDER: &str = "target/mysql-bench";

/// The process id of the server, if it is known.
static PROCESS: OnceLock<Option<u32>> = OnceLock::new();

/// A server, and a new database on it.
pub(crate) struct MySql {
    /// The URL of the database, with the account that the measured servers use.
    url: Url,
    /// The URL of the database, with the account that created it.
    owner: Url,
}

impl MySql {
    pub(crate) async fn new() -> Self {
        let server = std::env::var("TEST_MYSQL_URL").ok().filter(|url| !matches!(url.as_str(), "" | "none"));
        let server = server.unwrap_or_else(|| script("start"));
        let server: Url = server.parse().expect("TEST_MYSQL_URL or the output of scripts/mysql should be a URL");
        let mut mysql = Self { url: server.clone(), owner: server };
        let name = format!("chat_bench_{:016x}", rand::random::<u64>());
        mysql.run(format!("CREATE DATABASE {name}")).await.expect("the database should be created");
        mysql.url.set_path(&name);
        mysql.owner.set_path(&name);
        if PROCESS.get().is_none() {
            let _ = PROCESS.set(mysql.find_process().await);
        }
        mysql
    }

    /// Creates a database, and an account that cannot read the binary log; `None` if no account can be created.
    pub(crate) async fn without_binlog() -> Option<Self> {
        let mut mysql = Self::new().await;
        let (name, password) = (mysql.url.path()[1..].to_owned(), "polling");
        let user = name[name.len() - 16..].to_owned();
        let made = mysql.run(format!("CREATE USER '{user}'@'%' IDENTIFIED BY '{password}'")).await;
        if made.is_err() {
            mysql.remove().await;
            return None;
        }
        mysql.run(format!("GRANT ALL ON {name}.* TO '{user}'@'%'")).await.expect("the privileges should be granted");
        mysql.url.set_username(&user).expect("the URL should have a host");
        mysql.url.set_password(Some(password)).expect("the URL should have a host");
        Some(mysql)
    }

    pub(crate) async fn remove(self) {
        let (database, user) = (&self.url.path()[1..], self.url.username());
        let account = if user == self.owner.username() { String::new() } else { format!("; DROP USER '{user}'@'%'") };
        let drop = format!("DROP DATABASE {database}{account}");
        self.run(drop).await.expect("the database and its account should be dropped");
    }

    async fn run(&self, statement: String) -> Result<(), sqlx::Error> {
        let mut connection = MySqlConnection::connect(self.owner.as_str()).await?;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.map(drop)
    }

    pub(crate) fn store(&self) -> &str {
        self.url.as_str()
    }

    pub(crate) async fn version(&self) -> String {
        self.answer("SELECT VERSION()").await
    }

    pub(crate) fn process() -> Option<u32> {
        *PROCESS.get()?
    }

    /// Reads the process id from the server's pid file, which does not exist on this machine if the server is remote or
    /// in a container.
    async fn find_process(&self) -> Option<u32> {
        let file = self.answer("SELECT @@pid_file").await;
        let number = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
        let command = std::fs::read_to_string(format!("/proc/{number}/cmdline")).ok()?;
        command.contains("mysqld").then_some(number)
    }

    async fn answer(&self, question: &'static str) -> String {
        let mut connection = MySqlConnection::connect(self.store()).await.expect("MySQL should accept connections");
        let (answer,): (String,) =
            sqlx::query_as(question).fetch_one(&mut connection).await.expect("MySQL should answer");
        answer
    }
}

fn script(command: &str) -> String {
    let done = Command::new("scripts/mysql").args([command, FOLDER]).output().expect("scripts/mysql should run");
    assert!(done.status.success(), "scripts/mysql failed: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}
