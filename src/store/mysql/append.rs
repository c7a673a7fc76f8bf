//! Putting smiles into the MySQL log.
//!
//! Owns the appending transaction, and what is known when it breaks.
//!
//! The whole transaction is one round trip, so a replica that freezes or dies leaves nothing locked: MySQL has all of it
//! or none. It is written in the hope that every smile is new. When one is not, MySQL says so, nothing is stored, and
//! only then is it looked up which they are.
//!
//! When the answer to a transaction is lost, the transaction is simply tried again. `(sender, id)` is unique, so if the
//! first try took place, or still does, the second one meets its smiles and stores nothing. So there is no unknown
//! outcome: there is an outcome that takes until MySQL is back, and until then nobody is told anything.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use futures_util::TryStreamExt;
use sqlx::mysql::MySqlDatabaseError;
use sqlx::{Either, FromRow, MySqlConnection};

use super::connections::{ANSWER, SILENCE, within};
use super::read::offset;
use super::{MySql, statements};
use crate::model::{NewSmile, Offset, Timestamp};
use crate::store::batch::{Batch, Key, Row};
use crate::store::{Appended, StoreError};

/// The error of a row that is there already, by its `(sender, id)`.
const DUPLICATE: u16 = 1062;

/// Tries of a batch that MySQL itself rolls back, before its smiles are refused: it met a deadlock, waited for a row
/// too long, or is shutting down.
const TRIES: u32 = 3;

/// How long to wait before the next try: doubled from the one to the other.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A row of the log, as it is looked up by its sender and id.
#[derive(FromRow)]
struct Found {
    sender: i64,
    id: String,
    position: i64,
    receiver: i64,
    faces: String,
    at: i64,
}

/// Why a try did not store its smiles, as far as that is known.
#[derive(Debug)]
enum Failure {
    /// One of them is stored already, so none was stored now.
    Duplicate(sqlx::Error),
    /// MySQL said no, or was not reached.
    NotStored(sqlx::Error),
    /// MySQL was asked, and did not answer.
    NoAnswer(sqlx::Error),
}

impl MySql {
    pub(in crate::store) async fn append(
        &self,
        smiles: &[NewSmile],
        at: Timestamp,
    ) -> Result<Vec<Appended>, StoreError> {
        let rows: Vec<Row<'_>> = smiles.iter().map(|smile| Row::new(smile, self.directory())).collect();
        let mut known = HashMap::new();
        let mut tries = Tries::default();
        loop {
            let batch = Batch::new(&rows, &known);
            if batch.new.is_empty() {
                return Ok(batch.appended(Offset::default()));
            }
            match self.try_to_append(&batch.new, at).await {
                Ok(head) => return Ok(batch.appended(head)),
                Err(Failure::Duplicate(error)) => match self.look_up(&rows, at, tries.in_doubt).await {
                    Ok(found) if found.len() > known.len() => known = found,
                    // It was a smile that retention has removed meanwhile, or the log is damaged.
                    Ok(_) => tries.failed(error).await?,
                    Err(error) => tries.failed(error).await?,
                },
                Err(Failure::NotStored(error)) => tries.failed(error).await?,
                Err(Failure::NoAnswer(error)) => {
                    tries.in_doubt = true;
                    tries.failed(error).await?;
                }
            }
        }
    }

    /// One transaction; returns the head that its smiles follow.
    async fn try_to_append(&self, new: &[&Row<'_>], at: Timestamp) -> Result<Offset, Failure> {
        let mut lane = self.inner.appending.take().await.map_err(Failure::NotStored)?;
        let mut progress = Progress::default();
        let run = run(&mut lane.connection, transaction(new, at), &mut progress);
        match within(ANSWER, run).await {
            Ok(()) => lane.keep(),
            Err(_) if progress.committed() => {}
            Err(error) if is_duplicate(&error) => {
                let rolled_back = statements(format!("ROLLBACK; SET wait_timeout = {SILENCE}"));
                if within(ANSWER, rolled_back.execute(&mut lane.connection)).await.is_ok() {
                    lane.keep();
                }
                return Err(Failure::Duplicate(error));
            }
            // Of the commit itself one never knows.
            Err(error @ sqlx::Error::Database(_)) if !progress.committing() => return Err(Failure::NotStored(error)),
            Err(error) => return Err(Failure::NoAnswer(error)),
        }
        Ok(Offset(progress.head))
    }

    /// Which of these rows are in the log.
    ///
    /// `in_doubt`: an earlier try of this batch ended without an answer. What is found with the batch's own time, and
    /// is the same in all else, is then that try's work, so it is stored and not a duplicate.
    async fn look_up<'batch>(
        &self,
        rows: &[Row<'batch>],
        at: Timestamp,
        in_doubt: bool,
    ) -> Result<HashMap<Key<'batch>, Appended>, sqlx::Error> {
        let mut lane = self.inner.appending.take().await?;
        let text = look_up_statement(rows);
        let found = within(ANSWER, statements(text).fetch_all(&mut lane.connection)).await?;
        lane.keep();
        let found: Vec<Found> = found.iter().map(Found::from_row).collect::<Result<_, _>>()?;
        let found: HashMap<Key<'_>, &Found> =
            found.iter().map(|found| ((found.sender, found.id.as_str()), found)).collect();
        let known = rows.iter().filter_map(|row| {
            let found = found.get(&row.key())?;
            let same =
                (found.receiver, found.faces.as_str(), found.at) == (row.receiver, row.faces, at.as_milliseconds());
            let position = offset(found.position);
            let appended = if in_doubt && same { Appended::Stored(position) } else { Appended::Duplicate(position) };
            Some((row.key(), appended))
        });
        Ok(known.collect())
    }
}

