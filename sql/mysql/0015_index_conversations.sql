-- The index, written segment by segment: 4096 offsets each. Where the smiles of a conversation are in a segment: two bytes
-- for each, its offset less the first one of the segment. `conversation` is the pair of its users: the lower row id times
-- 2^32, plus the higher.
CREATE TABLE IF NOT EXISTS index_conversations (
    conversation BIGINT NOT NULL,
    segment      BIGINT NOT NULL,
    places       BLOB NOT NULL,
    PRIMARY KEY (conversation, segment),
    INDEX index_conversations_by_segment (segment)
) ENGINE = InnoDB;
