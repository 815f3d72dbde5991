-- +goose Up
-- Certificates that were signed for a gateway; those by which it is renewed from
-- before it has them. When one is revoked the gateway is.
CREATE TABLE gcm_certificate (
    serial   BLOB PRIMARY KEY,
    gateway  TEXT NOT NULL,
    until_us BIGINT NOT NULL
);
CREATE INDEX gcm_certificate_gateway ON gcm_certificate (gateway, until_us);
INSERT INTO gcm_certificate (serial, gateway, until_us) SELECT serial, name, expires_us FROM gcm_gateway WHERE true ON CONFLICT DO NOTHING;
-- What was revoked while it was renewed, and got lost; 4 is superseded.
UPDATE gcm_gateway SET revoked = 1 WHERE serial IN (SELECT serial FROM gcm_revocation WHERE reason <> 4);
ALTER TABLE gcm_gateway DROP COLUMN serial;
-- Whether one that was signed just now is revoked already.
CREATE INDEX gcm_revocation_serial ON gcm_revocation (serial);