/// How often a batch was tried, and whether it may be given up.
#[derive(Debug, Default)]
struct Tries {
    failed: u32,
    /// Whether one of them may have taken place. Then nothing may be refused any more, and trying goes on until MySQL
    /// answers, however long it is away.
    in_doubt: bool,
}

impl Tries {
    /// Waits for the next try, or gives the batch up.
    async fn failed(&mut self, error: sqlx::Error) -> Result<(), StoreError> {
        self.failed += 1;
        // A server that cannot be reached is not asked again while its senders wait.
        let hopeless = self.failed >= TRIES || !matches!(error, sqlx::Error::Database(_));
        if !self.in_doubt && hopeless {
            return Err(error.into());
        }
        let pause = SHORTEST_PAUSE.saturating_mul(1 << self.failed.min(10)).min(LONGEST_PAUSE);
        if self.in_doubt && self.failed.is_power_of_two() {
            tracing::warn!(%error, tries = self.failed, "it is not known yet whether a batch is in the log; trying again");
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// How far the appending transaction has come.
#[derive(Debug, Default)]
struct Progress {
    /// Statements that MySQL has carried out.
    statements: usize,
    /// What the head was.
    head: u64,
}

/// The statements of the transaction up to its insert.
const BEFORE_COMMIT: usize = 4;

impl Progress {
    fn committing(&self) -> bool {
        self.statements == BEFORE_COMMIT
    }

    fn committed(&self) -> bool {
        self.statements > BEFORE_COMMIT
    }
}

/// The appending transaction. Its literals cannot end early: numbers, ids of a known alphabet, and faces in hexadecimal.
///
/// When a statement fails, MySQL skips the rest, and waits for this replica with the head still locked. Should the
/// replica freeze at that moment, the session ends after a second of silence, and with it the lock; after a commit it
/// may be silent for long again.
fn transaction(new: &[&Row<'_>], at: Timestamp) -> String {
    let mut text = format!(
        "SET wait_timeout = 1; BEGIN; UPDATE log SET head = LAST_INSERT_ID(head) + {} WHERE one = 1; \
         INSERT INTO smiles (position, conversation, sender, receiver, id, faces, at) VALUES ",
        new.len()
    );
    for (row, number) in new.iter().zip(1_u32..) {
        let Row { sender, id, receiver, conversation, faces } = row;
        let comma = if number > 1 { "," } else { "" };
        let _ = write!(text, "{comma}(LAST_INSERT_ID()+{number},{conversation},{sender},{receiver},'{id}',_utf8mb4 x'");
        for byte in faces.bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = write!(text, "',{})", at.as_milliseconds());
    }
    let _ = write!(text, "; COMMIT; SET wait_timeout = {SILENCE}");
    text
}

/// What finds rows by their senders and ids, each with one look into the index.
fn look_up_statement(rows: &[Row<'_>]) -> String {
    let mut text = "SELECT sender, id, position, receiver, faces, at FROM smiles FORCE INDEX (smiles_once) \
                    WHERE (sender, id) IN ("
        .to_owned();
    for (index, row) in rows.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _ = write!(text, "{comma}({},'{}')", row.sender, row.id);
    }
    text.push(')');
    text
}

async fn run(connection: &mut MySqlConnection, text: String, progress: &mut Progress) -> Result<(), sqlx::Error> {
    let mut results = statements(text).fetch_many(connection);
    while let Some(result) = results.try_next().await? {
        if let Either::Left(done) = result {
            progress.statements += 1;
            // Only the update of the head has such an id: the others leave it 0.
            progress.head = progress.head.max(done.last_insert_id());
        }
    }
    Ok(())
}

fn is_duplicate(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| error.number() == DUPLICATE)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::store::Store;
    use crate::store::tests::database::Database;
    use crate::store::tests::{append, smile};

    #[tokio::test]
    async fn a_replica_that_freezes_after_an_error_does_not_keep_the_head() {
        let Some(database) = Database::mysql().await else { return };
        let store = database.open().await;
        append(&store, &[("anna", "bruno", "a")]).await;
        let again = [smile(&store, "anna", "bruno", "a")];
        let Store::MySql(mysql) = &store else { unreachable!() };
        let row = Row::new(&again[0], mysql.directory());
        let mut frozen = database.connect().await;
        let text = transaction(&[&row], Timestamp::now());
        assert!(is_duplicate(&run(&mut frozen, text, &mut Progress::default()).await.unwrap_err()));

        let began = Instant::now();
        assert_eq!(append(&store, &[("anna", "bruno", "b")]).await, [Appended::Stored(Offset(2))]);
        assert!(began.elapsed() > Duration::from_millis(100), "the frozen one has locked the head");
        drop(frozen);
    }

    #[test]
    fn literals_do_not_end_early() {
        let row = Row { sender: 1, id: "a.b_c-9", receiver: 2, conversation: 3, faces: "'; DROP TABLE smiles; --" };
        let text = transaction(&[&row], Timestamp::from_milliseconds(7));
        assert!(text.contains("(LAST_INSERT_ID()+1,3,1,2,'a.b_c-9',_utf8mb4 x'273b2044"), "{text}");
        assert!(!text.contains("DROP"), "{text}");
    }
}
