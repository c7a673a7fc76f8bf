-- The machine a replica runs on, or nothing where it was not told. A replica of an older version leaves it out.
-- MySQL cannot be asked to add a column only where it is missing, so whether it is missing is looked up first.
SET @missing = (
    SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'replicas' AND column_name = 'node'
);
SET @change = IF(
    @missing,
    'ALTER TABLE replicas ADD COLUMN node VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NULL',
    'DO 0'
);
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
