//! The store on SQLite: a file in WAL mode for one process, with one writing connection, one that checkpoints and at
//! most four reading ones.

mod index;
mod log;
mod migrate;

use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Execute, Executor, FromRow, SqliteConnection};
use tokio::sync::Mutex;

use super::Error;
use super::user_directory::UserDirectory;

/// In WAL mode, readers do not wait for the writer.
const READERS: u32 = 4;

/// SQLite's result code for a full disk (<https://www.sqlite.org/rescode.html#full>).
const SQLITE_FULL: &str = "13";

const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Size of the write-ahead log, in pages of 4 KiB, at which a commit must checkpoint: 32 MiB. The indexer checkpoints
/// earlier, mostly in parallel with the commits.
const WAL_PAGES: u32 = 8192;

/// The system's clock, in milliseconds since 1970.
pub(super) const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

pub(crate) struct Sqlite {
    pub(super) directory: UserDirectory,
    pub(super) hash_key: [u8; 16],
    /// The number of times that the file has been opened, including this time. In an upgraded file, the count continues
    /// the replica numbers of the earlier version. The count makes the replica's id unique.
    pub(crate) starts: i64,
    readers: SqlitePool,
    /// The only writing connection, so no statement fails with `SQLITE_BUSY`. With `synchronous=FULL` a commit returns
    /// once it is on the disk. Only [`Sqlite::write_index`] relaxes this setting.
    writer: Mutex<KeptConnection>,
    checkpointer: Mutex<KeptConnection>,
    /// The database file, locked against other processes: sessions of two processes would not see each other's smiles.
    /// The lock belongs to the file, so it holds for every path to the file, and the system releases it however the
    /// process ends. It is a flock(2) lock, which does not interfere with SQLite's fcntl(2) locks.
    file: File,
    path: PathBuf,
}

/// A connection that is reopened after an error, the only sure way out of a broken transaction.
struct KeptConnection {
    /// `None` once it is closed for good.
    options: Option<SqliteConnectOptions>,
    connection: Option<SqliteConnection>,
}

impl KeptConnection {
    fn new(options: SqliteConnectOptions) -> Self {
        Self { options: Some(options), connection: None }
    }

    /// Put the connection back after success; dropping it after an error closes it.
    async fn take(&mut self) -> sqlx::Result<SqliteConnection> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => SqliteConnection::connect_with(self.options.as_ref().ok_or(sqlx::Error::PoolClosed)?).await,
        }
    }

    /// Returns the number of changed rows, which is exact for one statement only. An error closes the connection.
    async fn execute<'query>(&mut self, query: impl Execute<'query, sqlx::Sqlite> + 'query) -> sqlx::Result<u64> {
        let mut connection = self.take().await?;
        let changed = connection.execute(query).await?.rows_affected();
        self.connection = Some(connection);
        Ok(changed)
    }

    async fn close(&mut self) {
        self.options = None;
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; the next start recovers it");
        }
    }
}

impl Sqlite {
    pub(super) async fn open(path: &Path) -> Result<Self, Error> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => {
                Error::from("another smilingchat is using it; stop that process, or choose a different --store")
            }
            TryLockError::Error(error) => error.into(),
        })?;
        let mut writer = KeptConnection::new(options(path));
        let mut connection = writer.take().await.map_err(explain)?;
        let (directory, hash_key, starts) = migrate::open(&mut connection).await.map_err(explain)?;
        writer.connection = Some(connection);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(SqliteConnectOptions::new().filename(path).read_only(true).disable_statement_logging());
        Ok(Self {
            directory,
            hash_key,
            starts,
            readers,
            writer: Mutex::new(writer),
            checkpointer: Mutex::new(KeptConnection::new(options(path))),
            file,
            path: path.to_owned(),
        })
    }

    /// Whether the path still names the opened file. Writes to a deleted or replaced file would be lost.
    pub(super) fn is_in_place(&self) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (opened, found) = (self.file.metadata().map(identity), std::fs::metadata(&self.path).map(identity));
        matches!((opened, found), (Ok(opened), Ok(found)) if opened == found)
    }

    /// The caller guarantees that the literals in `text` are safe.
    pub(super) async fn rows<Row>(&self, text: &str) -> sqlx::Result<Vec<Row>>
    where
        Row: for<'row> FromRow<'row, sqlx::sqlite::SqliteRow> + Send + Unpin,
    {
        sqlx::query_as(AssertSqlSafe(text)).persistent(false).fetch_all(&self.readers).await
    }

    /// Executes statements durably. Returns the number of changed rows, which is exact for one statement only. The
    /// caller guarantees that the literals in `text` are safe.
    pub(super) async fn execute(&self, text: &str) -> sqlx::Result<u64> {
        self.writer.lock().await.execute(sqlx::raw_sql(AssertSqlSafe(text))).await
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.checkpointer.lock().await.close().await;
        self.writer.lock().await.close().await;
        // Closing the file is not enough: a child process that was forked a moment ago shares the lock until it calls
        // `exec`.
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "the store stays locked until this process exits");
        }
    }
}

/// Rewords errors whose message does not say what to do.
fn explain(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Migrate(migration) if matches!(**migration, MigrateError::VersionMissing(_)) => {
            "a newer version of smilingchat has upgraded it: start that version, or choose a different --store".into()
        }
        sqlx::Error::Database(refusal) if refusal.code().as_deref() == Some(SQLITE_FULL) => {
            "the disk is full: free some space".into()
        }
        sqlx::Error::Protocol(why) => why.clone().into(),
        _ => error.into(),
    }
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
        // Keep statement journals in memory: otherwise each multi-row statement creates and deletes a file.
        .pragma("temp_store", "MEMORY")
        .thread_name(|_| "store-writer".to_owned())
        .disable_statement_logging()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::IndexStep;

    #[tokio::test]
    async fn a_closed_store_refuses_writes_and_can_be_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chat.db");
        let store = Sqlite::open(&path).await.unwrap();
        store.close().await;
        Sqlite::open(&path).await.expect("the store should release the lock when it is closed");
        assert!(store.execute("DELETE FROM index_ids").await.is_err());
    }

    #[tokio::test]
    async fn log_commits_are_synchronous_after_an_index_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("chat.db")).await.unwrap();
        let step =
            IndexStep { segment: 0, last: None, conversations: Vec::new(), blocks: Vec::new(), superseded: Vec::new() };
        store.write_index(&step).await.unwrap();
        let mut connection = store.writer.lock().await.take().await.unwrap();
        let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut connection).await.unwrap();
        assert_eq!(synchronous, 2, "synchronous was not FULL");
    }

    #[tokio::test]
    async fn a_full_disk_gets_a_clear_message() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let fill =
            "PRAGMA max_page_count = 2; CREATE TABLE full (text TEXT); INSERT INTO full VALUES (randomblob(9999))";
        let error = sqlx::raw_sql(fill).execute(&mut connection).await.unwrap_err();
        assert_eq!(explain(error).to_string(), "the disk is full: free some space");
    }
}
