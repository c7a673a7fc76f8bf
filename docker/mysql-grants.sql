-- The privileges that the chat's account needs to follow the binary log. MySQL's image runs this file once, when it
-- creates the account; on InnoDB Cluster, every run of create-account.sh repeats it.
GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'smilingchat'@'%';
