//! Plain inserts into a database: a lower bound on the cost of a log in that database.
//!
//! Each commit inserts one row. The row has the average length of the newest 1,000 rows of our log, and is as durable
//! as they are.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, MySqlConnection};

use crate::cpu::Processes;
use crate::helper::{self, Helper};
use crate::load::{Figures, median};
use crate::pinning::Core;
use crate::process::folder;

pub(crate) const ROLE: &str = "--be-the-inserts";

/// The distance between the first row numbers of consecutive connections, large enough to keep row numbers distinct.
const ROWS_OF_A_CONNECTION: i64 = 1_000_000_000_000;

#[derive(Deserialize, Serialize)]
struct Plan {
    /// The store with our log: a `mysql:` or a `sqlite:` URL.
    log: String,
    /// The URL of the store to insert into.
    store: String,
    connections: usize,
    /// The number of smiles that each row stands for.
    batch: i64,
    duration: Duration,
}

#[derive(Deserialize, Serialize)]
struct Outcome {
    /// Bytes per row.
    bytes: usize,
    rows: i64,
    seconds: f64,
}

#[derive(Clone, Copy)]
pub(crate) struct Inserts {
    /// Bytes per row.
    pub(crate) bytes: usize,
    /// Each row is one commit.
    pub(crate) rows_per_second: f64,
    /// The smiles per second that these rows would hold.
    pub(crate) smiles_per_second: f64,
    /// CPU time of the inserting process per smile, in microseconds.
    pub(crate) processor_micros: f64,
    /// CPU time of MySQL per smile, in microseconds, if known.
    pub(crate) mysql_micros: Option<f64>,
}

impl Inserts {
    /// The median of each figure, except for the bytes per row, which are those of the first run.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            bytes: runs[0].bytes,
            rows_per_second: of(|run| run.rows_per_second),
            smiles_per_second: of(|run| run.smiles_per_second),
            processor_micros: of(|run| run.processor_micros),
            mysql_micros: runs[0].mysql_micros.map(|_| of(|run| run.mysql_micros.unwrap_or(f64::NAN))),
        }
    }
}

/// Inserts rows into a new SQLite file. Each row has the average length of the newest rows in `log`, and stands for the
/// average number of smiles in an append of the run `appended`.
pub(crate) fn on_sqlite(log: &str, appended: &Figures, duration: Duration) -> Inserts {
    let folder = folder();
    let store = format!("sqlite:{}", folder.path().join("inserts.db").display());
    run(log, store, 1, appended, duration, Core::Measured)
}

/// Inserts rows into the database at `store`, which also holds our log. [`on_sqlite`] explains the length of the rows,
/// and `appended`.
pub(crate) fn on_mysql(store: &str, connections: usize, appended: &Figures, duration: Duration) -> Inserts {
    run(store, store.to_owned(), connections, appended, duration, Core::Any)
}

fn run(log: &str, store: String, connections: usize, appended: &Figures, duration: Duration, core: Core) -> Inserts {
    let batch = (appended.batch.round() as i64).max(1);
    let mut helper = Helper::start(ROLE, core, &Plan { log: log.to_owned(), store, connections, batch, duration });
    let processes = Processes::numbered([helper.process()]);
    let Outcome { bytes, rows, seconds } = helper.work();
    let smiles = (rows * batch) as f64;
    Inserts {
        bytes,
        rows_per_second: rows as f64 / seconds,
        smiles_per_second: smiles / seconds,
        processor_micros: processes.seconds() * 1e6 / smiles,
        mysql_micros: processes.mysql_seconds().map(|seconds| seconds * 1e6 / smiles),
    }
}

/// Inserts rows, as the helper process.
pub(crate) async fn work() {
    let plan: Plan = helper::plan();
    let bytes = Database::connect(&plan.log).await.row_bytes().await;
    let mut connections = Vec::new();
    for number in 0..plan.connections {
        connections.push(Database::open(&plan.store, number == 0).await);
    }
    helper::prepared();
    let began = Instant::now();
    let mut inserting = Vec::new();
    for (number, mut database) in (0_i64..).zip(connections) {
        let payload = vec![b'x'; bytes];
        let (mut first, batch, until) = (number * ROWS_OF_A_CONNECTION, plan.batch, began + plan.duration);
        inserting.push(tokio::spawn(async move {
            let mut rows = 0;
            while Instant::now() < until {
                database.insert(first, &payload).await.expect("the row should be inserted");
                first += batch;
                rows += 1;
            }
            rows
        }));
    }
    let mut rows = 0;
    for connection in inserting {
        rows += connection.await.expect("no connection's task should panic");
    }
    helper::done(&Outcome { bytes, rows, seconds: began.elapsed().as_secs_f64() });
}

enum Database {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
}

impl Database {
    /// On MySQL, only the connection with `makes_table` creates the table, after dropping that of the previous run.
    async fn open(store: &str, makes_table: bool) -> Self {
        let mut database = Self::connect(store).await;
        match &mut database {
            Self::Sqlite(connection) => {
                let table = "CREATE TABLE own_inserts (first INTEGER PRIMARY KEY, payload BLOB)";
                sqlx::raw_sql(table).execute(connection).await.expect("the table should be created");
            }
            Self::MySql(connection) if makes_table => {
                let table = "DROP TABLE IF EXISTS own_inserts;
                    CREATE TABLE own_inserts (first BIGINT PRIMARY KEY, payload MEDIUMBLOB)";
                sqlx::raw_sql(table).execute(connection).await.expect("the table should be created");
            }
            Self::MySql(_) => {}
        }
        database
    }

    async fn connect(store: &str) -> Self {
        let Some(file) = store.strip_prefix("sqlite:") else {
            return Self::MySql(MySqlConnection::connect(store).await.expect("MySQL should accept connections"));
        };
        let options = SqliteConnectOptions::new().filename(file).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        Self::Sqlite(options.connect().await.expect("the SQLite file should open"))
    }

    async fn row_bytes(&mut self) -> usize {
        const LENGTHS: &str = "SELECT LENGTH(payload) FROM log_batches ORDER BY first DESC LIMIT 1000";
        let lengths: Vec<i64> = match self {
            Self::Sqlite(connection) => sqlx::query_scalar(LENGTHS).fetch_all(connection).await,
            Self::MySql(connection) => sqlx::query_scalar(LENGTHS).fetch_all(connection).await,
        }
        .expect("our log should be readable");
        assert!(!lengths.is_empty(), "our log should hold the smiles of the run before");
        lengths.iter().sum::<i64>() as usize / lengths.len()
    }

    async fn insert(&mut self, first: i64, payload: &[u8]) -> Result<(), sqlx::Error> {
        const INSERT: &str = "INSERT INTO own_inserts (first, payload) VALUES (?, ?)";
        match self {
            Self::Sqlite(connection) => {
                sqlx::query(INSERT).bind(first).bind(payload).execute(connection).await?;
            }
            Self::MySql(connection) => {
                sqlx::query(INSERT).bind(first).bind(payload).execute(connection).await?;
            }
        }
        Ok(())
    }
}
