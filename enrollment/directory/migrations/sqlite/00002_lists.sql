-- +goose Up
-- Revocation lists are published from here, not signed for each reader.
CREATE TABLE directory_list (
    authority      TEXT NOT NULL REFERENCES directory_authority (id),
    number         BIGINT NOT NULL,
    base           BIGINT NOT NULL,
    der            BLOB NOT NULL,
    entries        BIGINT NOT NULL,
    this_update_us BIGINT NOT NULL,
    next_update_us BIGINT NOT NULL,
    PRIMARY KEY (authority, number, base)
);

-- What was done can't be edited afterwards.
-- +goose StatementBegin
CREATE TRIGGER directory_audit_update BEFORE UPDATE ON directory_audit
BEGIN
    SELECT RAISE(ABORT, 'directory_audit is append-only');
END;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE TRIGGER directory_audit_delete BEFORE DELETE ON directory_audit
BEGIN
    SELECT RAISE(ABORT, 'directory_audit is append-only');
END;
-- +goose StatementEnd
