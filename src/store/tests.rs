//! The contract of the store, as stories that every database must keep.

mod cluster;
pub(super) mod database;
mod mysql;

use std::collections::BTreeSet;
use std::time::Duration;

use self::database::Database;
use super::*;
use crate::model::{Faces, SmileId};

/// Makes of each story one test on every database.
macro_rules! on_every_database {
    ($($story:ident,)+) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $story() {
                super::$story(&super::Database::sqlite()).await;
            })+
        }

        mod on_mysql {
            $(#[tokio::test]
            async fn $story() {
                if let Some(database) = super::Database::mysql().await {
                    super::$story(&database).await;
                }
            })+
        }
    };
}

on_every_database! {
    offsets_have_no_gaps_and_a_repeat_keeps_its_first,
    what_was_appended_is_there_after_opening_again,
    a_stream_is_every_smile_to_or_from_its_user,
    a_long_gap_is_read_in_parts,
    a_conversation_is_read_from_its_end,
    retention_removes_the_oldest_and_tells_those_who_ask_for_them,
    a_reader_never_sees_an_offset_appear_below_one_it_has_seen,
    there_are_sixty_users_with_names_and_faces,
}

pub(super) fn smile(store: &Store, from: &str, to: &str, id: &str) -> NewSmile {
    NewSmile {
        id: SmileId::parse(id).unwrap(),
        from: store.user(from).unwrap().clone(),
        to: store.user(to).unwrap().clone(),
        faces: Faces::parse("😀").unwrap(),
    }
}

pub(super) async fn append(store: &Store, smiles: &[(&str, &str, &str)]) -> Vec<Appended> {
    let smiles: Vec<_> = smiles.iter().map(|(from, to, id)| smile(store, from, to, id)).collect();
    store.append(&smiles, Timestamp::now()).await.unwrap()
}

fn ids(smiles: &[Smile]) -> Vec<&str> {
    smiles.iter().map(|smile| smile.id.as_str()).collect()
}

async fn offsets_have_no_gaps_and_a_repeat_keeps_its_first(database: &Database) {
    use Appended::{Duplicate, Stored};
    let store = database.open().await;
    assert_eq!(
        append(&store, &[("anna", "bruno", "a"), ("bruno", "anna", "a"), ("anna", "carla", "a")]).await,
        [Stored(Offset(1)), Stored(Offset(2)), Duplicate(Offset(1))],
        "one id of two senders is two smiles; of one sender it is one, whoever it is for"
    );
    assert_eq!(
        append(&store, &[("bruno", "anna", "a"), ("anna", "bruno", "b"), ("bruno", "anna", "c")]).await,
        [Duplicate(Offset(2)), Stored(Offset(3)), Stored(Offset(4))]
    );
    assert_eq!(append(&store, &[("anna", "bruno", "b")]).await, [Duplicate(Offset(3))]);
    assert_eq!(store.log_state().await.unwrap().head, Offset(4));
    assert_eq!(ids(&store.read_log(Offset(1), 2).await.unwrap().smiles), ["a", "b"]);
    assert_eq!(ids(&store.read_log(Offset(3), 10).await.unwrap().smiles), ["c"]);
}

async fn what_was_appended_is_there_after_opening_again(database: &Database) {
    let before = database.open().await;
    append(&before, &[("anna", "bruno", "a")]).await;
    let (state, log) = (before.log_state().await.unwrap(), before.read_log(Offset(0), 10).await.unwrap());
    before.close().await;
    drop(before);
    let after = database.open().await;
    assert_eq!((after.log_state().await.unwrap(), after.read_log(Offset(0), 10).await.unwrap()), (state, log));
}

async fn a_stream_is_every_smile_to_or_from_its_user(database: &Database) {
    let store = database.open().await;
    append(
        &store,
        &[
            ("anna", "bruno", "1"),
            ("bruno", "carla", "2"),
            ("viola", "anna", "3"),
            ("anna", "carla", "4"),
            ("bruno", "anna", "5"),
        ],
    )
    .await;
    let anna = store.user("anna").unwrap();
    let page = store.read_stream(anna, Offset(0), Offset(5), 10).await.unwrap();
    assert_eq!((ids(&page.smiles), page.through), (vec!["1", "3", "4", "5"], Offset(5)));
    let page = store.read_stream(anna, Offset(1), Offset(5), 2).await.unwrap();
    assert_eq!((ids(&page.smiles), page.through), (vec!["3", "4"], Offset(4)), "cut off by the limit");
    let page = store.read_stream(anna, Offset(1), Offset(2), 10).await.unwrap();
    assert_eq!((ids(&page.smiles), page.through), (vec![], Offset(2)), "nothing of anna's in between");
}

