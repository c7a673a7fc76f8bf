//! The store of one process: an SQLite file in WAL mode, embedded.
//!
//! Owns the file, the lock that keeps a second process off it, one connection that writes and a few that read. Must not
//! know why anything is written.

mod append;
mod read;

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{Mutex, MutexGuard};

use super::StoreError;
use super::directory::Directory;

/// Connections that read: histories and resumes may overlap, and none of them waits for the writer.
const READERS: u32 = 4;

/// How long a reader may wait for one of these connections before it is told that the store is not available.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);

/// Pages of 4 KiB in the write-ahead log before it is moved into the file: 16 MiB. A page that many commits change is
/// moved once, and a start after a crash still reads the log in a few hundredths of a second.
const WAL_PAGES: u32 = 4096;

/// An open SQLite store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sqlite {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    directory: Directory,
    starts: i64,
    readers: SqlitePool,
    /// The one connection that writes, so that no statement ever meets `SQLITE_BUSY`. `None` after an error, until the
    /// next writer opens it anew: a fresh connection is the one sure way out of a transaction that broke.
    writer: Mutex<Option<SqliteConnection>>,
    /// Held for as long as the store is open; the system lets go of it however the process ends.
    _lock: File,
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
        let lock = lock(path).map_err(|error| cannot(&error))?;

        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(writing(path)).await;
        let writer = writer.map_err(|error| cannot(&error))?;
        sqlx::migrate!("sql/sqlite").run(&writer).await.map_err(|error| cannot(&error))?;
        let users = sqlx::query_as("SELECT id, name, face FROM users ORDER BY id").fetch_all(&writer).await;
        let users = users.map_err(|error| cannot(&error))?;
        let starts = sqlx::query_scalar("UPDATE log SET starts = starts + 1 RETURNING starts").fetch_one(&writer).await;
        let starts = starts.map_err(|error| cannot(&error))?;
        let writer = writer.acquire().await.map_err(|error| cannot(&error))?.detach();
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_lazy_with(SqliteConnectOptions::new().filename(path).read_only(true));

        Ok(Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                directory: Directory::new(users),
                starts,
                readers,
                writer: Mutex::new(Some(writer)),
                _lock: lock,
            }),
        })
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    /// How often this file was opened, this time included.
    pub(super) fn starts(&self) -> i64 {
        self.inner.starts
    }

    pub(super) async fn close(&self) {
        self.inner.readers.close().await;
        if let Some(writer) = self.inner.writer.lock().await.take()
            && let Err(error) = writer.close().await
        {
            tracing::warn!(%error, "the store did not close cleanly; the next start repairs it");
        }
    }

    /// The right to write, first come first served.
    async fn writer(&self) -> Result<Writer<'_>, StoreError> {
        let mut slot = self.inner.writer.lock().await;
        let connection = match slot.take() {
            Some(connection) => connection,
            None => connect(&self.inner.path).await?,
        };
        Ok(Writer { slot, connection })
    }
}

/// The writing connection while somebody uses it. It is kept only if its user says that all went well.
struct Writer<'store> {
    slot: MutexGuard<'store, Option<SqliteConnection>>,
    connection: SqliteConnection,
}

impl Writer<'_> {
    /// Gives the connection back, in order.
    fn keep(mut self) {
        *self.slot = Some(self.connection);
    }
}

/// How the writing connection works: a commit returns when it is on the disk (`synchronous=FULL` also syncs the WAL).
fn writing(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("wal_autocheckpoint", WAL_PAGES.to_string())
        .thread_name(|_| "store-writer".to_owned())
}

async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnection::connect_with(&writing(path)).await
}

/// Keeps every other process off the file: two would hand out the same offsets to sessions that do not hear each other.
fn lock(path: &Path) -> Result<File, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&name);
    let file = open.map_err(|error| error.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err("another smilingchat uses it; stop that one, or give this one another --store".to_owned())
        }
        Err(TryLockError::Error(error)) => Err(error.to_string()),
    }
}
