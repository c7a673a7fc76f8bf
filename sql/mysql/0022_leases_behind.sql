-- Whether a replica had not published all of the log when it renewed its lease: such a replica is not picked for a crash.
-- A replica of an older version leaves it out.
-- MySQL cannot be asked to add a column only where it is missing, so whether it is missing is looked up first.
SET @missing = (
    SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'leases' AND column_name = 'behind'
);
SET @change = IF(@missing, 'ALTER TABLE leases ADD COLUMN behind BOOLEAN NOT NULL DEFAULT FALSE', 'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
