-- +goose Up
CREATE TABLE dm_device (
    name           TEXT PRIMARY KEY,
    user_name      TEXT,
    imei           TEXT,
    imsi           TEXT,
    phone          TEXT,
    state          TEXT NOT NULL CHECK (state IN ('open', 'closed')),
    enrolled_us    BIGINT NOT NULL,
    closed_us      BIGINT,
    seen_us        BIGINT,
    scheme         BIGINT NOT NULL DEFAULT 0,
    account        TEXT NOT NULL DEFAULT '',
    secret         BYTEA,
    nonce          BYTEA,
    server_account TEXT NOT NULL DEFAULT '',
    server_secret  BYTEA,
    server_nonce   BYTEA,
    info_digest    BYTEA
);
CREATE INDEX dm_device_user ON dm_device (user_name) WHERE user_name IS NOT NULL;
CREATE INDEX dm_device_imei ON dm_device (imei) WHERE imei IS NOT NULL;
CREATE INDEX dm_device_imsi ON dm_device (imsi) WHERE imsi IS NOT NULL;
CREATE INDEX dm_device_phone ON dm_device (phone) WHERE phone IS NOT NULL;

CREATE TABLE dm_member (
    device_name TEXT NOT NULL REFERENCES dm_device (name),
    group_name  TEXT NOT NULL,
    PRIMARY KEY (device_name, group_name)
);
CREATE INDEX dm_member_group ON dm_member (group_name, device_name);

-- What an administrator, or a part of the server, wants of one or many devices.
CREATE TABLE dm_task (
    id         TEXT PRIMARY KEY,
    kind       TEXT NOT NULL,
    detail     TEXT NOT NULL,
    group_name TEXT,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_us BIGINT NOT NULL,
    semantics  BIGINT NOT NULL,
    urgency    BIGINT NOT NULL,
    command    BYTEA NOT NULL,
    query      TEXT,
    -- once: never sent twice; closes: when it is done, the device is closed.
    once       BIGINT NOT NULL,
    closes     BIGINT NOT NULL
);
CREATE INDEX dm_task_created ON dm_task (created_us, id);

-- A task for one device.
CREATE TABLE dm_command (
    id          BIGSERIAL PRIMARY KEY,
    task_id     TEXT NOT NULL REFERENCES dm_task (id),
    device_name TEXT NOT NULL REFERENCES dm_device (name),
    state       TEXT NOT NULL CHECK (state IN ('waiting', 'answered', 'accepted', 'confirmed', 'unknown', 'undeliverable', 'expired', 'cancelled')),
    urgency     BIGINT NOT NULL,
    expires_us  BIGINT NOT NULL,
    attempt     BIGINT NOT NULL DEFAULT 0,
    claimed_us  BIGINT,
    code        BIGINT NOT NULL DEFAULT 0,
    ended_us    BIGINT,
    UNIQUE (task_id, device_name)
);
CREATE INDEX dm_command_waiting ON dm_command (device_name, urgency, id) WHERE state = 'waiting';
CREATE INDEX dm_command_expires ON dm_command (expires_us) WHERE state = 'waiting';
CREATE INDEX dm_command_device ON dm_command (device_name, id);
CREATE INDEX dm_command_ended ON dm_command (ended_us) WHERE ended_us IS NOT NULL;

CREATE TABLE dm_answer (
    command_id BIGINT PRIMARY KEY REFERENCES dm_command (id),
    octets     BYTEA NOT NULL
);

CREATE TABLE dm_alert (
    id          BIGSERIAL PRIMARY KEY,
    device_name TEXT NOT NULL REFERENCES dm_device (name),
    at_us       BIGINT NOT NULL,
    code        BIGINT NOT NULL,
    correlator  TEXT NOT NULL,
    items       BYTEA NOT NULL
);
CREATE INDEX dm_alert_device ON dm_alert (device_name, id);

-- What a device last said of itself in its first package.
CREATE TABLE dm_info (
    device_name TEXT NOT NULL REFERENCES dm_device (name),
    uri         TEXT NOT NULL,
    format      TEXT NOT NULL,
    type        TEXT NOT NULL,
    data        BYTEA NOT NULL,
    at_us       BIGINT NOT NULL,
    PRIMARY KEY (device_name, uri)
);

CREATE TABLE dm_message (
    id           BIGSERIAL PRIMARY KEY,
    at_us        BIGINT NOT NULL,
    device_name  TEXT NOT NULL,
    sent         BIGINT NOT NULL,
    proven       BIGINT NOT NULL,
    content_type TEXT NOT NULL,
    size         BIGINT NOT NULL,
    octets       BYTEA NOT NULL
);
CREATE INDEX dm_message_device ON dm_message (device_name, id);
CREATE INDEX dm_message_at ON dm_message (at_us);

-- A device on its way out: ordered -> closing -> closed.
CREATE TABLE dm_wipe (
    device_name TEXT PRIMARY KEY REFERENCES dm_device (name),
    task_id     TEXT NOT NULL REFERENCES dm_task (id),
    state       TEXT NOT NULL CHECK (state IN ('ordered', 'closing', 'closed')),
    reason      TEXT NOT NULL DEFAULT '',
    enrolled_us BIGINT NOT NULL,
    expires_us  BIGINT NOT NULL,
    -- When somebody may work on it next, and how often that was tried.
    due_us      BIGINT NOT NULL,
    tries       BIGINT NOT NULL DEFAULT 0,
    trouble     TEXT NOT NULL DEFAULT '',
    closed_us   BIGINT
);
CREATE INDEX dm_wipe_due ON dm_wipe (state, due_us);
CREATE INDEX dm_wipe_task ON dm_wipe (task_id);

CREATE TABLE dm_outbox (
    id          BIGSERIAL PRIMARY KEY,
    number      BIGINT UNIQUE,
    at_us       BIGINT NOT NULL,
    kind        TEXT NOT NULL,
    device_name TEXT NOT NULL,
    reason      TEXT NOT NULL
);
CREATE INDEX dm_outbox_new ON dm_outbox (id) WHERE number IS NULL;

CREATE TABLE dm_schedule (
    group_name TEXT PRIMARY KEY,
    rank       BIGINT NOT NULL,
    schedule   TEXT NOT NULL
);
