//! The store of one process: an SQLite file in WAL mode, embedded.
//!
//! One connection writes, a few read.

mod index;
mod log;
mod migrate;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::Mutex;

use self::migrate::Opened;
use super::directory::Directory;
use super::{Error, StoreError};

/// Connections that read: histories, resumes and lists may overlap, and none of them waits for the writer.
const READERS: u32 = 4;

/// SQLite's result code for a full disk (<https://www.sqlite.org/rescode.html#full>).
const SQLITE_FULL: &str = "13";

/// How long a reader may wait for one of these connections before it is told that the store is not available.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Pages of 4 KiB in the write-ahead log before a commit moves them into the file: 32 MiB. The index moves them earlier,
/// beside the commits, as long as it has something to write.
const WAL_PAGES: u32 = 8192;

/// An open SQLite store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: Directory,
    hash_key: [u8; 16],
    /// How often the file was opened, this time included.
    starts: i64,
    readers: SqlitePool,
    /// SQLite has one writer at a time, first come first served: no statement ever meets `SQLITE_BUSY`. A commit returns when
    /// it is on the disk (`synchronous=FULL` also syncs the write-ahead log), except where the index is written.
    writer: Mutex<Kept>,
    /// Moves pages from the write-ahead log into the file, which does not disturb the writers.
    checkpointer: Mutex<Kept>,
    /// Held for as long as the store is open; the system lets go of it however the process ends.
    file: Locked,
}

/// A connection that is kept for as long as it works: after an error a fresh one is the one sure way out of a broken
/// transaction.
#[derive(Debug)]
struct Kept {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
}

impl Kept {
    fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: None }
    }

    /// Takes the connection, to be given back with [`Kept::keep`] when all went well, and closed otherwise.
    async fn take(&mut self) -> sqlx::Result<SqliteConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => SqliteConnection::connect_with(&self.options).await,
        }
    }

    fn keep(&mut self, connection: SqliteConnection) {
        self.connection = Some(connection);
    }

    async fn close(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; the next start repairs it");
        }
    }
}

impl Sqlite {
    /// Opens the file, and makes it, its folder and its tables where they are missing.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let cannot = |error: &dyn std::fmt::Display| {
            StoreError::CannotOpen(format!("cannot open the store {}: {error}", path.display()))
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
        }
        let file = Locked::new(path).map_err(|error| cannot(&error))?;
        let mut writer = Kept::new(options(path));
        let mut connection = writer.take().await.map_err(|error| cannot(&explained(error)))?;
        let Opened { users, hash_key, starts } =
            migrate::up_to_date(&mut connection).await.map_err(|error| cannot(&explained(error)))?;
        writer.keep(connection);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(SqliteConnectOptions::new().filename(path).read_only(true));
        let store = Self {
            inner: Arc::new(Inner {
                directory: Directory::new(users),
                hash_key,
                starts,
                readers,
                writer: Mutex::new(writer),
                checkpointer: Mutex::new(Kept::new(options(path))),
                file,
            }),
        };
        store.carry_over().await.map_err(|error| cannot(&error))?;
        Ok(store)
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    pub(super) fn starts(&self) -> i64 {
        self.inner.starts
    }

    pub(super) fn hash_key(&self) -> &[u8; 16] {
        &self.inner.hash_key
    }

    pub(super) async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.checkpointer.lock().await.close().await;
        self.inner.writer.lock().await.close().await;
    }
}

/// The error in words that say what to do, where the library's do not.
fn explained(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Migrate(migration) if matches!(**migration, MigrateError::VersionMissing(_)) => {
            "a newer version of smilingchat has upgraded it: start that version, or give another --store".into()
        }
        sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some(SQLITE_FULL) => {
            "the disk is full: make room on it".into()
        }
        _ => error.into(),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
        // What undoes one statement of several rows: else each makes a file and removes it.
        .pragma("temp_store", "MEMORY")
        .thread_name(|_| "store-writer".to_owned())
}

/// The database file, locked against every other process: two would hand out the same offsets to sessions that do not hear
/// each other. The lock is on the file itself, so it holds whatever path leads there. SQLite's own locks are of another kind
/// (flock(2) and fcntl(2)), and neither sees the other.
#[derive(Debug)]
struct Locked {
    file: File,
    path: PathBuf,
}

impl Locked {
    fn new(path: &Path) -> Result<Self, String> {
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path);
        let file = open.map_err(|error| error.to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path: path.to_owned() }),
            Err(TryLockError::WouldBlock) => {
                Err("another smilingchat uses it; stop that one, or give this one another --store".to_owned())
            }
            Err(TryLockError::Error(error)) => Err(error.to_string()),
        }
    }

    /// Whether the path still leads to the file that was opened: what is written after it was deleted or replaced is lost.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (opened, found) = (self.file.metadata().map(identity), std::fs::metadata(&self.path).map(identity));
        matches!((opened, found), (Ok(opened), Ok(found)) if opened == found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_commit_of_the_log_waits_for_the_disk_after_one_of_the_index_did_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("chat.db")).await.unwrap();
        store.forget_index(1, &[]).await.unwrap();
        let mut connection = store.inner.writer.lock().await.take().await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        assert_eq!(synchronous, 2, "FULL");
    }

    #[tokio::test]
    async fn a_full_disk_is_called_that() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let fill =
            "PRAGMA max_page_count = 2; CREATE TABLE full (text TEXT); INSERT INTO full VALUES (randomblob(9999))";
        let error = sqlx::raw_sql(fill).execute(&mut connection).await.unwrap_err();
        assert_eq!(explained(error).to_string(), "the disk is full: make room on it");
    }
}
