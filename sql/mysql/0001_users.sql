-- The simulated users. They are made here and never change.
--
-- MySQL commits at every change of a table, so a migration cut in half by a crash is run again. Therefore each file here
-- holds one statement, and one that may be run twice.
CREATE TABLE IF NOT EXISTS users (
    id   INT NOT NULL PRIMARY KEY,
    name VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL UNIQUE,
    face VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE = InnoDB;
