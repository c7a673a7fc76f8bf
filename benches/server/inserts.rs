//! Plain inserts of the same batches into the database: the lower bound for a log in it.
//!
//! One row per commit, with the average payload of an append and the same durability.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, MySqlConnection};

use crate::cpu::Processes;
use crate::helper::{self, Helper};
use crate::load::{Figures, median};
use crate::pinning::Core;
use crate::process::folder;

/// The argument that starts the insert process.
pub(crate) const ROLE: &str = "--be-the-inserts";

/// The range of row numbers per connection, so that connections do not collide.
const ROWS_OF_A_CONNECTION: i64 = 1_000_000_000_000;

/// The plan of the inserts.
#[derive(Deserialize, Serialize)]
struct Plan {
    /// A `mysql:` URL, or the path of an SQLite file.
    store: String,
    connections: usize,
    /// Smiles per row.
    batch: i64,
    /// Bytes per row.
    bytes: usize,
    duration: Duration,
}

#[derive(Deserialize, Serialize)]
struct Outcome {
    rows: i64,
    seconds: f64,
}

/// The result of plain inserts.
#[derive(Clone, Copy)]
pub(crate) struct Inserts {
    /// Rows per second, which equals commits per second.
    pub(crate) rows_per_second: f64,
    /// Smiles per second, if the rows held smiles.
    pub(crate) smiles_per_second: f64,
    /// CPU time of the inserting process per smile.
    pub(crate) processor_micros: f64,
    /// CPU time of MySQL per smile, if known.
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

/// Repeats the appends of a run as inserts into a new SQLite file, on the CPU of the measured process.
pub(crate) fn on_sqlite(appended: &Figures, duration: Duration) -> Inserts {
    let folder = folder();
    let file = folder.path().join("inserts.db");
    run(&file.display().to_string(), 1, appended, duration, Core::Measured)
}

/// Repeats the appends of a run as inserts into this MySQL database over this many connections.
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

/// The helper process.
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

/// A connection to either database.
enum Database {
    Sqlite(SqliteConnection),
    MySql(MySqlConnection),
}

impl Database {
    /// Connects; the first connection creates the table.
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
