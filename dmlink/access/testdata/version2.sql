UPDATE dm_access_token SET own = 2 WHERE instance = 'home' AND id = 'AAAAAAAAAAA';
