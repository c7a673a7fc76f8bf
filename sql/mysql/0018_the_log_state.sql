-- The log keeps its identity and its offsets.
INSERT IGNORE INTO log_state (one, epoch, trimmed, indexed, hash_key)
SELECT 1, epoch, trimmed, trimmed DIV 4096, RANDOM_BYTES(16) FROM log WHERE one = 1;
