-- A server of this version has gone over what its migration left.
DELETE FROM dm_policy_device;
DELETE FROM dm_survey;
UPDATE dm_device SET unit = 'corp/sales' WHERE name = 'phone-1';
INSERT INTO dm_policy_version (number, at_us, by_name, comment, document) VALUES (1, 1900000000000000, 'alice', 'first', '{"sets":[{"name":"base","settings":[{"uri":"./A","data":"1"}]}],"links":[{"unit":"corp","set":"base","order":1}]}');
INSERT INTO dm_policy_read (uri) VALUES ('./DevInfo/Mod');
INSERT INTO dm_policy_device (device_name, mark, due_us) VALUES ('phone-1', 7, 1900000000000000);
INSERT INTO dm_policy_state (device_name, state) VALUES ('phone-1', '{"version":1,"serial":1,"nodes":{},"commands":[{"id":"p1","changes":[{"verb":"Add","setting":{"uri":"./A","data":"1"},"set":"base"}]}]}');
INSERT INTO dm_task (id, kind, detail, created_us, created_by, expires_us, semantics, urgency, command, once, closes, listed) VALUES ('policy/abc', 'policy', '', 1900000000000000, 'manager', 4611686018427387904, 0, 0, '{"op":{"verb":"Add","items":[{"target":"./A","data":"MQ=="}]}}', 0, 0, 0);
INSERT INTO dm_command (task_id, device_name, state, urgency, expires_us, attempt, serial) VALUES ('policy/abc', 'phone-1', 'waiting', 1000, 4611686018427387904, 1, 1);
INSERT INTO dm_inventory (device_name, version, facts, snapshot) VALUES ('phone-1', 1, x'001100eeff010d2e2f446576496e666f2f4d6f64014d010000ffff', x'04c0310ac3201805e0bbbc599bdf28111e64ebd2a143c1299b540b59b4d4348b78f77c1d67feb5bd16d028fcbf291e398198c58a16ab8d0fc6d32d74b241a1d4941bd8719beef97c944f9d9e35811d291e114478ad2b14da5ede19c42c56b4586d7c309e6ea1930d638c2b0000ffff');
INSERT INTO dm_inventory_change (device_name, at_us, changes) VALUES ('phone-1', 1900000000000000, x'04c0310ac3201805e0bbbc599bdf28111e64ebd2a143c129a5836d0c64a8016bba04ef9eef7920efdf772aa028c40aa2172b5aac363e184f37d0c90485bdac202edd35fd6f79d9bafb3643212e3515f0c01c6b04111ee30885df9a3f09442f56b4586d7c309e6ea09309adbdce000000ffff');
INSERT INTO dm_survey (device_name, due_us, survey) VALUES ('phone-1', 1900000000000000, x'003900c6ff7b2261736b6564223a7b222e2f446576496e666f223a7b226465707468223a327d7d2c22726f6f7473223a5b222e2f446576496e666f225d7d010000ffff');
