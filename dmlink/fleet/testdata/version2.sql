INSERT INTO gcm_setting (name, value) VALUES ('log.level', 'info');
