-- +goose Up
-- Certificates of CAs whose devices gateways let in.
CREATE TABLE gcm_trust (
    digest BYTEA NOT NULL,
    root   BIGINT NOT NULL,
    der    BYTEA NOT NULL,
    PRIMARY KEY (root, digest)
);
INSERT INTO gcm_section (name, epoch, number, mark) SELECT 'trust', MAX(epoch), 0, 0 FROM gcm_section;
