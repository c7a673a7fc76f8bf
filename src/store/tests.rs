//! Tests the guarantees of the store. What both databases guarantee is tested on both.

pub(crate) mod carry_over;
mod cluster;
pub(crate) mod database;
#[path = "../../tests/integration/support/environment.rs"]
pub(crate) mod environment;
pub(crate) mod mysql;

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use self::database::Database;
use super::*;
use crate::config::StoreUrl;
use crate::model::{Faces, NewSmile, Smile, SmileId, Timestamp};

/// How long a test waits for an event that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Generates one test per database for each function.
macro_rules! on_every_database {
    ($($story:ident,)+) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $story() {
                super::$story(&crate::store::tests::database::Database::sqlite()).await;
            })+
        }

        mod on_mysql {
            $(#[tokio::test]
            async fn $story() {
                if let Some(database) = crate::store::tests::database::Database::mysql().await {
                    super::$story(&database).await;
                }
            })+
        }
    };
}
pub(crate) use on_every_database;

on_every_database! {
    a_batch_is_appended_only_after_the_one_it_names,
    appending_a_batch_again_stores_it_once,
    one_of_several_batches_for_an_offset_is_accepted,
    the_log_survives_reopening,
    a_batch_is_found_by_any_offset_in_it,
    retention_removes_the_oldest_batches_and_reuses_no_offset,
    no_offset_appears_below_one_that_was_read,
    a_segment_survives_a_round_trip,
    there_are_256_users_with_names_and_faces,
    a_database_of_another_program_is_refused_and_unchanged,
}

pub(crate) fn smile(store: &Store, from: &str, to: &str, id: &str) -> NewSmile {
    NewSmile {
        id: SmileId::parse(id).unwrap(),
        from: store.user(from).unwrap().clone(),
        to: store.user(to).unwrap().clone(),
        faces: Faces::parse("😀").unwrap(),
    }
}

/// A batch for the end of the log: smiles from anna to bruno with these ids.
async fn batch(store: &Store, ids: &[&str]) -> NewBatch {
    let smiles: Vec<_> = ids.iter().map(|id| smile(store, "anna", "bruno", id)).collect();
    batch_of(store, &smiles).await
}

async fn batch_of(store: &Store, smiles: &[NewSmile]) -> NewBatch {
    let head = store.log_state().await.unwrap().head;
    let last = store.batch_at(head).await.unwrap();
    store.new_batch(last.map(|last| last.key), head, smiles, Timestamp::now())
}

/// Appends smiles to a log without other writers.
pub(crate) async fn append_all(store: &Store, smiles: &[NewSmile]) {
    for some in smiles.chunks(store.batch_limit().smiles) {
        assert_eq!(store.append(&batch_of(store, some).await).await.unwrap(), Append::Done);
    }
}

async fn append(store: &Store, ids: &[&str]) {
    assert_eq!(store.append(&batch(store, ids).await).await.unwrap(), Append::Done);
}

/// Checks that the log has no gaps.
pub(crate) async fn whole_log(store: &Store) -> Vec<Smile> {
    let mut after = store.log_state().await.unwrap().trimmed;
    let mut smiles = Vec::new();
    loop {
        let page = store.read_log(after, 64).await.unwrap();
        for batch in &page.batches {
            for smile in &batch.smiles {
                assert_eq!(smile.offset, after.next());
                after = smile.offset;
                smiles.push(smile.clone());
            }
        }
        if page.batches.is_empty() {
            assert_eq!(after, page.head);
            return smiles;
        }
    }
}

/// Makes the batches that begin at or before this offset two days older.
pub(crate) async fn grow_old(database: &Database, through: u64) {
    database
        .run(&format!("UPDATE log_batches SET appended_at = appended_at - 172800000 WHERE first <= {through}"))
        .await;
}

fn ids(smiles: &[Smile]) -> Vec<&str> {
    smiles.iter().map(|smile| smile.id.as_str()).collect()
}

