-- +goose Up
CREATE TABLE first_thing (id BIGINT PRIMARY KEY, octets BLOB NOT NULL);
