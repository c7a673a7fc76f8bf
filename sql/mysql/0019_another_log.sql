-- Replicas of the version before look here once a second. When they find another log they end at once, and their clients
-- resume on replicas of this version.
UPDATE log SET epoch = 'moved to log_state' WHERE one = 1;
