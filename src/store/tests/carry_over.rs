//! The upgrade of the previous version's database, which has one row per smile.

use std::fmt::Write as _;
use std::sync::Arc;
use std::task::Poll;

use sqlx::migrate::Migrator;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Executor, MySqlConnection};
use tokio::sync::Barrier;

use super::cluster::cluster_of;
use super::*;
use crate::model::Epoch;
use crate::store::carry_over::{StoredRow, next_step};
use crate::store::user_directory::UserDirectory;

on_every_database! {
    every_smile_is_carried_over_unchanged,
    a_fully_trimmed_log_continues_its_offsets,
    an_interrupted_carry_over_continues,
    a_start_that_was_interrupted_anywhere_is_completed_by_the_next,
    carried_over_smiles_keep_their_age,
}

/// The last migration of the previous version, on SQLite and on MySQL.
const BEFORE: (i64, i64) = (4, 10);

const EPOCH: &str = "00112233445566778899aabbccddeeff";

const USERS: [(u32, &str); 4] = [(1, "anna"), (2, "bruno"), (64, "viola"), (33, "greta")];

/// MySQL's error for a missing table, and its SQLSTATE.
const NO_TABLE: i64 = 1146;
const NO_TABLE_STATE: &str = "42S02";

/// The time of offset 0, in milliseconds since 1970. Each smile is 7 ms later than the previous one.
const START: i64 = 1_795_410_000_000;

/// Fills a database as the previous version would. Returns the smiles that retention has not removed.
pub(crate) async fn fill_previous_version(database: &Database, trimmed: u64, head: u64) -> Vec<Smile> {
    migrate(database, BEFORE).await;
    let mut smiles = Vec::new();
    let offsets: Vec<u64> = (trimmed + 1..=head).collect();
    for some in offsets.chunks(2000) {
        let mut rows =
            "INSERT INTO smiles (position, conversation, sender, receiver, id, faces, at) VALUES ".to_owned();
        for (place, offset) in some.iter().enumerate() {
            let step = usize::try_from(*offset).unwrap();
            let ((sender, from), (receiver, to)) = (USERS[step % 4], USERS[(step + 1 + step % 3) % 4]);
            let (sender, receiver) = (i64::from(sender), i64::from(receiver));
            let faces = if step.is_multiple_of(5) { "❤️😶‍🌫️" } else { "😀" };
            let conversation = (sender.min(receiver) << 32) | sender.max(receiver);
            let at = START + i64::try_from(*offset).unwrap() * 7;
            let comma = if place > 0 { "," } else { "" };
            let _ =
                write!(rows, "{comma}({offset}, {conversation}, {sender}, {receiver}, 'c{offset}', '{faces}', {at})");
            smiles.push(Smile {
                offset: Offset(*offset),
                id: SmileId::parse(&format!("c{offset}")).unwrap(),
                from: UserName::new(from),
                to: UserName::new(to),
                faces: Faces::parse(faces).unwrap(),
                at: Timestamp(at),
            });
        }
        database.run(&rows).await;
    }
    database.run(&format!("UPDATE log SET epoch = '{EPOCH}', head = {head}, trimmed = {trimmed}")).await;
    smiles
}

/// Runs the migrations up to version `through.0` on SQLite, or up to version `through.1` on MySQL.
async fn migrate(database: &Database, through: (i64, i64)) {
    let up_to = |mut migrator: Migrator, last| {
        migrator.migrations.to_mut().retain(|migration| migration.version <= last);
        migrator
    };
    match database.url() {
        StoreUrl::Sqlite(path) => {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let mut file = SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
            up_to(sqlx::migrate!("sql/sqlite"), through.0).run_direct(None, &mut file, false).await.unwrap();
        }
        StoreUrl::MySql(_) => {
            let mut server = database.connect().await;
            up_to(sqlx::migrate!("sql/mysql"), through.1).run_direct(None, &mut server, false).await.unwrap();
        }
    }
}

async fn assert_carried_over(database: &Database, smiles: &[Smile]) -> Store {
    let store = database.open().await;
    let log = whole_log(&store).await;
    assert_eq!(log.len(), smiles.len());
    for (carried, before) in log.iter().zip(smiles) {
        assert_eq!(carried, before);
    }
    let (first, last) = (smiles.first().unwrap().offset, smiles.last().unwrap().offset);
    assert_eq!(store.log_state().await.unwrap(), state(last, Offset(first.0 - 1)));
    store
}

fn state(head: Offset, trimmed: Offset) -> LogPage {
    LogPage { epoch: Epoch::new(EPOCH), head, trimmed, previous: None, batches: Vec::new() }
}

