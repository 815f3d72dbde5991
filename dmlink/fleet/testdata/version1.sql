INSERT INTO gcm_gateway (name, host, address, fingerprint, added_us, certified_us, expires_us, attempt_us, serial, revoked, drain_to, drain_within, draining, cursor)
VALUES ('good', 'good.example.org', '192.0.2.1:4434', x'0101010101010101010101010101010101010101010101010101010101010101', 1, 1, 4102444800000000, 0, x'a1', 0, '', 0, 0, 7);
INSERT INTO gcm_gateway (name, host, address, fingerprint, added_us, certified_us, expires_us, attempt_us, serial, revoked, drain_to, drain_within, draining, cursor)
VALUES ('lost', 'lost.example.org', '192.0.2.2:4434', x'0202020202020202020202020202020202020202020202020202020202020202', 1, 1, 4102444800000000, 0, x'a2', 0, '', 0, 0, 0);
INSERT INTO gcm_gateway (name, host, address, fingerprint, added_us, certified_us, expires_us, attempt_us, serial, revoked, drain_to, drain_within, draining, cursor)
VALUES ('superseded', 'superseded.example.org', '192.0.2.3:4434', x'0303030303030303030303030303030303030303030303030303030303030303', 1, 1, 4102444800000000, 0, x'a3', 0, '', 0, 0, 0);
INSERT INTO gcm_revocation (issuer, serial, reason, at_us, until_us) VALUES (x'0909090909090909090909090909090909090909090909090909090909090909', x'a2', 1, 1, 4102444800000000);
INSERT INTO gcm_revocation (issuer, serial, reason, at_us, until_us) VALUES (x'0909090909090909090909090909090909090909090909090909090909090909', x'a3', 4, 1, 4102444800000000);
