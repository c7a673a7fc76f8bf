//! The database's own insert of the same batches: what no log in that database can be faster than.
//!
//! One row for each commit, with the bytes of as many smiles as an append of ours had on average, as durable as ours.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, MySqlConnection};

use crate::cpu::Processes;
use crate::helper::{self, Helper};
use crate::load::{Figures, median};
use crate::pinning::Core;
use crate::process::folder;

/// Tells this program to insert.
pub(crate) const ROLE: &str = "--be-the-inserts";

/// Numbers that a connection has for its rows, so that no two connections use the same.
const ROWS_OF_A_CONNECTION: i64 = 1_000_000_000_000;

/// What is to be inserted.
#[derive(Deserialize, Serialize)]
struct Plan {
    /// `mysql:` with the rest of a URL, or the path of an SQLite file.
    store: String,
    connections: usize,
    /// Smiles in a row.
    batch: i64,
    /// Bytes in a row.
    bytes: usize,
    duration: Duration,
}

#[derive(Deserialize, Serialize)]
struct Outcome {
    rows: i64,
    seconds: f64,
}

/// What the database does by itself.
#[derive(Clone, Copy)]
pub(crate) struct Inserts {
    /// Rows, and so commits, per second.
    pub(crate) rows_per_second: f64,
    /// The smiles that would be in them.
    pub(crate) smiles_per_second: f64,
    /// Processor time of the inserting process for each of those.
    pub(crate) processor_micros: f64,
    /// Processor time of MySQL for each of those, where it is known.
    pub(crate) mysql_micros: Option<f64>,
}

impl Inserts {
    /// The median of each figure.
    pub(crate) fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(runs.iter().map(figure).collect());
        Self {
            rows_per_second: of(|run| run.rows_per_second),
            smiles_per_second: of(|run| run.smiles_per_second),
            processor_micros: of(|run| run.processor_micros),
            mysql_micros: runs[0].mysql_micros.map(|_| of(|run| run.mysql_micros.unwrap_or(f64::NAN))),
        }
    }
}

/// Inserts into a new SQLite file what a run of our server appended, on the processor of what is measured.
pub(crate) fn on_sqlite(appended: &Figures, duration: Duration) -> Inserts {
    let folder = folder();
    let file = folder.path().join("inserts.db");
    run(&file.display().to_string(), 1, appended, duration, Core::Measured)
}

/// Inserts into this MySQL database what a run of our replicas appended, over so many connections at once.
pub(crate) fn on_mysql(store: &str, connections: usize, appended: &Figures, duration: Duration) -> Inserts {
    run(store, connections, appended, duration, Core::Any)
}

fn run(store: &str, connections: usize, appended: &Figures, duration: Duration, core: Core) -> Inserts {
    let batch = (appended.batch.round() as i64).max(1);
    let bytes = (appended.bytes * batch as f64) as usize;
    let mut helper = Helper::start(ROLE, core, &Plan { store: store.to_owned(), connections, batch, bytes, duration });
    let processes = Processes::numbered([helper.process()]);
    let Outcome { rows, seconds } = helper.work();
    let smiles = (rows * batch) as f64;
    Inserts {
        rows_per_second: rows as f64 / seconds,
        smiles_per_second: smiles / seconds,
        processor_micros: processes.seconds() * 1e6 / smiles,
        mysql_micros: processes.mysql_seconds().map(|seconds| seconds * 1e6 / smiles),
    }
}

/// The helper's side.
pub(crate) async fn work() {
    let plan: Plan = helper::plan();
    let mut connections = Vec::new();
    for number in 0..plan.connections {
        connections.push(Database::open(&plan.store, number == 0).await);
    }
    helper::prepared();
    let began = Instant::now();
    let mut inserting = Vec::new();
    for (number, mut database) in (0_i64..).zip(connections) {
        let payload = vec![b'x'; plan.bytes];
        let (mut first, batch, until) = (number * ROWS_OF_A_CONNECTION, plan.batch, began + plan.duration);
        inserting.push(tokio::spawn(async move {
            let mut rows = 0;
            while Instant::now() < until {
                database.insert(first, &payload).await.expect("an insert");
                first += batch;
                rows += 1;
            }
            rows
        }));
    }
    let mut rows = 0;
    for connection in inserting {
        rows += connection.await.expect("a connection");
    }
    helper::done(&Outcome { rows, seconds: began.elapsed().as_secs_f64() });
}

/// One connection to either database.
enum Database {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
}

impl Database {
    /// Connects; the first connection makes the table.
    async fn open(store: &str, makes_table: bool) -> Self {
        if store.starts_with("mysql:") {
            let mut connection = MySqlConnection::connect(store).await.expect("MySQL is there");
            if makes_table {
                let table = "DROP TABLE IF EXISTS own_inserts;
                    CREATE TABLE own_inserts (first BIGINT PRIMARY KEY, payload MEDIUMBLOB)";
                sqlx::raw_sql(table).execute(&mut connection).await.expect("a table");
            }
            return Self::MySql(connection);
        }
        let options = SqliteConnectOptions::new().filename(store).create_if_missing(true);
        let options = options.journal_mode(SqliteJournalMode::Wal).synchronous(SqliteSynchronous::Full);
        let mut connection = options.connect().await.expect("a file");
        let table = "CREATE TABLE own_inserts (first INTEGER PRIMARY KEY, payload BLOB)";
        sqlx::raw_sql(table).execute(&mut connection).await.expect("a table");
        Self::Sqlite(connection)
    }

    /// Inserts and commits one row.
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