async fn every_smile_is_carried_over_unchanged(database: &Database) {
    // Converting this many smiles takes several transactions.
    let smiles = fill_previous_version(database, 3000, 48_210).await;
    let store = assert_carried_over(database, &smiles).await;
    append(&store, &["next"]).await;
    assert_eq!(store.log_state().await.unwrap().head, Offset(48_211));
    store.close().await;
    drop(store);
    let again = database.open().await;
    assert_eq!(whole_log(&again).await.len(), smiles.len() + 1, "the smiles were carried over twice");
}

async fn a_fully_trimmed_log_continues_its_offsets(database: &Database) {
    fill_previous_version(database, 20, 20).await;
    let store = database.open().await;
    assert_eq!(store.log_state().await.unwrap(), state(Offset(20), Offset(20)));
    append(&store, &["next"]).await;
    assert_eq!(whole_log(&store).await[0].offset, Offset(21));
}

async fn an_interrupted_carry_over_continues(database: &Database) {
    let smiles = fill_previous_version(database, 70, 25_000).await;
    migrate(database, (i64::MAX, i64::MAX)).await;
    // Commits the first part of the conversion.
    let row_id = |user: &UserName| USERS.iter().find(|(_, name)| *name == user.as_str()).unwrap().0.into();
    let row = |smile: &Smile| {
        let (id, faces) = (smile.id.as_str().to_owned(), smile.faces.as_str().to_owned());
        (integer(smile.offset.0), row_id(&smile.from), row_id(&smile.to), id, faces, smile.at.0)
    };
    let rows: Vec<StoredRow> = smiles[..3500].iter().map(row).collect();
    let directory = UserDirectory::new(USERS.map(|(id, name)| (id, name.to_owned(), String::new())).to_vec());
    database.run(&next_step(&rows, &directory).unwrap()).await;
    assert_carried_over(database, &smiles).await;
}

/// Opens the store. Drops the attempt after `polls` polls, as if the process were killed, and then returns `None`.
async fn open_for(database: &Database, mut polls: usize) -> Option<Store> {
    let mut opening = Box::pin(database.open());
    let cut = std::future::poll_fn(move |context| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        opening.as_mut().poll(context).map(Some)
    });
    cut.await
}

/// Appends as a replica of the previous version would, until its table is gone. Returns the acknowledged smiles.
async fn append_as_before(mut older: MySqlConnection, name: &str, begun: Arc<Barrier>) -> Vec<(Offset, String)> {
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    loop {
        let ids = [format!("{name}-{number}"), format!("{name}-{}", number + 1)];
        let batch = ids.each_ref().map(|id| format!("[1, \"{id}\", 2, 4294967298, \"😀\"]"));
        let call = format!("CALL append_smiles('[{}]', {})", batch.join(","), START + 1_000_000_000);
        let row = sqlx::raw_sql(AssertSqlSafe(call)).fetch_one(&mut older).await.unwrap();
        match (sqlx::Row::get::<Option<i64>, _>(&row, 0), sqlx::Row::get(&row, 1)) {
            (Some(head), None::<i64>) => {
                acknowledged.extend(ids.into_iter().zip(1..).map(|(id, place)| (offset(head + place), id)));
            }
            (None, Some(NO_TABLE)) => return acknowledged,
            answer => panic!("unexpected answer to an append: {answer:?}"),
        }
        number += 2;
        if number == 20 {
            begun.wait().await;
        }
    }
}

/// Removes the oldest smiles up to offset 900 as a replica of the previous version would, until its table is gone.
async fn trim_as_before(mut older: MySqlConnection, begun: Arc<Barrier>) {
    older.execute("SET innodb_lock_wait_timeout = 1, lock_wait_timeout = 1").await.unwrap();
    begun.wait().await;
    for last in 1.. {
        let last = last.min(900);
        let trim = format!(
            "ROLLBACK; BEGIN; DELETE FROM smiles WHERE position <= {last}; \
             UPDATE log SET trimmed = GREATEST(trimmed, {last}) WHERE one = 1; COMMIT"
        );
        // The previous version rolls back and tries again if it does not get a lock.
        let trimmed = sqlx::raw_sql(AssertSqlSafe(trim)).execute(&mut older).await;
        let state = trimmed.err().and_then(|error| Some(error.as_database_error()?.code()?.into_owned()));
        if state.as_deref() == Some(NO_TABLE_STATE) {
            return;
        }
    }
}

