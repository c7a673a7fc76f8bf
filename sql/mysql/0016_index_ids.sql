-- Which ids are stored where: sorted runs of hashes in blocks, merged from tier to tier (src/index/ids.rs).
CREATE TABLE IF NOT EXISTS index_ids (
    block   BIGINT PRIMARY KEY,
    entries MEDIUMBLOB NOT NULL
) ENGINE = InnoDB;
