-- Appends a batch in one round trip. The result is 0 if the batch is durable, 1 if another batch or this batch already
-- has its offset, and 2 if the batch is unlinked: the log holds no batch at `previous_first` that has
-- `batch_first - previous_first` smiles and the token `previous_token`, and retention has not removed exactly what
-- comes before `batch_first`. If the caller has found no batch in the log, `previous_first` and `previous_token` are
-- NULL and match no batch. After an error, the batch may be in the log.
--
-- The named locks of the session are released after the commit, so that the next replica closes its batch as late as
-- possible: commits are then fewer and larger. If the batch is not appended, the locks are kept, since the caller tries
-- again.
CREATE PROCEDURE IF NOT EXISTS append_to_log(
    IN previous_first BIGINT, IN previous_token BIGINT,
    IN batch_first BIGINT, IN batch_smiles INT, IN batch_token BIGINT, IN batch_payload MEDIUMBLOB
)
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
BEGIN
    DECLARE EXIT HANDLER FOR 1062 SELECT 1 AS outcome;
    IF EXISTS (
        SELECT 1 FROM log_batches
        WHERE first = previous_first AND smiles = batch_first - previous_first AND token = previous_token
    ) OR EXISTS (SELECT 1 FROM log_state WHERE one = 1 AND trimmed = batch_first - 1) THEN
        INSERT INTO log_batches (first, smiles, token, appended_at, payload) VALUES (
            batch_first, batch_smiles, batch_token, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), batch_payload
        );
        SELECT CAST(0 * RELEASE_ALL_LOCKS() AS SIGNED) AS outcome;
    ELSE
        SELECT 2 AS outcome;
    END IF;
END;
