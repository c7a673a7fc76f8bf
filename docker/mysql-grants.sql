-- What the account needs beyond its own database: to follow the binary log. Run once, when the data directory is
-- created.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'smilingchat'@'%';
