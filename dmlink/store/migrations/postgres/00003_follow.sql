-- +goose Up
-- How far the events of others were followed: the number of the last one.
CREATE TABLE dm_followed (
    source TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);
