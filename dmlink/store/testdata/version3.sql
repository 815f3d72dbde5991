INSERT INTO dm_followed (source, number) VALUES ('enrollment', 41);
