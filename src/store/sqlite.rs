//! The store on SQLite: a file in WAL mode for one process, with one writing connection and a few reading ones.

mod index;
mod log;
mod migrate;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Execute, Executor, FromRow, SqliteConnection};
use tokio::sync::Mutex;

use super::user_directory::UserDirectory;
use super::{Error, StoreError};

/// Reading connections. In WAL mode readers do not wait for the writer.
const READERS: u32 = 4;

/// SQLite's result code for a full disk (<https://www.sqlite.org/rescode.html#full>).
const SQLITE_FULL: &str = "13";

/// Time limit for a reader to get a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Pages of 4 KiB in the write-ahead log before a commit must checkpoint: 32 MiB. The indexer checkpoints earlier, in
/// parallel to the commits.
const WAL_PAGES: u32 = 8192;

/// An open SQLite store.
#[derive(Debug)]
pub(crate) struct Sqlite {
    pub(super) directory: UserDirectory,
    pub(super) hash_key: [u8; 16],
    /// How often the file was opened, including this time. This makes the replica's id unique.
    pub(crate) starts: i64,
    readers: SqlitePool,
    /// The only writing connection, so no statement fails with `SQLITE_BUSY`. With `synchronous=FULL` a commit returns
    /// once it is on the disk. Only index writes relax that.
    writer: Mutex<KeptConnection>,
    /// Checkpoints the write-ahead log without blocking the writer.
    checkpointer: Mutex<KeptConnection>,
    /// Locked while the store is open. The system unlocks it however the process ends.
    file: LockedFile,
}

/// A connection that is reopened after an error, the only sure way out of a broken transaction.
#[derive(Debug)]
struct KeptConnection {
    options: SqliteConnectOptions,
    connection: Option<SqliteConnection>,
    closed: bool,
}

impl KeptConnection {
    fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: None, closed: false }
    }

    /// Takes the connection. Return it with [`KeptConnection::keep`] after success; dropping it after an error closes
    /// it.
    async fn take(&mut self) -> sqlx::Result<SqliteConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None if self.closed => Err(sqlx::Error::PoolClosed),
            None => SqliteConnection::connect_with(&self.options).await,
        }
    }

    /// Executes one or more statements. Returns the number of changed rows, which is exact for one statement only. An
    /// error closes the connection.
    async fn execute<'query>(&mut self, query: impl Execute<'query, sqlx::Sqlite> + 'query) -> sqlx::Result<u64> {
        let mut connection = self.take().await?;
        let changed = connection.execute(query).await?.rows_affected();
        self.keep(connection);
        Ok(changed)
    }

    fn keep(&mut self, connection: SqliteConnection) {
        self.connection = Some(connection);
    }

    async fn close(&mut self) {
        self.closed = true;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; the next start recovers it");
        }
    }
}

impl Sqlite {
    /// Opens the file; creates it, its folder and its tables if they are missing.
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let cannot = |error: &dyn std::fmt::Display| {
            StoreError::CannotOpen(format!("cannot open the store {}: {error}", path.display()))
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| cannot(&error))?;
        }
        let file = LockedFile::new(path).map_err(|error| cannot(&error))?;
        let mut writer = KeptConnection::new(options(path));
        let mut connection = writer.take().await.map_err(|error| cannot(&explain(error)))?;
        let (directory, hash_key, starts) =
            migrate::up_to_date(&mut connection).await.map_err(|error| cannot(&explain(error)))?;
        writer.keep(connection);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(SqliteConnectOptions::new().filename(path).read_only(true));
        Ok(Self {
            directory,
            hash_key,
            starts,
            readers,
            writer: Mutex::new(writer),
            checkpointer: Mutex::new(KeptConnection::new(options(path))),
            file,
        })
    }

    /// The rows that `text` selects. The caller guarantees that its literals are safe.
    pub(super) async fn rows<Row>(&self, text: String) -> sqlx::Result<Vec<Row>>
    where
        Row: for<'row> FromRow<'row, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        sqlx::query_as(AssertSqlSafe(text)).persistent(false).fetch_all(&self.readers).await
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.checkpointer.lock().await.close().await;
        self.writer.lock().await.close().await;
        // Closing the file is not enough: a process that was forked a moment ago shares the lock until it executes its
        // program.
        if let Err(error) = self.file.file.unlock() {
            tracing::warn!(%error, "the store stays locked until this process has ended");
        }
    }
}

/// Rewords errors whose message does not say what to do.
fn explain(error: sqlx::Error) -> Error {
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
        // Keep statement journals in memory: otherwise each multi-row statement creates and deletes a file.
        .pragma("temp_store", "MEMORY")
        .thread_name(|_| "store-writer".to_owned())
}

/// The database file, locked against other processes, whose sessions would not see each other's smiles. The lock
/// belongs to the file, so it holds for every path to it. It is a flock(2) lock, which does not interfere with SQLite's
/// fcntl(2) locks.
#[derive(Debug)]
struct LockedFile {
    file: File,
    path: PathBuf,
}

impl LockedFile {
    fn new(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { file, path: path.to_owned() }),
            Err(TryLockError::WouldBlock) => {
                Err("another smilingchat uses it; stop that one, or give this one another --store".into())
            }
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    /// Whether the path still leads to the opened file. Writes to a deleted or replaced file would be lost.
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
    async fn a_closed_store_can_be_opened_again_and_writes_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        let store = Sqlite::open(&path).await.unwrap();
        store.close().await;
        Sqlite::open(&path).await.expect("the lock is released, although the closed store still exists");
        assert!(store.forget_index(1, &[]).await.is_err());
    }

    #[tokio::test]
    async fn log_commits_are_synchronous_after_an_index_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("chat.db")).await.unwrap();
        store.forget_index(1, &[]).await.unwrap();
        let mut connection = store.writer.lock().await.take().await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        assert_eq!(synchronous, 2, "FULL");
    }

    #[tokio::test]
    async fn a_full_disk_has_a_clear_message() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let fill =
            "PRAGMA max_page_count = 2; CREATE TABLE full (text TEXT); INSERT INTO full VALUES (randomblob(9999))";
        let error = sqlx::raw_sql(fill).execute(&mut connection).await.unwrap_err();
        assert_eq!(explain(error).to_string(), "the disk is full: make room on it");
    }
}
