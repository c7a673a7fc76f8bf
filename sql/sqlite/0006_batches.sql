-- The log is a table of batches: one commit, one row. Everything else is derived from it.

-- `first` is the offset of a batch's first smile, so two batches cannot stand at the same offset. `token` is drawn by
-- whoever appends and tells its own batch from another's. `payload` is the encoding of src/store/batch.rs.
CREATE TABLE log_batches (
    first       INTEGER PRIMARY KEY,
    smiles      INTEGER NOT NULL,
    token       INTEGER NOT NULL,
    appended_at INTEGER NOT NULL,
    payload     BLOB NOT NULL
) STRICT;

-- One row: the identity of this log, the last offset that retention has removed, how many segments are indexed, the
-- key of the hashes in the index, and how often the file was opened.
CREATE TABLE log_state (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    epoch    TEXT NOT NULL,
    trimmed  INTEGER NOT NULL,
    indexed  INTEGER NOT NULL,
    hash_key BLOB NOT NULL,
    starts   INTEGER NOT NULL
) STRICT;

INSERT INTO log_state (one, epoch, trimmed, indexed, hash_key, starts)
SELECT 1, epoch, trimmed, trimmed / 4096, randomblob(16), starts FROM log;

-- The index, written segment by segment: 4096 offsets each. Where the smiles of a conversation are in a segment: two bytes
-- for each, its offset less the first one of the segment.
CREATE TABLE index_conversations (
    conversation INTEGER NOT NULL,
    segment      INTEGER NOT NULL,
    places       BLOB NOT NULL,
    PRIMARY KEY (conversation, segment)
) STRICT, WITHOUT ROWID;

CREATE INDEX index_conversations_by_segment ON index_conversations (segment);

-- Which ids are stored where: sorted runs of hashes in blocks, merged from tier to tier (src/index/ids.rs).
CREATE TABLE index_ids (
    block   INTEGER PRIMARY KEY,
    entries BLOB NOT NULL
) STRICT;

-- What an earlier version has stored, one row a smile. The program moves it into batches when it opens the store.
DROP TABLE log;
DROP INDEX smiles_once;
DROP INDEX smiles_by_conversation;
ALTER TABLE smiles RENAME TO smiles_before_batches;
