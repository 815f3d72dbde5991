INSERT INTO directory_list (authority, number, base, der, entries, this_update_us, next_update_us)
    VALUES ('issuer', 3, 0, x'3000', 0, 1904040000000000, 1911816000000000);
