//! Creates and upgrades the tables, even when several replicas start at the same time.
//!
//! A replica waits for the server, takes a lock so that one replica at a time changes tables, and repairs what a crash
//! interrupted. For this, it uses a connection of its own: when the connection closes, even after a failure, MySQL
//! releases the lock.
//!
//! A migration must not change once a database may have run it, not even in a comment: the database keeps the checksum
//! of the migration. A changed procedure gets a new name, since replicas of an older version still call the old one.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate, MigrateError};
use sqlx::{AssertSqlSafe, Connection, Executor, MySqlConnection};

use super::connections::{ANSWER_TIMEOUT, NOT_PRIMARY, number, within};
use super::server::MySqlServer;
use crate::store::carry_over::{NEXT_ROWS, next_step};
use crate::store::user_directory::UserDirectory;
use crate::store::{StoreError, hash_key, refuse_foreign};

const RETRY: Duration = Duration::from_millis(500);

/// Minimum interval between log lines about a wait.
const REMINDER: Duration = Duration::from_secs(10);

/// Time limit for the migrations, and for one step of the conversion. A statement that takes longer continues in MySQL,
/// its session keeps [`LOCK`], and the next attempts wait for this lock.
const MIGRATING: Duration = Duration::from_mins(1);

/// Lets the statements of an upgrade take a long time, since no user waits for them. If this replica freezes or is cut
/// off between two statements, MySQL ends its session after 5 s and releases [`LOCK`], so that other replicas can
/// start.
const LONG_WAITS: &str =
    "SET lock_wait_timeout = 50, innodb_lock_wait_timeout = 50, max_execution_time = 0, wait_timeout = 5";

/// With the digest, the name of the lock stays within the limit of 64 characters.
const LOCK: &str = "SELECT GET_LOCK(CONCAT('smilingchat tables ', LEFT(SHA2(DATABASE(), 256), 32)), 1)";

/// Since this replica holds the lock, no other replica is running the incomplete migrations: a crash, an error or a
/// timeout interrupted them. Migrations are idempotent, so they can run again.
const FORGET_HALF: &str = "DELETE FROM _sqlx_migrations WHERE NOT success";

const IS_OWN: &str = "
    SELECT CAST(MAX(table_name = '_sqlx_migrations') AS SIGNED) FROM information_schema.tables
    WHERE table_schema = DATABASE()";

const COUNT_OLD_TABLES: &str = "
    SELECT COUNT(*) FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'smiles_before_batches'";

/// Temporary errors: the server is stopping, offline or out of connections, it ended this session, another session
/// holds a lock, or a router has no server.
const TRANSIENT: [u16; 9] = [1040, 1053, 1203, 1205, 1213, 2003, 3032, 3169, 4031];

/// Errors about the account and its privileges.
const NO_ACCOUNT: [u16; 2] = [1044, 1045];

/// How long to retry after an error in [`NO_ACCOUNT`]. A deployment may create the account after the server starts, but
/// a wrong password must end in an error.
const ACCOUNT: Duration = Duration::from_secs(15);

/// Replaces the library's message, which is addressed to developers.
const NO_TLS: &str = "the server offers no TLS, and without TLS this program cannot use an account that has not logged \
    in since the server started; enable TLS on the server";

/// The users, and the key of the hashes in the index.
pub(super) type Opened = (UserDirectory, [u8; 16]);

