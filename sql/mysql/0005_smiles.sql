-- The smiles. `position` is the offset (as in SQLite, where that word is a keyword) and the order of the table itself.
-- `conversation` is the pair of its users: the lower row id times 2^32, plus the higher. `at` is in milliseconds since
-- 1970. Faces are compared byte by byte: most collations hold that every emoji is the same one.
--
-- smiles_once: one (sender, id) is one smile, however often and through however many replicas it is sent.
-- smiles_by_conversation: a conversation in the order of the log; a user's stream is the merge of that user's
-- conversations.
CREATE TABLE IF NOT EXISTS smiles (
    position     BIGINT NOT NULL PRIMARY KEY,
    conversation BIGINT NOT NULL,
    sender       INT NOT NULL,
    receiver     INT NOT NULL,
    id           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    faces        VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    at           BIGINT NOT NULL,
    UNIQUE INDEX smiles_once (sender, id),
    INDEX smiles_by_conversation (conversation, position)
) ENGINE = InnoDB;
