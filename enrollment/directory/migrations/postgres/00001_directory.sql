-- +goose Up
-- Which database this is: one row, made at the first start.
CREATE TABLE directory_identity (
    id    TEXT PRIMARY KEY,
    one   INTEGER NOT NULL UNIQUE CHECK (one = 1)
);

CREATE TABLE directory_user (
    name       TEXT PRIMARY KEY,
    email      TEXT NOT NULL DEFAULT '',
    created_us BIGINT NOT NULL
);
CREATE INDEX directory_user_email ON directory_user (email);

CREATE TABLE directory_group (
    name       TEXT PRIMARY KEY,
    created_us BIGINT NOT NULL
);

CREATE TABLE directory_device (
    name       TEXT PRIMARY KEY,
    user_name  TEXT NOT NULL REFERENCES directory_user (name),
    state      TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    created_us BIGINT NOT NULL,
    closed_us  BIGINT
);
CREATE INDEX directory_device_user ON directory_device (user_name);

CREATE TABLE directory_member (
    device_name TEXT NOT NULL REFERENCES directory_device (name),
    group_name  TEXT NOT NULL REFERENCES directory_group (name),
    PRIMARY KEY (device_name, group_name)
);

-- A public key belongs to the device that had it first, forever.
CREATE TABLE directory_key (
    hash        BYTEA PRIMARY KEY,
    device_name TEXT NOT NULL REFERENCES directory_device (name)
);

CREATE TABLE directory_request (
    id         TEXT PRIMARY KEY,
    device     TEXT NOT NULL,
    user_name  TEXT NOT NULL REFERENCES directory_user (name),
    group_names TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('open', 'used', 'expired', 'cancelled', 'exhausted')),
    secret     BYTEA,
    guesses    BIGINT NOT NULL DEFAULT 0,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_us BIGINT NOT NULL,
    closed_us  BIGINT,
    key_hash   BYTEA,
    serial     TEXT
);
CREATE INDEX directory_request_user ON directory_request (user_name, state);
CREATE INDEX directory_request_device ON directory_request (device, state);
CREATE INDEX directory_request_secret ON directory_request (expires_us) WHERE secret IS NOT NULL;

CREATE TABLE directory_authority (
    id          TEXT PRIMARY KEY,
    certificate BYTEA NOT NULL,
    number      BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE directory_certificate (
    serial        TEXT PRIMARY KEY,
    authority     TEXT NOT NULL REFERENCES directory_authority (id),
    profile       TEXT NOT NULL,
    name          TEXT NOT NULL,
    device_name   TEXT REFERENCES directory_device (name),
    request       TEXT UNIQUE REFERENCES directory_request (id),
    renews        TEXT REFERENCES directory_certificate (serial),
    key_hash      BYTEA,
    der           BYTEA,
    sha256        BYTEA NOT NULL,
    issued_us     BIGINT NOT NULL,
    not_before_us BIGINT NOT NULL,
    not_after_us  BIGINT NOT NULL,
    revoked_us    BIGINT,
    reason        BIGINT NOT NULL DEFAULT 0,
    listed        BIGINT
);
CREATE INDEX directory_certificate_device ON directory_certificate (device_name, issued_us);
CREATE INDEX directory_certificate_renews ON directory_certificate (renews) WHERE renews IS NOT NULL;
CREATE INDEX directory_certificate_revoked ON directory_certificate (authority, listed) WHERE revoked_us IS NOT NULL;

CREATE TABLE directory_outbox (
    id        BIGSERIAL PRIMARY KEY,
    number    BIGINT UNIQUE,
    at_us     BIGINT NOT NULL,
    kind      TEXT NOT NULL,
    device    TEXT NOT NULL,
    user_name TEXT NOT NULL,
    group_names TEXT NOT NULL,
    serial    TEXT NOT NULL,
    reason    BIGINT NOT NULL DEFAULT 0,
    until_us  BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX directory_outbox_new ON directory_outbox (id) WHERE number IS NULL;

CREATE TABLE directory_audit (
    id      BIGSERIAL PRIMARY KEY,
    at_us   BIGINT NOT NULL,
    actor   TEXT NOT NULL,
    source  TEXT NOT NULL,
    action  TEXT NOT NULL,
    request TEXT NOT NULL,
    device  TEXT NOT NULL,
    serial  TEXT NOT NULL,
    detail  TEXT NOT NULL
);
