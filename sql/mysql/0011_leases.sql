-- The replicas that run, or ran until lately. All times are in UTC, by MySQL's own clock.
-- A replica's id is its name and its number. `obeys` says whether it fails on request, `crash` how it was asked to.
-- A request stays, so that no replica is picked again that may be dead already.
CREATE TABLE IF NOT EXISTS leases (
    number            BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name              VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    host              VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    node              VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL,
    version           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    capacity          INT UNSIGNED NOT NULL,
    obeys             BOOLEAN NOT NULL,
    started_at        DATETIME(3) NOT NULL,
    renewed_at        DATETIME(3) NOT NULL,
    draining          BOOLEAN NOT NULL DEFAULT FALSE,
    sessions          INT UNSIGNED NOT NULL DEFAULT 0,
    smiles_per_second DOUBLE NOT NULL DEFAULT 0,
    following         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
    crash             VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL
) ENGINE = InnoDB;
