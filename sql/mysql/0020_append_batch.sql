-- Puts a batch into the log, in one statement and one round trip: nothing is locked while a replica thinks. It answers 0
-- when the batch is durable, and 1 when another batch stands at its offset. An error in place of the answer leaves it open
-- whether the batch is there.
--
-- Locks with a name are let go after the commit and not before it: the next replica closes its batch as late as possible,
-- so commits are fewer and larger. They are kept when the offset was taken, since the caller tries the next one.
CREATE PROCEDURE IF NOT EXISTS append_batch(
    IN batch_first BIGINT, IN batch_smiles INT, IN batch_token BIGINT, IN batch_payload MEDIUMBLOB
)
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
BEGIN
    DECLARE occupied INT DEFAULT 0;
    BEGIN
        DECLARE EXIT HANDLER FOR 1062 SET occupied = 1;
        INSERT INTO log_batches (first, smiles, token, appended_at, payload) VALUES (
            batch_first, batch_smiles, batch_token, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), batch_payload
        );
    END;
    IF occupied = 0 THEN
        DO RELEASE_ALL_LOCKS();
    END IF;
    SELECT CAST(occupied AS SIGNED) AS occupied;
END;
