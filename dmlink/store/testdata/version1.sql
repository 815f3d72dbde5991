INSERT INTO dm_device (name, user_name, imei, state, enrolled_us, scheme, account, nonce) VALUES ('phone-1', 'bob', '35-1', 'open', 1900000000000000, 1, 'n', x'00ff');
INSERT INTO dm_device (name, state, enrolled_us, closed_us) VALUES ('phone-2', 'closed', 1900000000000000, 1900000100000000);
INSERT INTO dm_member (device_name, group_name) VALUES ('phone-1', 'sales');
INSERT INTO dm_task (id, kind, detail, created_us, created_by, expires_us, semantics, urgency, command, once, closes) VALUES ('T1', 'wipe', '{}', 1900000000000000, 'alice', 4000000000000000, 2, -100, '{"op":{"verb":"Exec","items":[{"target":"./X"}]}}', 1, 1);
INSERT INTO dm_command (task_id, device_name, state, urgency, expires_us, attempt) VALUES ('T1', 'phone-1', 'waiting', -100, 4000000000000000, 1);
INSERT INTO dm_wipe (device_name, task_id, state, enrolled_us, expires_us, due_us) VALUES ('phone-1', 'T1', 'ordered', 1900000000000000, 4000000000000000, 4000000000000000);
INSERT INTO dm_info (device_name, uri, format, type, data, at_us) VALUES ('phone-1', './DevInfo/Mod', 'chr', 'text/plain', x'4d', 1900000000000000);
INSERT INTO dm_outbox (number, at_us, kind, device_name, reason) VALUES (1, 1900000100000000, 'closed', 'phone-2', 'left');
INSERT INTO dm_schedule (group_name, rank, schedule) VALUES ('sales', 1, '{}');
