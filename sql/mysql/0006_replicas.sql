-- The replicas that run, or ran until lately. Times are in milliseconds since 1970, by the database's own clock.
-- A replica's id is its name and its number, which InnoDB never gives twice. `crash` is how another replica wants this
-- one to fail; this one reads it with its next renewal.
CREATE TABLE IF NOT EXISTS replicas (
    number            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name              VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    host              VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    version           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    capacity          INT UNSIGNED NOT NULL,
    started_at        BIGINT NOT NULL,
    renewed_at        BIGINT NOT NULL,
    draining          BOOLEAN NOT NULL DEFAULT FALSE,
    sessions          INT UNSIGNED NOT NULL DEFAULT 0,
    smiles_per_second DOUBLE NOT NULL DEFAULT 0,
    crash             VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL
) ENGINE = InnoDB;