/// Upgrades the database and reads its constant data.
pub(super) async fn open(server: &MySqlServer) -> Result<Opened, StoreError> {
    let (mut said, mut denied): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let error = match try_open(server).await {
            Ok(opened) => return Ok(opened),
            Err(error) if is_transient(&error, &mut denied) => error,
            Err(error) => {
                let why = match error {
                    sqlx::Error::Configuration(_) => NO_TLS.to_owned(),
                    sqlx::Error::Protocol(why) => why,
                    error => error.to_string(),
                };
                return Err(StoreError::CannotOpen(format!("cannot open the store {:?}: {why}", server.url)));
            }
        };
        if said.is_none_or(|at| at.elapsed() > REMINDER) {
            tracing::warn!(%error, server = server.address(), "waiting for MySQL");
            said = Some(Instant::now());
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn try_open(server: &MySqlServer) -> Result<Opened, sqlx::Error> {
    let mut connection = server.connect().await?.connection;
    within(ANSWER_TIMEOUT, sqlx::raw_sql(LONG_WAITS).execute(&mut connection)).await?;
    let locked: Option<i64> = within(ANSWER_TIMEOUT, sqlx::query_scalar(LOCK).fetch_one(&mut connection)).await?;
    if locked != Some(1) {
        return Err(io::Error::other("another replica is starting or upgrading the tables").into());
    }
    within(MIGRATING, migrate(&mut connection)).await?;
    let users = sqlx::query_as("SELECT CAST(id AS UNSIGNED), name, face FROM users ORDER BY id");
    let directory = UserDirectory::new(within(ANSWER_TIMEOUT, users.fetch_all(&mut connection)).await?);
    while within(MIGRATING, carry_over(&mut connection, &directory)).await? {}
    let key = sqlx::query_scalar("SELECT hash_key FROM log_state WHERE one = 1").fetch_one(&mut connection);
    let key = hash_key(within(ANSWER_TIMEOUT, key).await?)?;
    // MySQL releases the lock when the connection closes.
    let _ = within(ANSWER_TIMEOUT, connection.close()).await;
    Ok((directory, key))
}

async fn migrate(connection: &mut MySqlConnection) -> Result<(), sqlx::Error> {
    refuse_foreign(sqlx::query_scalar(IS_OWN).fetch_one(&mut *connection).await?)?;
    let mut migrator = sqlx::migrate!("sql/mysql");
    // This replica already holds `LOCK`. Migrations unknown to this version come from a newer one, whose replicas may
    // be running.
    migrator.set_locking(false).set_ignore_missing(true);
    let migrated = async {
        connection.ensure_migrations_table("_sqlx_migrations").await?;
        let halves = sqlx::query(FORGET_HALF).execute(&mut *connection).await?.rows_affected();
        if halves > 0 {
            tracing::warn!(halves, "an earlier attempt did not complete a migration; running it again");
        }
        migrator.run_direct(None, &mut *connection, false).await
    };
    migrated.await.map_err(|error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error,
        error => sqlx::Error::Migrate(Box::new(error)),
    })
}

/// Runs one step of the conversion. Returns `false` if the database has no old tables.
async fn carry_over(connection: &mut MySqlConnection, directory: &UserDirectory) -> Result<bool, sqlx::Error> {
    if sqlx::query_scalar::<_, i64>(COUNT_OLD_TABLES).fetch_one(&mut *connection).await? == 0 {
        return Ok(false);
    }
    let rows: Vec<_> = sqlx::query_as(NEXT_ROWS).fetch_all(&mut *connection).await?;
    connection.execute(sqlx::raw_sql(AssertSqlSafe(next_step(&rows, directory)?))).await?;
    Ok(true)
}

/// Whether to retry after an error. `denied` is the time at which the server began to refuse the account.
fn is_transient(error: &sqlx::Error, denied: &mut Option<Instant>) -> bool {
    if number(error).is_some_and(|number| NO_ACCOUNT.contains(&number)) {
        return denied.get_or_insert_with(Instant::now).elapsed() < ACCOUNT;
    }
    *denied = None;
    match error {
        // A starting server refuses connections, has no DNS name yet, or closes the connection during the handshake.
        // `InvalidData` means that the certificate is invalid.
        sqlx::Error::Io(error) => error.kind() != ErrorKind::InvalidData,
        error => number(error).is_some_and(|number| TRANSIENT.contains(&number) || NOT_PRIMARY.contains(&number)),
    }
}
