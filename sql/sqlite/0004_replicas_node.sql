-- The machine a replica runs on, or nothing where it was not told.
ALTER TABLE replicas ADD COLUMN node TEXT NULL;
