-- When a replica last told sessions to go to another one, in milliseconds since 1970, or nothing. The others leave sessions
-- alone that may have come to them by that.
SET @missing = (
    SELECT COUNT(*) = 0 FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = 'replicas' AND column_name = 'handed_over_at'
);
SET @change = IF(@missing, 'ALTER TABLE replicas ADD COLUMN handed_over_at BIGINT NULL', 'DO 0');
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
