-- The simulated users: 64, so that 30 conversations of two find partners and some are left to chat by hand.
INSERT IGNORE INTO users (id, name, face) VALUES
    (1, 'anna', '😀'), (2, 'bruno', '😎'), (3, 'carla', '😊'), (4, 'dario', '😜'),
    (5, 'elena', '🥰'), (6, 'fabio', '🤓'), (7, 'giada', '😇'), (8, 'hugo', '🤠'),
    (9, 'irene', '😋'), (10, 'jacopo', '🙃'), (11, 'katia', '😍'), (12, 'luca', '😁'),
    (13, 'marta', '🤗'), (14, 'nico', '😏'), (15, 'olga', '🧐'), (16, 'paolo', '😄'),
    (17, 'quinn', '🤩'), (18, 'rita', '😌'), (19, 'sandro', '🥸'), (20, 'teresa', '😘'),
    (21, 'ugo', '😆'), (22, 'vera', '🥳'), (23, 'walter', '😉'), (24, 'xenia', '🤭'),
    (25, 'yuri', '😬'), (26, 'zoe', '😝'), (27, 'alice', '🙂'), (28, 'beppe', '😛'),
    (29, 'chiara', '😃'), (30, 'davide', '🤔'), (31, 'emma', '😚'), (32, 'franco', '😅'),
    (33, 'greta', '🤪'), (34, 'ivan', '😶'), (35, 'julia', '😙'), (36, 'kevin', '😲'),
    (37, 'laura', '🥹'), (38, 'mario', '🤑'), (39, 'nadia', '😗'), (40, 'oscar', '😼'),
    (41, 'pia', '😻'), (42, 'rocco', '👻'), (43, 'sara', '😺'), (44, 'tito', '🤖'),
    (45, 'ulla', '👽'), (46, 'vito', '💀'), (47, 'wanda', '👹'), (48, 'silvia', '😸'),
    (49, 'arturo', '😹'), (50, 'bianca', '🙈'), (51, 'claudio', '🙉'), (52, 'diana', '🙊'),
    (53, 'enzo', '🤡'), (54, 'flavia', '😽'), (55, 'gino', '👾'), (56, 'ilaria', '🫠'),
    (57, 'leo', '😈'), (58, 'monica', '🫢'), (59, 'nora', '🫣'), (60, 'piero', '🤫'),
    (61, 'rosa', '💖'), (62, 'stefano', '🫡'), (63, 'tina', '🤤'), (64, 'viola', '😴');
