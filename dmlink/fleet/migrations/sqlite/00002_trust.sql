-- +goose Up
-- Certificates of CAs whose devices gateways let in.
CREATE TABLE gcm_trust (
    digest BLOB NOT NULL,
    root   BIGINT NOT NULL,
    der    BLOB NOT NULL,
    PRIMARY KEY (root, digest)
);
INSERT INTO gcm_section (name, epoch, number, mark) SELECT 'trust', MAX(epoch), 0, 0 FROM gcm_section;
