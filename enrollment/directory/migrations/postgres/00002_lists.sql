-- +goose Up
-- Revocation lists are published from here, not signed for each reader.
CREATE TABLE directory_list (
    authority      TEXT NOT NULL REFERENCES directory_authority (id),
    number         BIGINT NOT NULL,
    base           BIGINT NOT NULL,
    der            BYTEA NOT NULL,
    entries        BIGINT NOT NULL,
    this_update_us BIGINT NOT NULL,
    next_update_us BIGINT NOT NULL,
    PRIMARY KEY (authority, number, base)
);

-- What was done can't be edited afterwards.
-- +goose StatementBegin
CREATE FUNCTION directory_audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'directory_audit is append-only';
END;
$$;
-- +goose StatementEnd
CREATE TRIGGER directory_audit_fixed BEFORE UPDATE OR DELETE OR TRUNCATE ON directory_audit
    FOR EACH STATEMENT EXECUTE FUNCTION directory_audit_append_only();
