-- The log and the users it is about. Read this first: everything else serves this table.

-- The simulated users. They are made here and never change.
CREATE TABLE users (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    face TEXT NOT NULL
) STRICT;

-- One row: the identity of this log, its last offset, and the last offset that retention has removed.
-- Offsets come from `head` in the appending transaction, so that they have no gaps and become visible in order.
CREATE TABLE log (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    epoch   TEXT NOT NULL,
    head    INTEGER NOT NULL,
    trimmed INTEGER NOT NULL
) STRICT;

INSERT INTO log (one, epoch, head, trimmed) VALUES (1, lower(hex(randomblob(16))), 0, 0);

-- The smiles. `position` is the offset (that word is a keyword) and the row id, so both indexes end with it.
-- `conversation` is the pair of its users: the lower row id times 2^32, plus the higher. `at` is in milliseconds since
-- 1970.
CREATE TABLE smiles (
    position     INTEGER PRIMARY KEY,
    conversation INTEGER NOT NULL,
    sender       INTEGER NOT NULL,
    receiver     INTEGER NOT NULL,
    id           TEXT NOT NULL,
    faces        TEXT NOT NULL,
    at           INTEGER NOT NULL
) STRICT;

-- One (sender, id) is one smile, however often it is sent.
CREATE UNIQUE INDEX smiles_once ON smiles (sender, id);

-- A conversation in the order of the log; a user's stream is the merge of that user's conversations. Every index costs
-- each commit a page for nearly every smile in it, so there is one where two or three would read a little faster.
CREATE INDEX smiles_by_conversation ON smiles (conversation);
