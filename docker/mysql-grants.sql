-- What the server's account may do besides its own database: follow the binary log, which is how a replica hears at
-- once of what the others append. Without it, replicas poll. Run once, when the database is made.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'smilingchat'@'%';
