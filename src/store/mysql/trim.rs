//! Taking the oldest smiles out of the MySQL log.
//!
//! Owns that transaction. Several replicas may trim at the same time: each row is removed by one of them, and the mark
//! moves only from where its mover saw it, so the others find nothing left to do.

use sqlx::FromRow;

use super::connections::{ANSWER, within};
use super::{MySql, statements};
use crate::model::Timestamp;
use crate::store::StoreError;

/// The oldest smiles. From the mark on, because what was removed lately may still have to be stepped over before it.
const OLDEST: &str = "
    SELECT log.trimmed, smiles.position, smiles.at
    FROM log STRAIGHT_JOIN smiles ON smiles.position > log.trimmed
    WHERE log.one = 1 ORDER BY smiles.position LIMIT ?";

#[derive(FromRow)]
struct Oldest {
    trimmed: i64,
    position: i64,
    at: i64,
}

impl MySql {
    pub(in crate::store) async fn trim(&self, older_than: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let upkeep = &self.inner.upkeep;
        let ask = async || {
            let mut lane = upkeep.take().await?;
            let oldest = sqlx::query_as(OLDEST).bind(limit).fetch_all(&mut lane.connection);
            let oldest: Vec<Oldest> = within(ANSWER, oldest).await?;
            lane.keep();
            Ok(oldest)
        };
        let oldest = upkeep.ask(ask).await?;
        let old = oldest.iter().take_while(|smile| smile.at < older_than.as_milliseconds());
        let Some(Oldest { trimmed, position, .. }) = old.last() else { return Ok(0) };

        // In one round trip, and the row that appending needs comes last.
        let text = format!(
            "BEGIN; DELETE FROM smiles WHERE position > {trimmed} AND position <= {position}; SET @removed = ROW_COUNT(); \
             UPDATE log SET trimmed = GREATEST(trimmed, {position}) WHERE one = 1; COMMIT; \
             SELECT CAST(@removed AS SIGNED)"
        );
        let mut lane = upkeep.take().await?;
        let removed = within(ANSWER, statements(text).fetch_one(&mut lane.connection)).await?;
        lane.keep();
        let (removed,) = <(i64,)>::from_row(&removed)?;
        Ok(removed.unsigned_abs())
    }
}