async fn a_batch_is_appended_only_after_the_one_it_names(database: &Database) {
    let store = database.open().await;
    let too_early = batch(&store, &["too-early"]).await;
    append(&store, &["a", "b"]).await;
    append(&store, &["c"]).await;
    let (head, last) = (Offset(3), store.batch_at(Offset(3)).await.unwrap().unwrap().key);
    let smiles = [smile(&store, "anna", "bruno", "d")];
    let first = store.batch_at(Offset(1)).await.unwrap().map(|batch| batch.key);
    let wrong = [
        (Some(BatchKey { token: last.token ^ 1, ..last }), head, "another log's batch"),
        (Some(BatchKey { first: Offset(9), ..last }), Offset(9), "a batch that does not exist"),
        (first, head, "a batch that ends at another offset"),
        (None, head, "no batch at all"),
    ];
    for (previous, after, what) in wrong {
        let batch = store.new_batch(previous, after, &smiles, Timestamp::now());
        assert_eq!(store.append(&batch).await.unwrap(), Append::Unlinked, "the append after {what} was not refused");
    }
    assert_ne!(store.append(&too_early).await.unwrap(), Append::Done);
    let late = store.new_batch(first, Offset(2), &smiles, Timestamp::now());
    assert_eq!(store.append(&late).await.unwrap(), Append::Occupied);
    append(&store, &["d"]).await;
    assert_eq!(ids(&whole_log(&store).await), ["a", "b", "c", "d"]);
}

async fn appending_a_batch_again_stores_it_once(database: &Database) {
    let store = database.open().await;
    let first = batch(&store, &["a", "b"]).await;
    for _ in 0..2 {
        assert_eq!(store.append(&first).await.unwrap(), Append::Done);
    }
    let second = batch(&store, &["c"]).await;
    for _ in 0..2 {
        assert_eq!(store.append(&second).await.unwrap(), Append::Done);
    }
    append(&store, &["d"]).await;
    assert_eq!(store.append(&second).await.unwrap(), Append::Done);
    assert_eq!(ids(&whole_log(&store).await), ["a", "b", "c", "d"]);
}

async fn one_of_several_batches_for_an_offset_is_accepted(database: &Database) {
    let store = database.open().await;
    for round in 0..10 {
        let mut racers = Vec::new();
        for racer in 0..4 {
            racers.push(batch(&store, &[&format!("{round}-{racer}")]).await);
        }
        let racing = racers.iter().map(|batch| store.append(batch));
        let outcomes: Vec<_> = futures_util::future::join_all(racing).await.into_iter().map(Result::unwrap).collect();
        let count = |outcome| outcomes.iter().filter(|other| **other == outcome).count();
        assert_eq!((count(Append::Done), count(Append::Occupied)), (1, 3), "round {round} ended with {outcomes:?}");
        let winner = outcomes.iter().position(|outcome| *outcome == Append::Done).unwrap();
        assert_eq!(ids(&whole_log(&store).await).last(), Some(&format!("{round}-{winner}").as_str()));
    }
    assert_eq!(store.log_state().await.unwrap().head, Offset(10));
}

async fn the_log_survives_reopening(database: &Database) {
    let before = database.open().await;
    append(&before, &["a"]).await;
    let (state, log) = (before.log_state().await.unwrap(), before.read_log(Offset(0), 10).await.unwrap());
    let hash = before.id_hash(before.user("anna").unwrap(), &SmileId::parse("a").unwrap());
    before.close().await;
    drop(before);
    let after = database.open().await;
    assert_eq!((after.log_state().await.unwrap(), after.read_log(Offset(0), 10).await.unwrap()), (state, log));
    assert_eq!(after.id_hash(after.user("anna").unwrap(), &SmileId::parse("a").unwrap()), hash);
}

#[tokio::test]
async fn a_file_that_takes_the_place_of_the_log_keeps_its_epoch() {
    let database = Database::sqlite();
    let StoreUrl::Sqlite(path) = database.url() else { unreachable!("the database should be a file") };
    let store = database.open().await;
    let epoch = store.log_state().await.unwrap().epoch;
    let copy = path.with_extension("copy");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    assert!(!store.begin_epoch(&epoch).await.unwrap());
    drop(store);
    assert_eq!(database.open().await.log_state().await.unwrap().epoch, epoch);
}

