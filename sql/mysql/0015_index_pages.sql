-- The index, written segment by segment: 4096 offsets each. A page holds smiles of one conversation in one segment.
-- `conversation` is the pair of its users: the lower row id times 2^32, plus the higher.
CREATE TABLE IF NOT EXISTS index_pages (
    conversation BIGINT NOT NULL,
    segment      BIGINT NOT NULL,
    part         INT UNSIGNED NOT NULL,
    smiles       MEDIUMBLOB NOT NULL,
    PRIMARY KEY (conversation, segment, part),
    INDEX index_pages_by_segment (segment)
) ENGINE = InnoDB;
