//! Many replicas on one MySQL: durable smiles per second, as a share of what MySQL does for the same batched insert.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Connection, MySqlConnection};

use crate::client::percentile;
use crate::closed_loop::{ACK, closed_loop};
use crate::mysql::MySql;
use crate::process::{Processes, REPLICAS, Server};

/// Sessions in the closed loop, over all replicas: one for each user, so that a smile goes to two sessions and no more.
const SESSIONS: usize = 60;

/// Smiles that each of them keeps unanswered.
const UNANSWERED: usize = 32;

const ROUNDS: usize = 3;

/// How long the bare inserts run.
const LOOP: Duration = Duration::from_secs(3);

/// The closed loop with one and with many replicas, and after each the same inserts without a server, each as large as the
/// replicas' appends were on average: one after the other, as a log must, and as many at once as there are replicas.
pub(crate) async fn share() {
    for count in [1, REPLICAS] {
        let mysql = MySql::new().await;
        let replicas = Server::several_on(mysql.store(), count);
        let mut ratios = Vec::new();
        for round in 1..=ROUNDS {
            let before = mysql.procedure_calls().await;
            let processes = Processes::of(&replicas);
            let (smiles, mut latencies) = closed_loop(&replicas, SESSIONS, UNANSWERED, Some(ACK)).await;
            let used = processes.cores_used();
            let appends = mysql.procedure_calls().await - before;
            let batch = (latencies.len() as f64 / appends as f64).round().max(1.0) as usize;
            let alone = bare_inserts(&mysql, 1, batch).await;
            let at_once = if count == 1 { alone } else { bare_inserts(&mysql, count, batch).await };
            ratios.push((smiles / alone, smiles / at_once));
            println!(
                "inserts {round}: {count} replicas, {SESSIONS} sessions of {UNANSWERED} smiles at a time: {smiles:.0} durable smiles/s in appends of {batch}, ack p50 {:.2} ms p99 {:.2} ms; cores: {used}; the same inserts: {alone:.0} rows/s one after the other, {at_once:.0} with {count} at once",
                percentile(&mut latencies, 50.0),
                percentile(&mut latencies, 99.0),
            );
        }
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (alone, at_once) = ratios[ratios.len() / 2];
        println!(
            "inserts: {count} replicas, durable smiles per bare row: {alone:.2}, {at_once:.2} with {count} at once"
        );
    }
}

/// Rows per second that go into a table like that of the smiles, `batch` in each transaction.
async fn bare_inserts(mysql: &MySql, connections: usize, batch: usize) -> f64 {
    let mut connection = MySqlConnection::connect(mysql.store()).await.expect("MySQL is there");
    let anew = "DROP TABLE IF EXISTS bare; CREATE TABLE bare LIKE smiles";
    sqlx::raw_sql(anew).execute(&mut connection).await.expect("a table");
    let began = Instant::now();
    let inserting: Vec<_> =
        (0..connections).map(|number| tokio::spawn(insert(mysql.store().to_owned(), number, batch))).collect();
    let mut rows = 0;
    for inserter in inserting {
        rows += inserter.await.expect("an inserter");
    }
    rows as f64 / began.elapsed().as_secs_f64()
}

/// One connection's part: how many rows it got in.
async fn insert(url: String, number: usize, batch: usize) -> usize {
    let mut connection = MySqlConnection::connect(&url).await.expect("MySQL is there");
    let began = Instant::now();
    let mut rows = 0;
    while began.elapsed() < LOOP {
        let mut statement =
            "INSERT INTO bare (position, conversation, sender, receiver, id, faces, at) VALUES ".to_owned();
        for row in rows..rows + batch {
            let (comma, position) = (if row == rows { "" } else { "," }, number * 1_000_000_000 + row);
            let (sender, receiver) = (2 * row % 60 + 1, 2 * row % 60 + 2);
            let _ = write!(statement, "{comma}({position},{sender},{sender},{receiver},'c{position}','😀',0)");
        }
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect("an insert");
        rows += batch;
    }
    rows
}
