INSERT INTO dm_access_role (instance, subject, role, granted_us, granted_by) VALUES
    ('home', 'certificate:alice', 'server', 1903867200123456, 'local:root'),
    ('home', 'certificate:alice', 'auditor', 1903867200123456, 'certificate:alice'),
    ('home', 'certificate:alice', 'of a later version', 1903867200123456, 'certificate:alice'),
    ('away', 'certificate:alice', 'device', 1903867200123456, 'local:root');
INSERT INTO dm_access_token (instance, id, name, digest, roles, created_us, created_by, expires_us) VALUES
    ('home', 'AAAAAAAAAAA', 'ci', x'00ff', 2, 1903867200123456, 'certificate:alice', 1903867200123457);
INSERT INTO dm_access_audit (instance, number, at_us, subject, source, operation, phase, of_number, object, detail, status, hash) VALUES
    ('home', 1, 1903867200123456, 'local:root', '', 'role.grant', 'asked', 0, 'certificate:alice', 'role server', 0, x'95c9a8596d1b8ee89d37cbb09c963caf4355ae3ae91dc0fe1212e333daa08b85');
INSERT INTO dm_access_head (instance, number, hash) VALUES
    ('home', 1, x'95c9a8596d1b8ee89d37cbb09c963caf4355ae3ae91dc0fe1212e333daa08b85');
