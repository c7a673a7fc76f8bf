-- Lets the account follow the binary log. MySQL's image grants the rights to the chat's own database. The image
-- runs this file when it creates the data directory.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'smilingchat'@'%';
