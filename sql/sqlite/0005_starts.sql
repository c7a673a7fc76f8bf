-- How often this file was opened. The id of a replica ends with it, so no id is used twice. A process that has the file
-- to itself needs no table of replicas; the count goes on where the numbers of that table ended.
ALTER TABLE log ADD COLUMN starts INTEGER NOT NULL DEFAULT 0;

UPDATE log SET starts = coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'replicas'), 0);

DROP TABLE replicas;
