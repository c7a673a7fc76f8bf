//! Writes segments of the index to SQLite, and checkpoints the write-ahead log.

use sqlx::{QueryBuilder, Sqlite as Database};

use super::Sqlite;
use crate::store::index::{IndexStep, encode_places, list};
use crate::store::{StoreError, integer};

/// The blocks of one transaction take about 32 KiB.
const BLOCKS_PER_TRANSACTION: usize = 16;

/// All places of a segment take at most 8 KiB.
const CONVERSATIONS_PER_TRANSACTION: usize = 256;

const CHECKPOINT: &str = "PRAGMA wal_checkpoint(PASSIVE)";

/// The write-ahead log grows by about 10 MiB between two checkpoints.
const SEGMENTS_PER_CHECKPOINT: u64 = 16;

impl Sqlite {
    pub(in crate::store) async fn write_index(&self, step: &IndexStep<'_>) -> Result<(), StoreError> {
        // Short transactions keep the commits of the log fast. After a crash between two transactions of a segment, the
        // segment is written again.
        for conversations in step.conversations.chunks(CONVERSATIONS_PER_TRANSACTION) {
            let mut insert = begin();
            insert.push("REPLACE INTO index_conversations (conversation, segment, places) ");
            insert.push_values(conversations, |mut row, (users, offsets)| {
                row.push_bind(self.directory.conversation(users.0, users.1))
                    .push_bind(integer(step.segment))
                    .push_bind(encode_places(step.segment, offsets));
            });
            self.write(insert).await?;
        }
        for blocks in step.blocks.chunks(BLOCKS_PER_TRANSACTION) {
            let mut insert = begin();
            insert.push("REPLACE INTO index_ids (block, entries) ");
            insert.push_values(blocks, |mut row, (key, entries)| {
                row.push_bind(integer(key.0)).push_bind(entries);
            });
            self.write(insert).await?;
        }
        let (superseded, next) = (list(&step.superseded), step.segment + 1);
        let mut end = begin();
        end.push(format!("DELETE FROM index_ids WHERE block IN ({superseded}); UPDATE log_state SET indexed = {next}"));
        self.write(end).await?;
        if next.is_multiple_of(SEGMENTS_PER_CHECKPOINT) { self.checkpoint().await } else { Ok(()) }
    }

    /// Completes and executes a transaction that [`begin`] began. The commits of the log wait for the transaction, so
    /// it is a single command to the connection's thread: on a busy processor, there would be a pause before each
    /// further command.
    async fn write(&self, mut transaction: QueryBuilder<Database>) -> Result<(), StoreError> {
        transaction.push("; COMMIT; PRAGMA synchronous = FULL");
        self.writer.lock().await.execute(transaction.build().persistent(false)).await?;
        Ok(())
    }

    /// Checkpoints the write-ahead log before a commit has to do so. The first pass runs in parallel with commits. The
    /// second pass blocks them and moves the small remainder, so that the next commit restarts the write-ahead log,
    /// unless a reader still needs it.
    async fn checkpoint(&self) -> Result<(), StoreError> {
        let mut checkpointer = self.checkpointer.lock().await;
        checkpointer.execute(sqlx::query(CHECKPOINT)).await?;
        let _writer = self.writer.lock().await;
        checkpointer.execute(sqlx::query(CHECKPOINT)).await?;
        Ok(())
    }
}

/// Begins a transaction that commits without waiting for the disk (`synchronous=NORMAL`). If a power cut loses part of
/// the index, that part is derived again.
fn begin() -> QueryBuilder<Database> {
    QueryBuilder::new("PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE; ")
}
