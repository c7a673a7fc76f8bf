-- One row: the identity of the log, the last offset that retention has removed, how many segments are indexed, the key of
-- the hashes in the index, which replica writes the index, and until when no other does, in milliseconds since 1970 by the
-- database's clock.
CREATE TABLE IF NOT EXISTS log_state (
    one           TINYINT NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch         CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    trimmed       BIGINT NOT NULL,
    indexed       BIGINT NOT NULL,
    hash_key      BINARY(16) NOT NULL,
    indexer       BIGINT NOT NULL DEFAULT 0,
    indexer_until BIGINT NOT NULL DEFAULT 0
) ENGINE = InnoDB;
