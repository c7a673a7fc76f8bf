-- The replicas that run, or ran until lately. Times are in milliseconds since 1970, by the database's own clock.
-- A replica's id is its name and its number: AUTOINCREMENT never gives a number twice.
CREATE TABLE replicas (
    number            INTEGER PRIMARY KEY AUTOINCREMENT,
    name              TEXT NOT NULL,
    host              TEXT NOT NULL,
    version           TEXT NOT NULL,
    capacity          INTEGER NOT NULL,
    started_at        INTEGER NOT NULL,
    renewed_at        INTEGER NOT NULL,
    lost              INTEGER NOT NULL DEFAULT 0,
    draining          INTEGER NOT NULL DEFAULT 0,
    sessions          INTEGER NOT NULL DEFAULT 0,
    smiles_per_second REAL NOT NULL DEFAULT 0
) STRICT;
