//! Migrations of an SQLite file, including the conversion of an earlier version's smiles into batches.

use sqlx::SqliteConnection;

use crate::store::carry_over::{HEAD, READ_OLD, ROWS_PER_TRANSACTION, StoredRow, insert, into_batches};
use crate::store::hash_key;
use crate::store::user_directory::UserDirectory;

const START: &str = "UPDATE log_state SET starts = starts + 1 RETURNING hash_key, starts";

const IS_THERE: &str = "SELECT COUNT(*) FROM sqlite_schema WHERE name = 'smiles_before_batches'";

/// Runs the migrations, and counts this start. Returns the users, the key of [`IdHash`](crate::store::IdHash), and how
/// often the file was opened, including this time.
pub(super) async fn up_to_date(connection: &mut SqliteConnection) -> sqlx::Result<(UserDirectory, [u8; 16], i64)> {
    sqlx::migrate!("sql/sqlite").run_direct(None, connection, false).await?;
    let users = sqlx::query_as("SELECT id, name, face FROM users ORDER BY id").fetch_all(&mut *connection).await?;
    let directory = UserDirectory::new(users);
    carry_over(connection, &directory).await?;
    let (key, starts): (Vec<u8>, i64) = sqlx::query_as(START).fetch_one(connection).await?;
    Ok((directory, hash_key(key)?, starts))
}

/// Converts the rows of an earlier version into batches, some thousands per transaction. After an interruption the next
/// start continues at the end of the log.
async fn carry_over(connection: &mut SqliteConnection, directory: &UserDirectory) -> sqlx::Result<()> {
    if sqlx::query_scalar::<_, i64>(IS_THERE).fetch_one(&mut *connection).await? == 0 {
        return Ok(());
    }
    loop {
        let after: i64 = sqlx::query_scalar(HEAD).fetch_one(&mut *connection).await?;
        let rows = sqlx::query_as(READ_OLD).bind(after).bind(ROWS_PER_TRANSACTION).fetch_all(&mut *connection);
        let rows: Vec<StoredRow> = rows.await?;
        if rows.is_empty() {
            break;
        }
        tracing::info!(smiles = rows.len(), "carrying smiles of an earlier version over into batches");
        let batches = into_batches(&rows, directory).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        insert(&batches).build().persistent(false).execute(&mut *connection).await?;
    }
    sqlx::query("DROP TABLE smiles_before_batches").execute(connection).await?;
    Ok(())
}
