-- Which ids are stored where: sorted runs of hashes, merged from tier to tier (src/index/ids.rs).
CREATE TABLE IF NOT EXISTS index_ids (
    tier    INT UNSIGNED NOT NULL,
    run     BIGINT NOT NULL,
    block   BIGINT NOT NULL,
    entries MEDIUMBLOB NOT NULL,
    PRIMARY KEY (tier, run, block)
) ENGINE = InnoDB;
