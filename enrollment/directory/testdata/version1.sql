INSERT INTO directory_identity (id, one) VALUES ('ANAMEOFTHISDATABASE', 1);
INSERT INTO directory_user (name, email, created_us) VALUES ('bob', 'bob@example.org', 1904040000000000);
INSERT INTO directory_group (name, created_us) VALUES ('sales', 1904040000000000);
INSERT INTO directory_device (name, user_name, state, created_us) VALUES ('phone-1', 'bob', 'open', 1904040000000000);
INSERT INTO directory_member (device_name, group_name) VALUES ('phone-1', 'sales');
INSERT INTO directory_key (hash, device_name) VALUES ( x'0102', 'phone-1');
INSERT INTO directory_request (id, device, user_name, group_names, state, secret, created_us, created_by, expires_us, closed_us, key_hash, serial)
    VALUES ('XK7M-29QA', 'phone-1', 'bob', '["sales"]', 'used', x'aabb', 1904040000000000, 'alice', 1904068800000000, 1904040060000000, x'0102', '4a');
INSERT INTO directory_authority (id, certificate, number) VALUES ('issuer', x'3000', 3);
INSERT INTO directory_certificate (serial, authority, profile, name, device_name, request, key_hash, der, sha256, issued_us, not_before_us, not_after_us, revoked_us, reason)
    VALUES ('4a', 'issuer', 'device', 'phone-1', 'phone-1', 'XK7M-29QA', x'0102', x'00ff', x'03', 1904040060000000, 1904036460000000, 1911816060000000, 1904050000000000, 1);
INSERT INTO directory_outbox (at_us, kind, device, user_name, group_names, serial, until_us)
    VALUES (1904040060000000, 'enrolled', 'phone-1', 'bob', '["sales"]', '4a', 1911816060000000);
INSERT INTO directory_outbox (at_us, kind, device, user_name, group_names, serial, reason)
    VALUES (1904050000000000, 'revoked', 'phone-1', 'bob', '["sales"]', '4a', 1);
INSERT INTO directory_audit (at_us, actor, source, action, request, device, serial, detail)
    VALUES (1904040060000000, 'device by est', '198.51.100.7', 'enroll', 'XK7M-29QA', 'phone-1', '4a', 'ECDSA key');
