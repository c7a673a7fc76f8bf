//! Reading the MySQL log: all of it, one user's stream, one conversation.
//!
//! Owns those queries. Each is one statement, so one round trip and one consistent view: the rows, and how far the log
//! reaches in that view, back and forth. Each is answered from an index.

use std::time::Duration;

use sqlx::{AssertSqlSafe, FromRow};
use tokio::time::Instant;

use super::MySql;
use super::connections::{ANSWER, within};
use crate::model::{Epoch, Faces, Offset, Smile, SmileId, Timestamp, UserName};
use crate::store::batch::conversation;
use crate::store::directory::Directory;
use crate::store::{LogPage, LogState, StoreError, StreamPage};

const LOG_STATE: &str = "SELECT epoch, head, trimmed FROM log WHERE one = 1";

const READ_LOG: &str = "
    SELECT log.head, log.trimmed, page.*
    FROM log LEFT JOIN (
        SELECT position, sender, receiver, id, faces, at FROM smiles WHERE position > ? ORDER BY position LIMIT ?
    ) AS page ON TRUE
    WHERE log.one = 1 ORDER BY page.position";

/// Offsets that one look at a stream covers. The merge sorts, so what it may find must be bounded.
const WINDOW: u64 = 10_000;

const READ_CONVERSATION: &str = "
    SELECT position, sender, receiver, id, faces, at FROM smiles
    WHERE conversation = ? AND position < ? ORDER BY position DESC LIMIT ?";

/// How long to wait before looking again for an offset that is committed and cannot be seen yet, and for how long in all.
const NOT_YET: Duration = Duration::from_millis(5);
const NOT_YET_AT_MOST: Duration = Duration::from_secs(1);

/// A row of the log.
#[derive(FromRow)]
pub(super) struct Row {
    pub(super) position: i64,
    pub(super) sender: i64,
    pub(super) receiver: i64,
    pub(super) id: String,
    pub(super) faces: String,
    pub(super) at: i64,
}

/// The rows of one view of the log, and how far it reaches.
struct View {
    head: Offset,
    rows: Vec<Row>,
}

/// A view as MySQL returns it: its ends with every row, and one row of nothing when there is none.
type ViewRow = (i64, i64, Option<i64>, Option<i64>, Option<i64>, Option<String>, Option<String>, Option<i64>);

/// What reads a user's stream: that user's conversations, merged. The conversations are listed one by one, because only
/// then does MySQL seek in each to where the page begins.
pub(super) fn stream_statement(users: usize) -> String {
    let conversations = vec!["?"; users].join(", ");
    format!(
        "
    SELECT log.head, log.trimmed, page.*
    FROM log LEFT JOIN (
        SELECT position, sender, receiver, id, faces, at FROM smiles FORCE INDEX (smiles_by_conversation)
        WHERE conversation IN ({conversations}) AND position > ? AND position <= ? ORDER BY position LIMIT ?
    ) AS page ON TRUE
    WHERE log.one = 1 ORDER BY page.position"
    )
}

impl MySql {
    pub(in crate::store) async fn log_state(&self) -> Result<LogState, StoreError> {
        let reading = &self.inner.reading;
        let ask = async || {
            let mut lane = reading.take().await?;
            let state = sqlx::query_as(LOG_STATE).fetch_one(&mut lane.connection);
            let state: (String, i64, i64) = within(ANSWER, state).await?;
            lane.keep();
            Ok(state)
        };
        let (epoch, head, trimmed) = reading.ask(ask).await?;
        Ok(LogState { epoch: Epoch::new(&epoch), head: offset(head), trimmed: offset(trimmed) })
    }

    pub(in crate::store) async fn read_log(&self, after: Offset, limit: u32) -> Result<LogPage, StoreError> {
        let following = &self.inner.following;
        let ask = async || {
            let mut lane = following.take().await?;
            let rows = sqlx::query_as(READ_LOG).bind(position(after)).bind(limit).fetch_all(&mut lane.connection);
            let rows = within(ANSWER, rows).await?;
            lane.keep();
            Ok(rows)
        };
        let view = View::reaching_back_to(after, following.ask(ask).await?)?;
        Ok(LogPage { smiles: self.smiles(view.rows)?, head: view.head })
    }

