-- +goose Up
-- Of a token's roles those that its maker had himself when he made it. Of older
-- ones it isn't known: they were given.
ALTER TABLE dm_access_token ADD COLUMN own BIGINT NOT NULL DEFAULT 0;
