//! Putting smiles into the MySQL log.
//!
//! Owns the call of the appending procedure (`sql/mysql/0008_append_smiles.sql`), and what is known when it breaks.
//!
//! The whole transaction is one round trip, so a replica that freezes or dies leaves nothing locked: MySQL has all of it
//! or none. It is made in the hope that every smile is new. When one is not, MySQL says so, nothing is stored, and only
//! then is it looked up which they are.
//!
//! When the answer to a transaction is lost, the transaction is simply tried again. `(sender, id)` is unique, so if the
//! first try took place, or still does, the second one meets its smiles and stores nothing. So there is no unknown
//! outcome: there is an outcome that takes until MySQL is back, and until then nobody is told anything.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use sqlx::FromRow;
use sqlx::mysql::MySqlDatabaseError;

use super::connections::{ANSWER, within};
use super::read::offset;
use super::{MySql, statements};
use crate::model::{NewSmile, Offset, Timestamp};
use crate::protocol::to_json;
use crate::store::batch::{Batch, Key, Row};
use crate::store::{Appended, StoreError};

/// The error of a row that is there already, by its `(sender, id)`.
const DUPLICATE: i32 = 1062;

/// Errors with which the procedure did not even begin: no such database, procedure or right, or a server that may only be
/// read. After any other the commit may have been under way: a server that is shutting down (1053) says so after it, too.
const NOT_BEGUN: [u16; 6] = [1044, 1049, 1142, 1290, 1305, 1370];

/// How long it may take to reach MySQL, so that a smile is refused within a second when it is away.
const REACHED: Duration = Duration::from_millis(800);

/// Tries of a batch that MySQL itself rolls back, before its smiles are refused: it met a deadlock, waited for a row
/// too long, or is shutting down.
const TRIES: u32 = 3;

/// How long to wait before the next try: doubled from the one to the other.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What the procedure answers: the head that the smiles follow, or the number and the words of what is in the way.
type Answer = (Option<i64>, Option<i32>, Option<String>);

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
    /// One of them is stored already, so MySQL has rolled all of them back.
    Duplicate(Error),
    /// MySQL has rolled them back for a reason that may pass.
    RolledBack(Error),
    /// MySQL was not reached, or would not begin.
    NotBegun(Error),
    /// MySQL was asked, and did not answer.
    NoAnswer(Error),
}

/// What somebody else said, to be passed on in words.
type Error = Box<dyn std::error::Error + Send + Sync>;

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
                Ok(head) => {
                    self.company().stored(head, batch.new.len(), Instant::now());
                    return Ok(batch.appended(head));
                }
                Err(Failure::Duplicate(error)) => match self.look_up(&rows, at, tries.in_doubt).await {
                    Ok(found) if found.len() > known.len() => known = found,
                    // It was a smile that retention has removed meanwhile, or the log is damaged.
                    Ok(_) => tries.rolled_back(error).await?,
                    Err(error) => tries.not_begun(error.into()).await?,
                },
                Err(Failure::RolledBack(error)) => tries.rolled_back(error).await?,
                Err(Failure::NotBegun(error)) => tries.not_begun(error).await?,
                Err(Failure::NoAnswer(error)) => tries.no_answer(error).await,
            }
        }
    }

    /// One transaction; returns the head that its smiles follow.
    async fn try_to_append(&self, new: &[&Row<'_>], at: Timestamp) -> Result<Offset, Failure> {
        let lane = within(REACHED, self.inner.appending.take()).await;
        let mut lane = lane.map_err(|error| Failure::NotBegun(error.into()))?;
        let call = sqlx::query_as("CALL append_smiles(?, ?)").bind(to_json(&new)).bind(at.as_milliseconds());
        let answer: Answer = match within(ANSWER, call.fetch_one(&mut lane.connection)).await {
            Ok(answer) => answer,
            Err(error) if number(&error).is_some_and(|number| NOT_BEGUN.contains(&number)) => {
                return Err(Failure::NotBegun(error.into()));
            }
            Err(error) => return Err(Failure::NoAnswer(error.into())),
        };
        lane.keep();
        match answer {
            (Some(head), ..) => Ok(offset(head)),
            (None, Some(DUPLICATE), why) => Err(Failure::Duplicate(why.unwrap_or_default().into())),
            (None, _, why) => Err(Failure::RolledBack(why.unwrap_or_default().into())),
        }
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
    async fn rolled_back(&mut self, error: Error) -> Result<(), StoreError> {
        if self.failed + 1 >= TRIES {
            return self.not_begun(error).await;
        }
        self.pause(error).await;
        Ok(())
    }

    /// Gives the batch up, if that is possible: a server that cannot be reached is not asked again while its senders wait.
    async fn not_begun(&mut self, error: Error) -> Result<(), StoreError> {
        if !self.in_doubt {
            return Err(StoreError::Unavailable(error));
        }
        self.pause(error).await;
        Ok(())
    }

    async fn no_answer(&mut self, error: Error) {
        self.in_doubt = true;
        self.pause(error).await;
    }

    async fn pause(&mut self, error: Error) {
        self.failed += 1;
        if self.in_doubt && self.failed.is_power_of_two() {
            tracing::warn!(%error, tries = self.failed, "it is not known yet whether a batch is in the log; trying again");
        }
        tokio::time::sleep(SHORTEST_PAUSE.saturating_mul(1 << self.failed.min(10)).min(LONGEST_PAUSE)).await;
    }
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

/// MySQL's number of an error, if it is one of MySQL's.
fn number(error: &sqlx::Error) -> Option<u16> {
    let error = error.as_database_error()?;
    error.try_downcast_ref::<MySqlDatabaseError>().map(MySqlDatabaseError::number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::tests::database::Database;
    use crate::store::tests::{append, smile};

    #[tokio::test]
    async fn what_is_rolled_back_leaves_nothing_locked() {
        let Some(database) = Database::mysql().await else { return };
        let store = database.open().await;
        append(&store, &[("anna", "bruno", "a")]).await;
        let again = [smile(&store, "anna", "bruno", "a")];
        let Store::MySql(mysql) = &store else { unreachable!() };
        let rows = [Row::new(&again[0], mysql.directory())];
        // As from a replica that freezes before it reads the answer.
        let mut frozen = database.connect().await;
        let call = sqlx::query_as("CALL append_smiles(?, 7)").bind(to_json(&rows));
        let answer: Answer = call.fetch_one(&mut frozen).await.unwrap();
        assert_eq!((answer.0, answer.1), (None, Some(DUPLICATE)));

        let began = Instant::now();
        assert_eq!(append(&store, &[("anna", "bruno", "b")]).await, [Appended::Stored(Offset(2))]);
        assert!(began.elapsed() < Duration::from_millis(900), "the head was locked for {:?}", began.elapsed());
        drop(frozen);
    }

    #[tokio::test]
    async fn a_batch_is_stored_whole_or_not_at_all() {
        let Some(database) = Database::mysql().await else { return };
        let store = database.open().await;
        let mut connection = database.connect().await;
        for wrong in ["[[1,\"a\",2,3,\"😀\"],[1,\"b\",2]]", "[[1,\"a\",2,3,\"😀\"],[1,\"ü\",2,3,\"😀\"]]"] {
            let call = sqlx::query_as("CALL append_smiles(?, 7)").bind(wrong);
            let answer: Answer = call.fetch_one(&mut connection).await.unwrap();
            assert!(answer.0.is_none() && answer.1.is_some_and(|number| number > 0), "{answer:?}");
        }
        assert_eq!(append(&store, &[("anna", "bruno", "a")]).await, [Appended::Stored(Offset(1))]);
    }
}