    pub(in crate::store) async fn read_stream(
        &self,
        user: &UserName,
        after: Offset,
        until: Offset,
        limit: u32,
    ) -> Result<StreamPage, StoreError> {
        let window_end = until.min(Offset(after.0 + WINDOW));
        let view = self.view_of_stream(user, after, window_end, limit).await?;
        let cut_off = view.rows.len() >= limit as usize;
        let smiles = self.smiles(view.rows)?;
        let through = smiles.last().filter(|_| cut_off).map_or(window_end, |last| last.offset);
        Ok(StreamPage { smiles, through })
    }

    /// A view that includes `until`. The caller knows that offset to be committed, but may know it earlier than MySQL
    /// shows it: who follows a replication stream is told of a commit before other sessions can see it.
    async fn view_of_stream(
        &self,
        user: &UserName,
        after: Offset,
        until: Offset,
        limit: u32,
    ) -> Result<View, StoreError> {
        let reading = &self.inner.reading;
        let ask = async || {
            let mut statement = sqlx::query_as(AssertSqlSafe(std::sync::Arc::clone(&self.inner.read_stream)));
            for peer in self.directory().users() {
                statement = statement.bind(conversation(self.directory().id(user), self.directory().id(&peer.name)));
            }
            let statement = statement.bind(position(after)).bind(position(until)).bind(limit);
            let mut lane = reading.take().await?;
            let rows = within(ANSWER, statement.fetch_all(&mut lane.connection)).await?;
            lane.keep();
            Ok(rows)
        };
        let asked = Instant::now();
        loop {
            let view = View::reaching_back_to(after, reading.ask(ask).await?)?;
            if view.head >= until {
                return Ok(view);
            }
            if asked.elapsed() > NOT_YET_AT_MOST {
                return Err(StoreError::Unavailable(format!("offset {until} cannot be seen yet").into()));
            }
            tokio::time::sleep(NOT_YET).await;
        }
    }

    pub(in crate::store) async fn read_conversation(
        &self,
        (one, other): (&UserName, &UserName),
        before: Option<Offset>,
        limit: u32,
    ) -> Result<(Vec<Smile>, bool), StoreError> {
        let reading = &self.inner.reading;
        let conversation = conversation(self.directory().id(one), self.directory().id(other));
        let ask = async || {
            let mut lane = reading.take().await?;
            let rows = sqlx::query_as(READ_CONVERSATION)
                .bind(conversation)
                .bind(before.map_or(i64::MAX, position))
                .bind(limit + 1)
                .fetch_all(&mut lane.connection);
            let rows: Vec<Row> = within(ANSWER, rows).await?;
            lane.keep();
            Ok(rows)
        };
        let mut rows = reading.ask(ask).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        rows.reverse();
        Ok((self.smiles(rows)?, more))
    }

    fn smiles(&self, rows: Vec<Row>) -> Result<Vec<Smile>, StoreError> {
        let damaged = || StoreError::Unavailable("a row of the log is not a smile: it was changed by hand".into());
        rows.into_iter().map(|row| row.smile(self.directory()).ok_or_else(damaged)).collect()
    }
}

impl Row {
    /// The smile it stands for; `None` when it stands for none.
    pub(super) fn smile(&self, directory: &Directory) -> Option<Smile> {
        Some(Smile {
            offset: offset(self.position),
            id: SmileId::parse(&self.id)?,
            from: directory.name(self.sender)?,
            to: directory.name(self.receiver)?,
            faces: Faces::from_stored(&self.faces),
            at: Timestamp::from_milliseconds(self.at),
        })
    }
}

impl View {
    fn reaching_back_to(after: Offset, rows: Vec<ViewRow>) -> Result<Self, StoreError> {
        let Some((head, trimmed, ..)) = rows.first() else {
            return Err(StoreError::Unavailable("the log has no head: it was changed by hand".into()));
        };
        let head = offset(*head);
        if offset(*trimmed) > after {
            return Err(StoreError::Trimmed);
        }
        let rows = rows.into_iter().filter_map(|(_, _, position, sender, receiver, id, faces, at)| {
            Some(Row { position: position?, sender: sender?, receiver: receiver?, id: id?, faces: faces?, at: at? })
        });
        Ok(Self { head, rows: rows.collect() })
    }
}

/// A row's position as an offset; positions are never negative.
pub(super) fn offset(position: i64) -> Offset {
    Offset(position.unsigned_abs())
}

/// An offset as the integer MySQL keeps; offsets stay below 2^53.
fn position(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}
