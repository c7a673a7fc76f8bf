//! The index in MySQL. One replica at a time writes it, a segment per transaction.

use sqlx::{MySqlConnection, QueryBuilder};

use super::{MySql, NOW, statements};
use crate::store::index::{IndexStep, encode_places, list};
use crate::store::{BatchKey, StoreError, integer};

/// All places of a segment take at most 8 KiB, so the values of one statement fit into one write, as those of a batch
/// do ([`BatchLimit::MYSQL`](crate::store::BatchLimit)).
const CONVERSATIONS_PER_STATEMENT: usize = 256;

/// A block takes about 2 KiB, so the values of one statement fit into one write.
const BLOCKS_PER_STATEMENT: usize = 6;

/// Until [`USUAL_WAIT`], MySQL ends the session after 3 s without a statement. Otherwise, the locks of a replica that
/// freezes in its transaction would keep the other replicas from claiming and writing the index for two minutes. A
/// transaction takes at most 2 s ([`ANSWER_TIMEOUT`](super::connections::ANSWER_TIMEOUT)).
const SHORT_WAIT: &str = "SET @usual_wait = @@wait_timeout, wait_timeout = 3";
const USUAL_WAIT: &str = "SET wait_timeout = @usual_wait";

impl MySql {
    /// A claim lasts only 1 s, so that the claim of a dead or frozen replica expires. A claim that ends much later was
    /// made before the database's clock was set back.
    pub(in crate::store) async fn claim_index(&self, claimant: i64) -> Result<bool, StoreError> {
        let claim = format!(
            "UPDATE log_state SET indexer = {claimant}, indexer_until = {NOW} + 1000 \
             WHERE one = 1 AND (indexer = {claimant} OR indexer_until < {NOW} OR indexer_until > {NOW} + 2000)"
        );
        Ok(self.indexing.execute(&claim).await? > 0)
    }

    pub(in crate::store) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        let write = async |mut connection| Ok((self.write(step, &mut connection).await?, connection));
        Ok(self.indexing.run_once(write).await?)
    }

    async fn write(&self, step: &IndexStep<'_>, connection: &mut MySqlConnection) -> sqlx::Result<()> {
        let (segment, next) = (step.segment, step.segment + 1);
        // Each append names the batch before it, so a log that holds `step.last` holds all earlier batches that are not
        // trimmed.
        let same_log = step.last.map_or_else(String::new, |BatchKey { first, token }| {
            format!(
                "AND (trimmed >= {first} OR EXISTS ( \
                     SELECT 1 FROM log_batches WHERE first = {first} AND token = {token} \
                 ))"
            )
        });
        let begin = format!(
            "{SHORT_WAIT}; BEGIN; \
             UPDATE log_state SET indexed = {next} WHERE one = 1 AND indexed = {segment} {same_log}"
        );
        if statements(&begin).execute(&mut *connection).await?.rows_affected() == 0 {
            // Another replica has written this segment, or this server lacks the end of the log or of the index.
            statements(&format!("ROLLBACK; {USUAL_WAIT}")).execute(connection).await?;
            return Ok(());
        }
        // The statements stay prepared. Closing one and sending the next are two writes, and Nagle's algorithm delays
        // the second until the first is acknowledged, up to 40 ms later.
        for conversations in step.conversations.chunks(CONVERSATIONS_PER_STATEMENT) {
            let mut insert = QueryBuilder::new("REPLACE INTO index_conversations (conversation, segment, places) ");
            insert.push_values(conversations, |mut row, (users, offsets)| {
                row.push_bind(self.directory.conversation(users.0, users.1))
                    .push_bind(integer(segment))
                    .push_bind(encode_places(segment, offsets));
            });
            insert.build().execute(&mut *connection).await?;
        }
        for blocks in step.blocks.chunks(BLOCKS_PER_STATEMENT) {
            let mut insert = QueryBuilder::new("REPLACE INTO index_ids (block, entries) ");
            insert.push_values(blocks, |mut row, (key, entries)| {
                row.push_bind(integer(key.0)).push_bind(entries);
            });
            insert.build().execute(&mut *connection).await?;
        }
        if !step.superseded.is_empty() {
            let text = format!("DELETE FROM index_ids WHERE block IN ({})", list(&step.superseded));
            statements(&text).execute(&mut *connection).await?;
        }
        statements(&format!("COMMIT; {USUAL_WAIT}")).execute(connection).await?;
        Ok(())
    }
}
