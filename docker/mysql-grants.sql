-- The privileges that the chat's account needs to follow the binary log. This file runs once, when the account is
-- created.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'smilingchat'@'%';
