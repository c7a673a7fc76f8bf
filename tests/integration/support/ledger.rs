//! A ledger of acks, and the log as the database stores it. Comparing the two uses no replica and no code of the
//! server.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, MySqlConnection, SqliteConnection};
use url::Url;

use super::PATIENCE;
use super::replica::TestStore;

/// The format version in `src/store/batch.rs` that this file decodes.
const FORMAT: u8 = 1;

const BATCHES: &str = "SELECT first, CAST(smiles AS SIGNED), payload FROM log_batches ORDER BY first";
const USERS: &str = "SELECT CAST(id AS SIGNED), name FROM users";
const TRIMMED: &str = "SELECT CAST(trimmed AS SIGNED) FROM log_state";

/// MySQL's integer type in the queries above. SQLite calls it `INTEGER`.
const SIGNED: &str = "SIGNED";

type BatchRow = (i64, i64, Vec<u8>);

/// Sender and id, which identify a smile.
type Name = (String, String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) to: String,
    pub(crate) faces: String,
}

/// The acked smiles of a test's clients. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ledger {
    acked: Arc<Mutex<BTreeMap<Name, Entry>>>,
}

impl Ledger {
    pub(crate) fn record(&self, sender: &str, id: &str, entry: &Entry) {
        let known = self.acked().entry((sender.to_owned(), id.to_owned())).or_insert_with(|| entry.clone()).clone();
        assert_eq!(known, *entry, "two acks of {sender}'s {id} differed");
    }

    pub(crate) fn count(&self) -> usize {
        self.acked().len()
    }

    fn acked(&self) -> MutexGuard<'_, BTreeMap<Name, Entry>> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks that the log holds each acked smile as it was sent, at its acked offset.
    pub(crate) fn assert_in(&self, log: &StoredLog) {
        let acked = self.acked();
        assert!(!acked.is_empty(), "no smile was acked");
        for ((sender, id), entry) in acked.iter() {
            let stored = log.smiles.get(&(sender.clone(), id.clone()));
            assert_eq!(stored, Some(entry), "the log did not hold {sender}'s {id} as it was acked");
        }
    }

    /// Checks that the log holds each acked smile, and exactly `others` further smiles.
    pub(crate) fn assert_with(&self, others: u64, log: &StoredLog) {
        self.assert_in(log);
        assert_eq!(log.smiles.len() as u64, self.count() as u64 + others, "the log had the wrong number of smiles");
    }
}

/// The smiles that the database stores in the log: each once, at offsets without gaps.
#[derive(Debug)]
pub(crate) struct StoredLog {
    smiles: BTreeMap<Name, Entry>,
}

impl StoredLog {
    pub(crate) async fn in_mysql(server: &str, database: &str) -> Self {
        let mut url: Url = server.parse().expect("a URL");
        url.set_path(database);
        let mut connection = MySqlConnection::connect(url.as_str()).await.expect("a connection");
        let users = sqlx::query_as(USERS).fetch_all(&mut connection).await.expect("users");
        let trimmed = sqlx::query_scalar(TRIMMED).fetch_one(&mut connection).await.expect("the state of the log");
        let batches = sqlx::query_as(BATCHES).fetch_all(&mut connection).await.expect("batches");
        Self::decode(users, trimmed, &batches)
    }

    pub(crate) async fn in_sqlite(store: &TestStore) -> Self {
        Self::in_file(&store.path()).await
    }

    pub(crate) async fn in_file(path: &Path) -> Self {
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(PATIENCE);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("the store did not open");
        let [users, trimmed, batches] =
            [USERS, TRIMMED, BATCHES].map(|query| sqlx::AssertSqlSafe(query.replace(SIGNED, "INTEGER")));
        let users = sqlx::query_as(users).fetch_all(&mut connection).await.expect("users");
        let trimmed = sqlx::query_scalar(trimmed).fetch_one(&mut connection).await.expect("the state of the log");
        let batches = sqlx::query_as(batches).fetch_all(&mut connection).await.expect("batches");
        Self::decode(users, trimmed, &batches)
    }

    fn decode(users: Vec<(i64, String)>, trimmed: i64, batches: &[BatchRow]) -> Self {
        let users: HashMap<u64, String> = users.into_iter().map(|(id, name)| (id.cast_unsigned(), name)).collect();
        let mut smiles = BTreeMap::new();
        let mut next = trimmed.cast_unsigned() + 1;
        for (first, count, payload) in batches {
            assert_eq!(first.cast_unsigned(), next, "a batch was not at the next offset");
            let decoded = decode(payload, &users);
            assert_eq!(decoded.len() as u64, count.cast_unsigned(), "the row at {first} had the wrong count");
            for (name, entry) in decoded {
                assert_eq!(entry.offset, next, "{name:?} was not at the next offset");
                next += 1;
                let double = smiles.insert(name.clone(), entry);
                assert_eq!(double, None, "{name:?} was in the log twice");
            }
        }
        Self { smiles }
    }
}

/// Decodes one row: the format, the first offset, the time, the number of smiles, and the smiles. The offset and the
/// time of a smile are relative to those of the row.
fn decode(payload: &[u8], users: &HashMap<u64, String>) -> Vec<(Name, Entry)> {
    let (format, rest) = payload.split_first().expect("a format");
    assert_eq!(*format, FORMAT);
    let mut row = Row(rest);
    let (first, _at, count) = (row.number(), row.number(), row.number());
    let mut smiles = Vec::new();
    for _ in 0..count {
        let (offset, _at) = (first + row.number(), row.number());
        let [from, to] = [row.number(), row.number()].map(|id| users.get(&id).expect("a user").clone());
        let (id, faces) = (row.text(), row.text());
        smiles.push(((from, id), Entry { offset, to, faces }));
    }
    assert!(row.0.is_empty(), "{} bytes were left after the last smile of a batch", row.0.len());
    smiles
}

/// The part of a row that is not yet decoded, in the encoding of `postcard`: an integer has seven bits per byte, the
/// least significant bits first, and the length of a text precedes the text.
struct Row<'payload>(&'payload [u8]);

impl Row<'_> {
    fn number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (byte, rest) = self.0.split_first().expect("one more byte");
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return number;
            }
        }
    }

    fn text(&mut self) -> String {
        let length = usize::try_from(self.number()).expect("a length");
        let (text, rest) = self.0.split_at(length);
        self.0 = rest;
        String::from_utf8(text.to_vec()).expect("UTF-8")
    }
}
