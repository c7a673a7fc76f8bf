-- Puts a batch of smiles into the log, in one transaction and one round trip: nothing is locked while a replica thinks,
-- and a replica that freezes or dies leaves nothing locked. The batch is an array of rows:
-- [[sender, id, receiver, conversation, faces], …]
--
-- It answers with one row. Either `head` is what the smiles follow, and they are durable; or `failed` is MySQL's number of
-- an error, `why` its words, and none of them is stored. An error in place of that row leaves it open: the commit itself
-- may have failed half-way, or only its answer was lost.
--
-- Locks with a name are let go after the commit and not before it: the next replica closes its batch as late as possible,
-- so commits are fewer and larger. (Measured with four replicas and 2,000 smiles a second on two cores: as quick for half
-- of the smiles, twice as quick for the slowest of a hundred, and a fifth less work for MySQL.)
CREATE PROCEDURE IF NOT EXISTS append_smiles(IN batch JSON, IN at BIGINT)
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
BEGIN
    DECLARE failed INT DEFAULT NULL;
    DECLARE why TEXT CHARACTER SET utf8mb4 DEFAULT NULL;
    BEGIN
        DECLARE EXIT HANDLER FOR SQLEXCEPTION
        BEGIN
            GET DIAGNOSTICS CONDITION 1 failed = MYSQL_ERRNO, why = MESSAGE_TEXT;
            ROLLBACK;
        END;
        START TRANSACTION;
        UPDATE log SET head = LAST_INSERT_ID(head) + JSON_LENGTH(batch) WHERE one = 1;
        INSERT INTO smiles (position, conversation, sender, receiver, id, faces, at)
        SELECT LAST_INSERT_ID() + one.number, one.conversation, one.sender, one.receiver, one.id, one.faces, at
        FROM JSON_TABLE(batch, '$[*]' COLUMNS (
            number       FOR ORDINALITY,
            sender       INT PATH '$[0]' ERROR ON EMPTY ERROR ON ERROR,
            id           VARCHAR(64) CHARACTER SET utf8mb4 PATH '$[1]' ERROR ON EMPTY ERROR ON ERROR,
            receiver     INT PATH '$[2]' ERROR ON EMPTY ERROR ON ERROR,
            conversation BIGINT PATH '$[3]' ERROR ON EMPTY ERROR ON ERROR,
            faces        VARCHAR(128) CHARACTER SET utf8mb4 PATH '$[4]' ERROR ON EMPTY ERROR ON ERROR
        )) AS one;
    END;
    COMMIT;
    DO RELEASE_ALL_LOCKS();
    SELECT IF(failed IS NULL, CAST(LAST_INSERT_ID() AS SIGNED), NULL) AS head, failed, why;
END;
