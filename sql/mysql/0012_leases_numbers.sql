-- Numbers go on where those of the table `replicas` ended, so that no id is used twice. MySQL caches what it
-- knows of a table for a day, unless it is asked not to.
SET @@SESSION.information_schema_stats_expiry = 0;
SET @change = CONCAT('ALTER TABLE leases AUTO_INCREMENT = ', (
    SELECT COALESCE(MAX(auto_increment), 1) FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name = 'replicas'
));
PREPARE change_table FROM @change;
EXECUTE change_table;
DEALLOCATE PREPARE change_table;
