-- +goose Up
-- Certificates that were signed for a gateway, from before it has them: when one
-- is revoked the gateway is, also while it is being renewed.
CREATE TABLE gcm_certificate (
    serial   BLOB PRIMARY KEY,
    gateway  TEXT NOT NULL,
    until_us BIGINT NOT NULL
);
CREATE INDEX gcm_certificate_gateway ON gcm_certificate (gateway, until_us);
INSERT INTO gcm_certificate (serial, gateway, until_us) SELECT serial, name, expires_us FROM gcm_gateway;
ALTER TABLE gcm_gateway DROP COLUMN serial;
-- Whether one that was signed just now is revoked already.
CREATE INDEX gcm_revocation_serial ON gcm_revocation (serial);