async fn a_batch_is_found_by_any_offset_in_it(database: &Database) {
    let store = database.open().await;
    assert_eq!(store.batch_at(Offset(1)).await.unwrap(), None);
    append(&store, &["a", "b", "c"]).await;
    append(&store, &["d"]).await;
    for (offset, expected) in [(1, 3), (3, 3), (4, 1), (99, 1)] {
        let batch = store.batch_at(Offset(offset)).await.unwrap().unwrap();
        assert_eq!(batch.smiles.len(), expected, "the wrong batch was found at offset {offset}");
    }
    assert_eq!(store.batch_at(Offset(0)).await.unwrap(), None);
    let batches = store.batches_at(&[0, 2, 3, 4].map(Offset)).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.smiles.len()).collect::<Vec<_>>(), [3, 1]);
    let page = store.read_log(Offset(0), 1).await.unwrap();
    assert_eq!((page.batches.len(), page.head), (1, Offset(4)));
    assert_eq!(ids(&store.read_log(Offset(3), 9).await.unwrap().batches[0].smiles), ["d"]);
}

async fn retention_removes_the_oldest_batches_and_reuses_no_offset(database: &Database) {
    let store = database.open().await;
    let too_early = batch(&store, &["too-early"]).await;
    append(&store, &["a", "b"]).await;
    append(&store, &["c"]).await;
    append(&store, &["d", "e"]).await;
    append(&store, &["young"]).await;
    let day = Duration::from_hours(24);
    assert_eq!(store.trim(day, 9).await.unwrap(), None);
    grow_old(database, 5).await;
    assert_eq!(store.trim(day, 2).await.unwrap(), Some((Offset(3), 3)));
    let state = store.log_state().await.unwrap();
    assert_eq!((state.trimmed, state.head), (Offset(3), Offset(6)));
    assert_eq!(ids(&whole_log(&store).await), ["d", "e", "young"]);
    assert_eq!(store.trim(day, 2).await.unwrap(), Some((Offset(5), 2)));
    grow_old(database, 6).await;
    let last = store.batch_at(Offset(6)).await.unwrap().map(|batch| batch.key);
    assert_eq!(store.trim(day, 2).await.unwrap(), Some((Offset(6), 1)));
    let state = store.log_state().await.unwrap();
    assert_eq!((state.trimmed, state.head, whole_log(&store).await), (Offset(6), Offset(6), Vec::new()));
    assert_eq!(store.append(&too_early).await.unwrap(), Append::Unlinked, "a removed offset was used again");
    // A replica that has read the last batch names that batch. A replica that has just opened the store names none.
    let smiles = |id| [smile(&store, "anna", "bruno", id)];
    let known = store.new_batch(last, Offset(6), &smiles("known"), Timestamp::now());
    let unknown = store.new_batch(None, Offset(6), &smiles("unknown"), Timestamp::now());
    assert_eq!(store.append(&known).await.unwrap(), Append::Done);
    assert_eq!(store.append(&unknown).await.unwrap(), Append::Occupied);
    assert_eq!(store.log_state().await.unwrap().head, Offset(7));
}