async fn a_long_gap_is_read_in_parts(database: &Database) {
    let store = database.open().await;
    for batch in 0..25 {
        let smiles: Vec<_> = (0..1000).map(|n| smile(&store, "carla", "dario", &format!("{batch}-{n}"))).collect();
        store.append(&smiles, Timestamp::now()).await.unwrap();
    }
    append(&store, &[("anna", "bruno", "last")]).await;
    let (mut after, mut parts, mut seen) = (Offset(0), 0, Vec::new());
    while after < Offset(25_001) {
        let page = store.read_stream(store.user("bruno").unwrap(), after, Offset(25_001), 10).await.unwrap();
        assert!(page.through > after);
        (after, parts) = (page.through, parts + 1);
        seen.extend(page.smiles);
    }
    assert_eq!((ids(&seen), parts), (vec!["last"], 3));
}

async fn a_conversation_is_read_from_its_end(database: &Database) {
    let store = database.open().await;
    append(&store, &[("anna", "bruno", "1"), ("bruno", "anna", "2"), ("anna", "carla", "x"), ("anna", "bruno", "3")])
        .await;
    let users = (store.user("bruno").unwrap(), store.user("anna").unwrap());
    let (smiles, more) = store.read_conversation(users, None, 2).await.unwrap();
    assert_eq!((ids(&smiles), more), (vec!["2", "3"], true));
    let (smiles, more) = store.read_conversation(users, Some(Offset(2)), 2).await.unwrap();
    assert_eq!((ids(&smiles), more), (vec!["1"], false));
}

async fn retention_removes_the_oldest_and_tells_those_who_ask_for_them(database: &Database) {
    let store = database.open().await;
    let old: Vec<_> = (0..5).map(|n| smile(&store, "anna", "bruno", &format!("old-{n}"))).collect();
    store.append(&old, Timestamp::now().before(Duration::from_hours(48))).await.unwrap();
    append(&store, &[("anna", "bruno", "new")]).await;

    let yesterday = Timestamp::now().before(Duration::from_hours(24));
    let mut removed = Vec::new();
    for _ in 0..3 {
        removed.push(store.trim(yesterday, 3).await.unwrap());
    }
    assert_eq!(removed, [3, 2, 0]);
    let state = store.log_state().await.unwrap();
    assert_eq!((state.trimmed, state.head), (Offset(5), Offset(6)));
    assert!(matches!(store.read_log(Offset(4), 10).await, Err(StoreError::Trimmed)));
    let anna = store.user("anna").unwrap();
    assert!(matches!(store.read_stream(anna, Offset(4), Offset(6), 10).await, Err(StoreError::Trimmed)));
    assert_eq!(ids(&store.read_stream(anna, Offset(5), Offset(6), 10).await.unwrap().smiles), ["new"]);
    assert_eq!(append(&store, &[("anna", "bruno", "next")]).await, [Appended::Stored(Offset(7))]);
}

async fn a_reader_never_sees_an_offset_appear_below_one_it_has_seen(database: &Database) {
    let store = database.open().await;
    let writers: Vec<_> = ["anna", "bruno", "carla", "dario"]
        .into_iter()
        .map(|from| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..100 {
                    append(&store, &[(from, "zoe", &format!("{n}")), (from, "viola", &format!("{n}-"))]).await;
                }
            })
        })
        .collect();
    let mut seen = Offset(0);
    while seen < Offset(800) {
        for smile in store.read_log(seen, 1000).await.unwrap().smiles {
            assert_eq!(smile.offset, seen.next());
            seen = smile.offset;
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.log_state().await.unwrap().head, Offset(800));
}

async fn there_are_sixty_users_with_names_and_faces(database: &Database) {
    let store = database.open().await;
    let names: BTreeSet<_> = store.users().iter().map(|user| user.name.as_str()).collect();
    assert!(names.len() >= 60);
    assert!(store.users().iter().all(|user| Faces::parse(&user.face).is_ok()));
    assert_eq!(store.user("nobody"), None);
}

#[tokio::test]
async fn a_file_counts_its_starts_on_from_the_replicas_of_an_older_version() {
    let database = Database::sqlite();
    let start = async || {
        let Membership::Alone { number } = database.open().await.membership() else { panic!("a file has one process") };
        number
    };
    assert_eq!([start().await, start().await], [1, 2]);

    let StoreUrl::Sqlite(path) = database.url() else { unreachable!() };
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    let older = "ALTER TABLE log DROP COLUMN starts;
        CREATE TABLE replicas (number INTEGER PRIMARY KEY AUTOINCREMENT);
        INSERT INTO replicas (number) VALUES (16), (17); DELETE FROM replicas WHERE number = 17;
        DELETE FROM _sqlx_migrations WHERE version = 5";
    sqlx::raw_sql(older).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();
    assert_eq!([start().await, start().await], [18, 19]);
}

#[tokio::test]
async fn a_file_belongs_to_one_process() {
    let database = Database::sqlite();
    let _store = database.open().await;
    let error = Store::open(&database.url(), None).await.unwrap_err().to_string();
    assert!(error.contains("another smilingchat uses it"), "{error}");
}
