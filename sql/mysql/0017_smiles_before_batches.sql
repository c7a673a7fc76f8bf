-- Takes the tables of the version before out of the way. From here on its replicas can neither append nor renew a lease:
-- an append that had begun before is complete, and every later one is refused. The program moves the smiles into batches.
SET @there = (
    SELECT COUNT(*) = 2 FROM information_schema.tables
    WHERE table_schema = DATABASE() AND table_name IN ('smiles', 'replicas')
);
SET @change = IF(
    @there,
    'RENAME TABLE smiles TO smiles_before_batches, replicas TO replicas_before_batches',
    'DO 0'
);
PREPARE change_tables FROM @change;
EXECUTE change_tables;
DEALLOCATE PREPARE change_tables;
