-- The log is a table of batches: one commit, one row. `first` is the offset of a batch's first smile, so of the batches
-- that several replicas append after the same offset, exactly one is taken. `token` is drawn by whoever appends and tells
-- its own batch from another's. `appended_at` is the database's clock, in milliseconds since 1970. `payload` is the
-- encoding of src/store/batch.rs.
CREATE TABLE IF NOT EXISTS log_batches (
    first       BIGINT NOT NULL PRIMARY KEY,
    smiles      INT NOT NULL,
    token       BIGINT NOT NULL,
    appended_at BIGINT NOT NULL,
    payload     MEDIUMBLOB NOT NULL
) ENGINE = InnoDB;
