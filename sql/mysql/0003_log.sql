-- One row: the identity of this log, its last offset, and the last offset that retention has removed.
-- Offsets come from `head` in the appending transaction. Whoever appends holds this row from before the first smile is
-- inserted until the commit, so that offsets have no gaps and become visible in order, whichever replica gives them.
CREATE TABLE IF NOT EXISTS log (
    one     TINYINT NOT NULL PRIMARY KEY CHECK (one = 1),
    epoch   CHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    head    BIGINT NOT NULL,
    trimmed BIGINT NOT NULL
) ENGINE = InnoDB;
