//! Making and upgrading the tables, by however many replicas start at once.
//!
//! Owns the wait for a server that is not there yet, the lock under which one replica at a time changes tables, and the
//! repair of what a crash cut in half. Uses a connection of its own, so that whatever goes wrong ends the lock.
//!
//! A migration never changes once a database may have it, not even a comment: its checksum is kept there. A changed
//! procedure gets a new name, since older replicas go on calling the old one.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, MySqlConnection, QueryBuilder};

use super::connections::{ANSWER, NOT_PRIMARY, number, within};
use super::server::Server;
use crate::store::carry_over::{ROWS_PER_TRANSACTION, StoredRow, into_batches};
use crate::store::user_directory::UserDirectory;
use crate::store::{StoreError, hash_key, integer};

/// From one try to reach a server that is not there to the next.
const RETRY: Duration = Duration::from_millis(500);

/// How often a replica says what it is waiting for.
const REMINDER: Duration = Duration::from_secs(10);

/// Seconds for which MySQL is asked to wait for the lock, each time.
const LOCK_WAIT: u32 = 1;

/// How long the migrations are waited for. One that takes longer goes on in MySQL, its lock with it, and is waited for
/// there.
const MIGRATING: Duration = Duration::from_mins(1);

/// Nobody waits at a socket meanwhile, so a table may be waited for, and read for long.
const PATIENCE: &str = "SET lock_wait_timeout = 50, innodb_lock_wait_timeout = 50, max_execution_time = 0";

/// One lock for each database of a server. The digest keeps a long name within the 64 characters of a lock's.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('smilingchat tables ', LEFT(SHA2(DATABASE(), 256), 32)), ?)";

/// A row that says "not successful" is a migration that a crash cut in half, for whoever holds the lock. Each of ours
/// may be run twice, so it is.
const FORGET_HALF: &str = "DELETE FROM _sqlx_migrations WHERE NOT success";

const COUNT_TABLES: &str = "
    SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '_sqlx_migrations'";

const COUNT_OLD_TABLES: &str = "
    SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'smiles_before_batches'";

const HEAD: &str = "
    SELECT COALESCE((SELECT first + smiles - 1 FROM log_batches ORDER BY first DESC LIMIT 1), trimmed)
    FROM log_state WHERE one = 1";

const READ_OLD: &str = "
    SELECT position, CAST(sender AS SIGNED) AS sender, CAST(receiver AS SIGNED) AS receiver, id, faces, at
    FROM smiles_before_batches WHERE position > ? ORDER BY position LIMIT ?";

const DROP_OLD: &str = "DROP TABLE IF EXISTS smiles_before_batches, replicas_before_batches";

/// Errors of a server that is starting, stopping or full: too many connections, shutting down, offline; and of a router
/// that has no server to lead to.
const PASSING: [u16; 6] = [1040, 1053, 1203, 2003, 3032, 3169];

/// Errors of a server that does not know the account, or its rights. They may be made after the server, so this is
/// waited for a little. A password that is wrong must end in an error.
const NO_ACCOUNT: [u16; 2] = [1044, 1045];
const ACCOUNT: Duration = Duration::from_secs(15);

/// A user of the database: row id, name and face.
type User = (u32, String, String);

/// The users, and the key of the hashes in the index.
pub(super) type Opened = (Vec<User>, [u8; 16]);

/// Reads what never changes in an upgraded database. Waits, and says for what, as long as MySQL is not there.
pub(super) async fn when_there(server: &Server) -> Result<Opened, StoreError> {
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

async fn upgraded(server: &Server) -> Result<Opened, sqlx::Error> {
    let (mut connection, _) = server.connect().await?;
    sqlx::raw_sql(PATIENCE).execute(&mut connection).await?;
    lock(&mut connection).await?;
    within(MIGRATING, migrate(&mut connection)).await?;
    let users = sqlx::query_as("SELECT CAST(id AS UNSIGNED), name, face FROM users ORDER BY id");
    let users: Vec<(u64, String, String)> = within(ANSWER, users.fetch_all(&mut connection)).await?;
    let users: Vec<User> =
        users.into_iter().map(|(id, name, face)| (u32::try_from(id).unwrap_or(u32::MAX), name, face)).collect();
    carry_over(&mut connection, &UserDirectory::new(users.clone())).await?;
    let key = sqlx::query_scalar("SELECT hash_key FROM log_state WHERE one = 1").fetch_one(&mut connection);
    let key = hash_key(within(ANSWER, key).await?)?;
    // The lock ends with the connection.
    let _ = within(ANSWER, connection.close()).await;
    Ok((users, key))
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
            tracing::warn!(halves, "a migration was cut in half by a crash; it is run again");
        }
    }
    let mut migrator: Migrator = sqlx::migrate!("sql/mysql");
    // The lock above is held. A migration that is missing here was made by a newer replica, beside which this one runs.
    migrator.set_locking(false).set_ignore_missing(true);
    migrator.run_direct(None, connection, false).await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        error => sqlx::Error::Migrate(Box::new(error)),
    })
}

/// Moves the smiles of a version that kept one row for each into batches, some thousands in a transaction, under the
/// lock. A replica that finds the move unfinished goes on with it: where the log ends says how far it has come.
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
        let mut insert = QueryBuilder::new("INSERT INTO log_batches (first, smiles, token, appended_at, payload) ");
        insert.push_values(&batches, |mut row, (batch, at)| {
            row.push_bind(integer(batch.key.first))
                .push_bind(i64::try_from(batch.count).unwrap_or(i64::MAX))
                .push_bind(batch.key.token)
                .push_bind(at.as_milliseconds())
                .push_bind(&batch.payload);
        });
        within(MIGRATING, insert.build().persistent(false).execute(&mut *connection)).await?;
    }
    within(MIGRATING, sqlx::raw_sql(DROP_OLD).execute(connection)).await?;
    Ok(())
}

/// Whether waiting may help, after that much of it.
fn passes(error: &sqlx::Error, waited: Duration) -> bool {
    match error {
        // A server that is about to be there refuses, is not known by name, or ends the connection while it begins.
        // What is invalid is its certificate.
        sqlx::Error::Io(error) => error.kind() != ErrorKind::InvalidData,
        error => number(error).is_some_and(|number| {
            PASSING.contains(&number)
                || NOT_PRIMARY.contains(&number)
                || NO_ACCOUNT.contains(&number) && waited < ACCOUNT
        }),
    }
}

/// The error in words that help.
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
