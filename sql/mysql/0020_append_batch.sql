-- Puts a batch into the log, in one round trip: nothing is locked while a replica thinks. It answers 0 when the batch is
-- durable, 1 when a batch stands at its offset already, and 2 when the log does not hold the batch that the caller takes for
-- the last one, or not yet: `previous_first` and `previous_token`, which are NULL for an empty log. An error in place of
-- the answer leaves it open whether the batch is there.
--
-- Locks with a name are let go after the commit and not before it: the next replica closes its batch as late as possible,
-- so commits are fewer and larger. They are kept when the batch was not taken, since the caller tries again.
CREATE PROCEDURE IF NOT EXISTS append_batch(
    IN previous_first BIGINT, IN previous_token BIGINT,
    IN batch_first BIGINT, IN batch_smiles INT, IN batch_token BIGINT, IN batch_payload MEDIUMBLOB
)
    MODIFIES SQL DATA
    SQL SECURITY INVOKER
BEGIN
    DECLARE outcome INT DEFAULT 0;
    IF previous_first IS NULL THEN
        -- One that stands at its offset already may be this one.
        IF EXISTS (SELECT 1 FROM log_batches)
            AND NOT EXISTS (SELECT 1 FROM log_batches WHERE first = batch_first)
        THEN
            SET outcome = 2;
        END IF;
    ELSEIF NOT EXISTS (
        SELECT 1 FROM log_batches
        WHERE first = previous_first AND smiles = batch_first - previous_first AND token = previous_token
    ) AND NOT EXISTS (SELECT 1 FROM log_state WHERE one = 1 AND trimmed = batch_first - 1) THEN
        -- Nor has retention removed it with all that was there.
        SET outcome = 2;
    END IF;
    IF outcome = 0 THEN
        BEGIN
            DECLARE EXIT HANDLER FOR 1062 SET outcome = 1;
            INSERT INTO log_batches (first, smiles, token, appended_at, payload) VALUES (
                batch_first, batch_smiles, batch_token, CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED), batch_payload
            );
        END;
    END IF;
    IF outcome = 0 THEN
        DO RELEASE_ALL_LOCKS();
    END IF;
    SELECT CAST(outcome AS SIGNED) AS outcome;
END;
