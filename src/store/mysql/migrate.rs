//! Creates and upgrades the tables, with any number of replicas starting at once.
//!
//! A replica waits for the server, takes a lock so that one replica at a time changes tables, and repairs what a crash
//! interrupted. It uses a connection of its own, so that any failure releases the lock.
//!
//! A migration never changes once a database may have it, not even in a comment: the database keeps its checksum. A
//! changed procedure gets a new name, since replicas of an older version go on calling the old one.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, MySqlConnection};

use super::connections::{ANSWER, NOT_PRIMARY, number, within};
use super::server::MySqlServer;
use crate::store::carry_over::{HEAD, READ_OLD, ROWS_PER_TRANSACTION, StoredRow, insert, into_batches};
use crate::store::user_directory::UserDirectory;
use crate::store::{StoreError, hash_key};

/// Pause between two attempts to reach the server.
const RETRY: Duration = Duration::from_millis(500);

/// Interval between log lines about a wait.
const REMINDER: Duration = Duration::from_secs(10);

/// Time limit in seconds of one `GET_LOCK`.
const LOCK_WAIT: u32 = 1;

/// Time limit for the migrations. One that takes longer continues in MySQL with its lock, and the next attempt waits
/// for that lock.
const MIGRATING: Duration = Duration::from_mins(1);

/// No session waits during an upgrade, so statements may take long.
const PATIENCE: &str = "SET lock_wait_timeout = 50, innodb_lock_wait_timeout = 50, max_execution_time = 0";

/// One lock per database of a server. The digest keeps a long name within the 64 characters of a lock name.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('smilingchat tables ', LEFT(SHA2(DATABASE(), 256), 32)), ?)";

/// Removes the rows of unsuccessful migrations. Under the lock, such a migration was interrupted by a crash. Each one
/// is idempotent, so it runs again.
const FORGET_HALF: &str = "DELETE FROM _sqlx_migrations WHERE NOT success";

const COUNT_TABLES: &str = "
    SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";

const COUNT_OLD_TABLES: &str = "
    SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'smiles_before_batches'";

const DROP_OLD: &str = "DROP TABLE IF EXISTS smiles_before_batches, replicas_before_batches";

/// Errors of a server that starts, stops or is full, and of a router without a server.
const PASSING: [u16; 6] = [1040, 1053, 1203, 2003, 3032, 3169];

/// Errors about the account and its privileges. A deployment may create them after the server starts, so they are
/// retried for a short time; a wrong password must end in an error.
const NO_ACCOUNT: [u16; 2] = [1044, 1045];
const ACCOUNT: Duration = Duration::from_secs(15);

/// The users, and the key of the hashes in the index.
pub(super) type Opened = (UserDirectory, [u8; 16]);

/// Upgrades the database and reads its constant data. Waits for MySQL, and logs what it waits for.
pub(super) async fn when_there(server: &MySqlServer) -> Result<Opened, StoreError> {
    let begun = Instant::now();
    let mut said: Option<Instant> = None;
    loop {
        let error = match upgraded(server).await {
            Ok(opened) => return Ok(opened),
            Err(error) if passes(&error, begun.elapsed()) => error,
            Err(error) => {
                return Err(StoreError::CannotOpen(format!(
                    "cannot open the store {:?}: {}",
                    server.url,
                    told(&error)
                )));
            }
        };
        if said.is_none_or(|at| at.elapsed() > REMINDER) {
            tracing::warn!(%error, server = server.address(), "waiting for MySQL");
            said = Some(Instant::now());
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn upgraded(server: &MySqlServer) -> Result<Opened, sqlx::Error> {
    let (mut connection, _) = server.connect().await?;
    sqlx::raw_sql(PATIENCE).execute(&mut connection).await?;
    lock(&mut connection).await?;
    within(MIGRATING, migrate(&mut connection)).await?;
    let users = sqlx::query_as("SELECT CAST(id AS UNSIGNED), name, face FROM users ORDER BY id");
    let directory = UserDirectory::new(within(ANSWER, users.fetch_all(&mut connection)).await?);
    carry_over(&mut connection, &directory).await?;
    let key = sqlx::query_scalar("SELECT hash_key FROM log_state WHERE one = 1").fetch_one(&mut connection);
    let key = hash_key(within(ANSWER, key).await?)?;
    // MySQL releases the lock with the connection.
    let _ = within(ANSWER, connection.close()).await;
    Ok((directory, key))
}

async fn lock(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let asked = Instant::now();
    let mut said = false;
    loop {
        let granted = sqlx::query_scalar(LOCK).bind(LOCK_WAIT).fetch_one(&mut *connection);
        let granted: Option<i64> = within(ANSWER, granted).await?;
        if granted == Some(1) {
            return Ok(());
        }
        if !said && asked.elapsed() > ANSWER {
            tracing::warn!("waiting for another replica, which is upgrading the tables");
            said = true;
        }
    }
}

async fn migrate(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    let tables: i64 = sqlx::query_scalar(COUNT_TABLES).fetch_one(&mut *connection).await?;
    if tables > 0 {
        let halves = sqlx::query(FORGET_HALF).execute(&mut *connection).await?.rows_affected();
        if halves > 0 {
            tracing::warn!(halves, "a crash interrupted a migration; running it again");
        }
    }
    let mut migrator: Migrator = sqlx::migrate!("sql/mysql");
    // The lock above is held. Migrations unknown to this version come from a newer replica that runs beside it.
    migrator.set_locking(false).set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        error => sqlx::Error::Migrate(Box::new(error)),
    })
}

/// Converts the smiles of an earlier version, one row each, into batches, some thousands per transaction, under the
/// lock. The end of the log tells how far an interrupted conversion got.
async fn carry_over(connection: &mut MySqlConnection, directory: &UserDirectory) -> Result<(), sqlx::Error> {
    if sqlx::query_scalar::<_, i64>(COUNT_OLD_TABLES).fetch_one(&mut *connection).await? == 0 {
        return Ok(());
    }
    loop {
        let after: i64 = sqlx::query_scalar(HEAD).fetch_one(&mut *connection).await?;
        let rows = sqlx::query_as(READ_OLD).bind(after).bind(ROWS_PER_TRANSACTION).fetch_all(&mut *connection);
        let rows: Vec<StoredRow> = within(MIGRATING, rows).await?;
        if rows.is_empty() {
            break;
        }
        tracing::info!(smiles = rows.len(), "carrying smiles of an earlier version over into batches");
        let batches = into_batches(&rows, directory).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        within(MIGRATING, insert(&batches).build().persistent(false).execute(&mut *connection)).await?;
    }
    within(MIGRATING, sqlx::raw_sql(DROP_OLD).execute(connection)).await?;
    Ok(())
}

/// Whether to retry after an error, given how long the retries have lasted.
fn passes(error: &sqlx::Error, waited: Duration) -> bool {
    match error {
        // A starting server refuses connections, has no DNS name yet, or closes the connection during the handshake.
        // `InvalidData` is an invalid certificate.
        sqlx::Error::Io(error) => error.kind() != ErrorKind::InvalidData,
        error => number(error).is_some_and(|number| {
            PASSING.contains(&number)
                || NOT_PRIMARY.contains(&number)
                || NO_ACCOUNT.contains(&number) && waited < ACCOUNT
        }),
    }
}

/// The error with advice.
fn told(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(_) => {
            "the server offers no TLS, and without it MySQL takes no password from a user it has not seen since it was \
             started; switch TLS on there"
                .to_owned()
        }
        sqlx::Error::Protocol(what) => what.clone(),
        error => error.to_string(),
    }
}
