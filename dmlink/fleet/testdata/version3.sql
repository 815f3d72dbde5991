UPDATE gcm_gateway SET draining = 0 WHERE name = 'good';
