//! Migrations of an SQLite file, including the conversion of an earlier version's smiles into batches.

use sqlx::{AssertSqlSafe, Executor, SqliteConnection};

use crate::store::carry_over::{NEXT_ROWS, next_step};
use crate::store::user_directory::UserDirectory;
use crate::store::{hash_key, refuse_foreign};

const START: &str = "UPDATE log_state SET starts = starts + 1 RETURNING hash_key, starts";

const IS_OWN: &str = "SELECT MAX(name = '_sqlx_migrations') FROM sqlite_schema";

/// The file keeps this mode.
const WAL: &str = "PRAGMA journal_mode = WAL";

const IS_THERE: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'smiles_before_batches'";

/// Counts this start. Returns the users, the key of [`IdHash`](crate::store::IdHash), and the count of starts, as in
/// [`Sqlite::starts`](super::Sqlite::starts).
pub(super) async fn open(connection: &mut SqliteConnection) -> sqlx::Result<(UserDirectory, [u8; 16], i64)> {
    refuse_foreign(sqlx::query_scalar(IS_OWN).fetch_one(&mut *connection).await?)?;
    sqlx::migrate!("sql/sqlite").run_direct(None, connection, false).await?;
    connection.execute(WAL).await?;
    let users = sqlx::query_as("SELECT id, name, face FROM users ORDER BY id").fetch_all(&mut *connection).await?;
    let directory = UserDirectory::new(users);
    while sqlx::query_scalar::<_, i64>(IS_THERE).fetch_one(&mut *connection).await? > 0 {
        let rows: Vec<_> = sqlx::query_as(NEXT_ROWS).fetch_all(&mut *connection).await?;
        let step = next_step(&rows, &directory)?;
        connection.execute(sqlx::raw_sql(AssertSqlSafe(step))).await?;
    }
    let (key, starts): (Vec<u8>, i64) = sqlx::query_as(START).fetch_one(connection).await?;
    Ok((directory, hash_key(key)?, starts))
}
