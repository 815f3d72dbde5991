-- +goose Up
-- The newest version of each section, and of the list of gateways. Whoever
-- changes content locks the row and draws the next number with it; mark is
-- drawn at random, so that two databases that went apart never look alike.
CREATE TABLE gcm_section (
    name   TEXT PRIMARY KEY,
    epoch  BIGINT NOT NULL,
    number BIGINT NOT NULL,
    mark   BIGINT NOT NULL
);
INSERT INTO gcm_section (name, epoch, number, mark) VALUES
    ('devices', 1, 0, 0), ('tickets', 1, 0, 0), ('access', 1, 0, 0),
    ('addresses', 1, 0, 0), ('settings', 1, 0, 0), ('gateways', 1, 0, 0);

-- What became of the devices in which version; body is a delta on the wire, or
-- NULL where it was too much.
CREATE TABLE gcm_change (
    epoch  BIGINT NOT NULL,
    number BIGINT NOT NULL,
    before BIGINT NOT NULL,
    mark   BIGINT NOT NULL,
    body   BYTEA,
    PRIMARY KEY (epoch, number)
);

-- How far a feed has been followed.
CREATE TABLE gcm_cursor (
    feed   TEXT PRIMARY KEY,
    number BIGINT NOT NULL
);

-- value is that of the device's record.
CREATE TABLE gcm_device (
    name        TEXT PRIMARY KEY,
    group_name  TEXT NOT NULL,
    held        BIGINT NOT NULL,
    barred      BIGINT NOT NULL,
    enrolled_us BIGINT NOT NULL,
    value       BYTEA NOT NULL
);

CREATE TABLE gcm_revocation (
    issuer   BYTEA NOT NULL,
    serial   BYTEA NOT NULL,
    reason   BIGINT NOT NULL,
    at_us    BIGINT NOT NULL,
    until_us BIGINT,
    PRIMARY KEY (issuer, serial)
);
CREATE INDEX gcm_revocation_until ON gcm_revocation (until_us) WHERE until_us IS NOT NULL;

-- The manager's own pools have no gateway; next is the first address that was
-- never given, NULL if there is none.
CREATE TABLE gcm_pool (
    prefix  TEXT PRIMARY KEY,
    family  BIGINT NOT NULL,
    gateway TEXT NOT NULL,
    next    BYTEA
);

CREATE TABLE gcm_exclude (
    address TEXT PRIMARY KEY
);

-- An address that was freed keeps its last device, who gets it back unless
-- somebody else got it.
CREATE TABLE gcm_address (
    family   BIGINT NOT NULL,
    address  BYTEA NOT NULL,
    device   TEXT NOT NULL,
    freed_us BIGINT,
    PRIMARY KEY (family, address)
);
CREATE UNIQUE INDEX gcm_address_device ON gcm_address (device, family);
CREATE INDEX gcm_address_freed ON gcm_address (family, freed_us) WHERE freed_us IS NOT NULL;

CREATE TABLE gcm_group (
    name        TEXT PRIMARY KEY,
    rules       TEXT NOT NULL,
    closed      BIGINT NOT NULL,
    device_rate BIGINT NOT NULL,
    group_rate  BIGINT NOT NULL
);

CREATE TABLE gcm_setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- secret is sealed.
CREATE TABLE gcm_ticket_key (
    id      BYTEA PRIMARY KEY,
    secret  BYTEA NOT NULL,
    from_us BIGINT NOT NULL
);

-- serial is its certificate's; one that is revoked isn't renewed.
CREATE TABLE gcm_gateway (
    name         TEXT PRIMARY KEY,
    host         TEXT NOT NULL,
    address      TEXT NOT NULL,
    fingerprint  BYTEA NOT NULL,
    added_us     BIGINT NOT NULL,
    certified_us BIGINT NOT NULL,
    expires_us   BIGINT NOT NULL,
    attempt_us   BIGINT NOT NULL,
    serial       BYTEA NOT NULL,
    revoked      BIGINT NOT NULL,
    drain_to     TEXT NOT NULL,
    drain_within BIGINT NOT NULL,
    draining     BIGINT NOT NULL,
    cursor       BIGINT NOT NULL
);

CREATE TABLE gcm_event (
    id          BIGSERIAL PRIMARY KEY,
    gateway     TEXT NOT NULL,
    received_us BIGINT NOT NULL,
    device      TEXT,
    kind        TEXT NOT NULL,
    body        TEXT NOT NULL
);
CREATE INDEX gcm_event_device ON gcm_event (device, id) WHERE device IS NOT NULL;
CREATE INDEX gcm_event_gateway ON gcm_event (gateway, id);
CREATE INDEX gcm_event_received ON gcm_event (received_us);

-- Where devices are, as gateways told it, each for itself.
CREATE TABLE gcm_session (
    device    TEXT NOT NULL,
    gateway   TEXT NOT NULL,
    session   TEXT NOT NULL,
    since_us  BIGINT NOT NULL,
    peer      TEXT NOT NULL,
    addresses TEXT NOT NULL,
    PRIMARY KEY (device, gateway)
);
CREATE INDEX gcm_session_gateway ON gcm_session (gateway, device);
