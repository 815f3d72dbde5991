-- +goose Up
CREATE TABLE dm_access_role (
    instance   TEXT NOT NULL,
    subject    TEXT NOT NULL,
    role       TEXT NOT NULL,
    granted_us BIGINT NOT NULL,
    granted_by TEXT NOT NULL,
    PRIMARY KEY (instance, subject, role)
);

CREATE TABLE dm_access_token (
    instance   TEXT NOT NULL,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    digest     BYTEA NOT NULL,
    roles      BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us    BIGINT,
    revoked_us BIGINT,
    PRIMARY KEY (instance, id),
    UNIQUE (instance, name)
);

-- Each entry is chained to the one before it.
CREATE TABLE dm_access_audit (
    instance  TEXT NOT NULL,
    number    BIGINT NOT NULL,
    at_us     BIGINT NOT NULL,
    subject   TEXT NOT NULL,
    source    TEXT NOT NULL,
    operation TEXT NOT NULL,
    phase     TEXT NOT NULL,
    of_number BIGINT NOT NULL,
    object    TEXT NOT NULL,
    detail    TEXT NOT NULL,
    status    BIGINT NOT NULL,
    hash      BYTEA NOT NULL,
    PRIMARY KEY (instance, number)
);
CREATE INDEX dm_access_audit_subject ON dm_access_audit (instance, subject, number);
CREATE INDEX dm_access_audit_operation ON dm_access_audit (instance, operation, number);
CREATE INDEX dm_access_audit_object ON dm_access_audit (instance, object, number);
CREATE INDEX dm_access_audit_phase ON dm_access_audit (instance, phase, number);
CREATE INDEX dm_access_audit_at ON dm_access_audit (instance, at_us);

-- The newest entry of each instance: who appends holds its row.
CREATE TABLE dm_access_head (
    instance TEXT PRIMARY KEY,
    number   BIGINT NOT NULL,
    hash     BYTEA NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION dm_access_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'dm_access_audit is append-only';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER dm_access_audit_keep BEFORE UPDATE OR DELETE OR TRUNCATE ON dm_access_audit
    FOR EACH STATEMENT EXECUTE FUNCTION dm_access_audit_append_only();