async fn a_start_that_was_interrupted_anywhere_is_completed_by_the_next(database: &Database) {
    let smiles = fill_previous_version(database, 0, 25_000).await;
    let (mut appending, mut trimming) = (Vec::new(), None);
    if let Database::MySql(_) = database {
        let begun = Arc::new(Barrier::new(4));
        for name in ["be1", "be2"] {
            appending.push(tokio::spawn(append_as_before(database.connect().await, name, Arc::clone(&begun))));
        }
        trimming = Some(tokio::spawn(trim_as_before(database.connect().await, Arc::clone(&begun))));
        begun.wait().await;
    }
    let (mut polls, mut store) = (1, None);
    while store.is_none() {
        store = open_for(database, polls).await;
        polls += 5;
    }
    let store = store.unwrap();
    let log = whole_log(&store).await;
    let trimmed = store.log_state().await.unwrap().trimmed;
    let mut offsets = smiles.len();
    for acknowledged in futures_util::future::join_all(appending).await {
        let acknowledged = acknowledged.unwrap();
        offsets += acknowledged.len();
        for (offset, id) in acknowledged {
            let found = log.iter().find(|smile| smile.offset == offset).map(|smile| smile.id.as_str());
            assert_eq!(
                found,
                Some(&*id),
                "the smile acknowledged at offset {offset} was not among the {} smiles in the log \
                 (fewer than {polls} polls per start)",
                log.len()
            );
        }
    }
    if let Some(trimming) = trimming {
        trimming.await.unwrap();
    }
    let kept = usize::try_from(trimmed.0).unwrap();
    assert_eq!(log.len() + kept, offsets);
    assert!(log[..smiles.len() - kept] == smiles[kept..]);
    append(&store, &["next"]).await;
}

async fn carried_over_smiles_keep_their_age(database: &Database) {
    let smiles = fill_previous_version(database, 0, 3500).await;
    let store = assert_carried_over(database, &smiles).await;
    let age = Timestamp::now().0 - smiles[2500].at.0;
    let kept = Duration::from_millis(age.unsigned_abs());
    let (trimmed, removed) = store.trim(kept, 99).await.unwrap().unwrap();
    assert_eq!((trimmed, removed), (Offset(2000), 2000));
}

#[tokio::test]
async fn replica_numbers_of_a_file_continue_after_an_upgrade() {
    let database = Database::sqlite();
    fill_previous_version(&database, 0, 1).await;
    let replicas = "INSERT INTO replicas (number, name, host, version, capacity, started_at, renewed_at)
        VALUES (16, 'be1', 'here', '0', 1, 1, 1), (17, 'be1', 'here', '0', 1, 1, 1);
        DELETE FROM replicas WHERE number = 17";
    database.run(replicas).await;
    for expected in [18, 19] {
        let Store::Sqlite(file) = database.open().await else { panic!("the store is not a file") };
        assert_eq!(file.starts, expected);
    }
}

#[tokio::test]
async fn a_crash_during_any_migration_is_repaired() {
    let versions: Vec<_> = sqlx::migrate!("sql/mysql").iter().map(|migration| migration.version).collect();
    for version in versions.into_iter().filter(|version| *version > BEFORE.1) {
        let Some(database) = Database::mysql().await else { return };
        let smiles = fill_previous_version(&database, 5, 1200).await;
        migrate(&database, (0, version)).await;
        database.run(&format!("UPDATE _sqlx_migrations SET success = FALSE WHERE version = {version}")).await;
        let store = assert_carried_over(&database, &smiles).await;
        append(&store, &["next"]).await;
        let replicas = cluster_of(&store).replicas().await.unwrap();
        assert_eq!(replicas, [], "replicas were listed after a crash in migration {version}");
    }
}

#[tokio::test]
async fn concurrent_starts_carry_over_once() {
    let Some(database) = Database::mysql().await else { return };
    let smiles = fill_previous_version(&database, 0, 21_000).await;
    let stores = futures_util::future::join_all((0..4).map(|_| database.open())).await;
    for store in &stores {
        assert!(whole_log(store).await == smiles);
    }
}

#[tokio::test]
async fn a_replica_of_the_previous_version_can_no_longer_append() {
    let Some(database) = Database::mysql().await else { return };
    let smiles = fill_previous_version(&database, 0, 30).await;
    assert_carried_over(&database, &smiles).await;
    let mut older = database.connect().await;
    let call = "CALL append_smiles('[[1, \"late\", 2, 4294967298, \"😀\"]]', 7)";
    let (head, failed): (Option<i64>, Option<i64>) = {
        let row = sqlx::raw_sql(call).fetch_one(&mut older).await.unwrap();
        (sqlx::Row::get(&row, 0), sqlx::Row::get(&row, 1))
    };
    assert_eq!((head, failed), (None, Some(1146)), "the table of the previous version still existed");
    let epoch: String = sqlx::query_scalar("SELECT epoch FROM log").fetch_one(&mut older).await.unwrap();
    assert_ne!(epoch, EPOCH);
    let renewal = sqlx::raw_sql("UPDATE replicas SET renewed_at = 1").execute(&mut older).await;
    assert!(renewal.is_err());
    assert_eq!(database.open().await.log_state().await.unwrap().head, Offset(30));
}
