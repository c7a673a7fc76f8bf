-- How a replica hears of what the others append: `polling`, `binlog`, or nothing where it has not said so.
-- MySQL cannot be asked to add a column only where it is missing, so whether it is missing is looked up first.
SET @missing = (
    SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'replicas' AND column_name = 'following'
);
SET @change = IF(
    @missing,
    'ALTER TABLE replicas ADD COLUMN following VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL',
    'DO 0'
);
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