async fn no_offset_appears_below_one_that_was_read(database: &Database) {
    let store = database.open().await;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..50 {
                    let ids = [format!("{writer}-{n}"), format!("{writer}-{n}-")];
                    let ids = ids.each_ref().map(String::as_str);
                    while store.append(&batch(&store, &ids).await).await.unwrap() != Append::Done {}
                }
            })
        })
        .collect();
    let reading = async {
        let mut seen = Offset(0);
        while seen < Offset(400) {
            for smile in store.read_log(seen, 1000).await.unwrap().batches.into_iter().flat_map(|batch| batch.smiles) {
                assert_eq!(smile.offset, seen.next());
                seen = smile.offset;
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("all batches should be read");
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.log_state().await.unwrap().head, Offset(400));
}

async fn a_segment_survives_a_round_trip(database: &Database) {
    let store = database.open().await;
    let (anna, bruno, carla) =
        (store.user("anna").unwrap(), store.user("bruno").unwrap(), store.user("carla").unwrap());
    let offsets = |segment: u64, places: [u64; 2]| places.map(|place| Offset(segment * SEGMENT + place)).to_vec();
    let key = |segment| BlockKey(16 * segment + 3);
    let step = |segment, superseded| IndexStep {
        segment,
        last: None,
        conversations: vec![
            ((bruno, anna), offsets(segment, [1, 300])),
            ((anna, carla), offsets(segment, [2, SEGMENT])),
        ],
        blocks: vec![(key(segment), vec![7; 16])],
        superseded,
    };
    for segment in [0, 0, 1] {
        store.write_index(&step(segment, Vec::new())).await.unwrap();
    }
    let (indexed, blocks) = store.read_blocks(&[key(0), key(1), key(2)]).await.unwrap();
    assert_eq!((indexed, blocks.len(), &blocks[&key(1)]), (2, 2, &vec![7; 16]));
    store.write_index(&step(2, vec![key(0)])).await.unwrap();
    assert_eq!((store.indexed().await.unwrap(), store.read_blocks(&[key(0)]).await.unwrap()), (3, (3, HashMap::new())));

    let expected = |segment| [offsets(segment, [1, 2]), offsets(segment, [300, SEGMENT])].concat();
    assert_eq!(store.read_segments(anna, 1..2, Offset(0)).await.unwrap(), expected(1));
    assert_eq!(store.read_segments(anna, 0..3, Offset(0)).await.unwrap(), [0, 1, 2].map(expected).concat());
    assert!(store.read_segments(store.user("dario").unwrap(), 0..3, Offset(0)).await.unwrap().is_empty());
    assert!(store.read_segments(anna, 2..4, Offset(0)).await.is_err(), "a segment that is not indexed was read");
    let read = async |through| store.read_conversation((anna, bruno), through, 2).await.unwrap();
    let of_segment = |segment| offsets(segment, [1, 300]);
    assert_eq!(read(2).await, [of_segment(2), of_segment(1)]);
    assert_eq!(read(0).await, [of_segment(0)]);
    store.forget_index(2, std::slice::from_ref(&(key(0)..key(2)))).await.unwrap();
    assert_eq!((read(1).await, read(2).await), (vec![], vec![of_segment(2)]));
    let (_, blocks) = store.read_blocks(&[key(1), key(2)]).await.unwrap();
    assert!(blocks.contains_key(&key(2)) && !blocks.contains_key(&key(1)));
}

async fn there_are_256_users_with_names_and_faces(database: &Database) {
    let store = database.open().await;
    let names: BTreeSet<_> = store.users().iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names.len(), 256);
    assert!(store.users().iter().all(|user| Faces::parse(&user.face).is_ok()));
    assert_eq!(store.user("nobody"), None);
}

async fn a_database_of_another_program_is_refused_and_unchanged(database: &Database) {
    let (mut file, mut tables) =
        (None, "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()");
    if let StoreUrl::Sqlite(path) = database.url() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        (file, tables) = (Some(path), "SELECT COUNT(*) FROM sqlite_schema");
    }
    let content = || file.as_ref().map(|file| std::fs::read(file).unwrap());
    database.run("CREATE TABLE notes (text TEXT)").await;
    let before = content();
    let error = Store::open(&database.url()).await.err().expect("the store was opened").to_string();
    assert!(error.ends_with("it belongs to another program: choose a different --store"), "wrong error: {error}");
    assert_eq!(database.numbers(tables).await, [1]);
    assert!(content() == before, "the file was changed");
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let database = Database::sqlite();
    database.open().await.close().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
        VALUES (9999, 'a newer one', TRUE, '', 0)";
    database.run(newer).await;
    let error = Store::open(&database.url()).await.err().unwrap().to_string();
    assert!(error.contains("a newer version of smilingchat has upgraded it"), "unexpected error: {error}");
}
