//! No reader sees an interrupted write of the index, and the next start completes the write.
//!
//! A trigger interrupts the write at one row. On SQLite, the trigger makes the transaction with this row fail. On
//! MySQL, the trigger kills the writer's connection.

use super::*;
use crate::index;
use crate::telemetry::Metrics;

on_every_database! {
    an_interrupted_index_write_is_completed,
}

/// The first segment of the log. The segments before it count as removed by retention. The write of [`CUT`] supersedes
/// one block of each of the segments 0 to 31; of these blocks, only the block of segment 31 exists.
const FIRST: u64 = 31;

/// The segment whose write is interrupted. The write also merges a slice of a run, and supersedes the blocks that were
/// merged into the same slice of the previous run.
const CUT: u64 = 64;

/// The number of full segments from [`CUT`] on. Opening the index leaves at most two segments of smiles to the indexer,
/// so opening it writes [`CUT`] and reports the error.
const BEHIND: u64 = 3;

/// Number of rows from one cut to the next. On SQLite, a transaction writes at most this number of blocks. On MySQL,
/// one transaction writes the whole segment.
const STRIDE: usize = 16;

fn trigger(database: &Database, event: &str, table: &str, row: &str) -> String {
    match database {
        Database::Sqlite(_) => {
            format!("CREATE TRIGGER cut BEFORE {event} ON {table} WHEN {row} BEGIN SELECT RAISE(ABORT, 'cut'); END")
        }
        Database::MySql(_) => format!(
            "CREATE TRIGGER cut BEFORE {event} ON {table} FOR EACH ROW \
             IF {row} THEN KILL CONNECTION CONNECTION_ID(); END IF"
        ),
    }
}

async fn save(database: &Database, name: &str) {
    database.run(&format!("CREATE TABLE {name}_conversations AS SELECT * FROM index_conversations")).await;
    database.run(&format!("CREATE TABLE {name}_ids AS SELECT * FROM index_ids")).await;
}

/// Restores the index of the segments before [`CUT`].
async fn restore(database: &Database) {
    for table in ["conversations", "ids"] {
        database.run(&format!("DELETE FROM index_{table}")).await;
        database.run(&format!("INSERT INTO index_{table} SELECT * FROM before_{table}")).await;
    }
    database.run(&format!("UPDATE log_state SET indexed = {CUT}")).await;
}

async fn differing_rows(database: &Database) -> i64 {
    let mut sum = 0;
    for table in ["conversations", "ids"] {
        let (index, whole) = (format!("index_{table}"), format!("whole_{table}"));
        for (one, other) in [(&index, &whole), (&whole, &index)] {
            let rows = format!("SELECT * FROM {one} EXCEPT SELECT * FROM {other}");
            sum += database.numbers(&format!("SELECT count(*) FROM ({rows}) AS differing")).await[0];
        }
    }
    sum
}

/// The first of every [`STRIDE`] rows, and the last row.
fn some(rows: Vec<i64>) -> Vec<i64> {
    let last = rows.len() - 1;
    let is_some = |place: usize| place.is_multiple_of(STRIDE) || place == last;
    rows.into_iter().enumerate().filter(|(place, _)| is_some(*place)).map(|(_, row)| row).collect()
}

/// Where to cut: event, table and row of each trigger. The table `before_ids` holds the blocks that existed before the
/// write of [`CUT`].
async fn cuts(database: &Database) -> Vec<(&'static str, &'static str, String)> {
    let conversations = format!("SELECT conversation FROM index_conversations WHERE segment = {CUT}");
    let new = "SELECT block FROM index_ids WHERE block NOT IN (SELECT block FROM before_ids) ORDER BY block";
    let superseded = "SELECT block FROM before_ids WHERE block NOT IN (SELECT block FROM index_ids)";
    let mut cuts = vec![("UPDATE", "log_state", format!("OLD.indexed = {CUT} AND NEW.indexed > {CUT}"))];
    for conversation in some(database.numbers(&conversations).await) {
        let row = format!("NEW.conversation = {conversation} AND NEW.segment = {CUT}");
        cuts.push(("INSERT", "index_conversations", row));
    }
    for block in some(database.numbers(new).await) {
        cuts.push(("INSERT", "index_ids", format!("NEW.block = {block}")));
    }
    for block in some(database.numbers(superseded).await) {
        cuts.push(("DELETE", "index_ids", format!("OLD.block = {block}")));
    }
    cuts
}

/// Appends smiles and indexes all full segments.
async fn grow(database: &Database, smiles: &[NewSmile]) {
    let replica = Replica::start(database.open().await).await;
    append_all(&replica.store, smiles).await;
    replica.tail.read().await.unwrap();
    replica.until_indexed().await;
    replica.kill().await;
}

async fn open_until_cut(database: &Database, cut: &str) {
    let store = database.open().await;
    let opened = index::open(&store, Arc::default(), Arc::new(Metrics::new())).await;
    assert!(matches!(opened, Err(StoreError::Unavailable(_))), "the trigger did not interrupt the write: {cut}");
    store.close().await;
}

async fn an_interrupted_index_write_is_completed(database: &Database) {
    let mut random = random();
    let store = database.open().await;
    let smiles = some_smiles(&store, &mut random, (CUT + BEHIND - FIRST) * SEGMENT + 100, "c");
    store.close().await;
    database.run(&format!("UPDATE log_state SET trimmed = {}, indexed = {FIRST}", FIRST * SEGMENT)).await;
    let segment = usize::try_from(SEGMENT).unwrap();
    let (before, rest) = smiles.split_at(usize::try_from(CUT - FIRST).unwrap() * segment);
    grow(database, before).await;
    save(database, "before").await;
    let (cut_one, rest) = rest.split_at(segment);
    grow(database, cut_one).await;
    let cuts = cuts(database).await;
    grow(database, rest).await;
    save(database, "whole").await;

    let store = database.open().await;
    let log = whole_log(&store).await;
    store.close().await;
    let start = Offset((CUT - 1) * SEGMENT);
    let newest = &log[usize::try_from(start.0 - FIRST * SEGMENT).unwrap()..];
    for (event, table, row) in cuts {
        let cut = format!("{event} {table} {row}");
        restore(database).await;
        database.run(&trigger(database, event, table, &row)).await;
        open_until_cut(database, &cut).await;
        database.run("DROP TRIGGER cut").await;
        assert_eq!(
            database.numbers("SELECT indexed FROM log_state").await,
            [i64::try_from(CUT).unwrap()],
            "the interrupted segment counted as indexed after {cut}"
        );

        let replica = Replica::start(database.open().await).await;
        let repeats: Vec<_> = (0..5).map(|_| random.random_range(0..smiles.len())).collect();
        for place in repeats {
            let answer = replica.send(&smiles[place..=place]).await;
            assert_eq!(answer, [Answer::Duplicate(log[place].offset)], "a repeat got a wrong answer after {cut}");
        }
        replica.until_indexed().await;
        assert_eq!(differing_rows(database).await, 0, "the index was wrong after {cut}");
        for user in USERS {
            assert!(
                replica.stream(user, start, 200).await.unwrap() == of_user(newest, user),
                "the stream of {user} was wrong after {cut}"
            );
        }
        let users = (replica.user("anna"), replica.user("bruno"));
        let (page, _) = replica.index.history(users, None, 200).await.unwrap();
        let history = of_user(&of_user(newest, "anna"), "bruno");
        assert!(
            page == history[history.len() - page.len()..] && page.len() == 200,
            "the history was wrong after {cut}"
        );
        replica.kill().await;
    }
}
