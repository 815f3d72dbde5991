-- +goose Up
ALTER TABLE dm_device ADD COLUMN unit TEXT COLLATE "C" NOT NULL DEFAULT '';
CREATE INDEX dm_device_unit ON dm_device (unit, name);

-- Commands that the server makes by itself aren't of a task that somebody put:
-- serial is the policy's number for the device, or 0 for those of a survey. They
-- go when their outcome was taken.
ALTER TABLE dm_command ADD COLUMN serial BIGINT;
CREATE INDEX dm_command_serial ON dm_command (device_name, serial) WHERE serial IS NOT NULL;

-- Tasks that people put are listed, contents of such commands aren't.
ALTER TABLE dm_task ADD COLUMN listed BIGINT NOT NULL DEFAULT 1;
DROP INDEX dm_task_created;
CREATE INDEX dm_task_created ON dm_task (created_us, id) WHERE listed = 1;

CREATE TABLE dm_policy_version (
    number   BIGINT PRIMARY KEY,
    at_us    BIGINT NOT NULL,
    by_name  TEXT NOT NULL,
    comment  TEXT NOT NULL,
    document TEXT NOT NULL
);

-- Which nodes of the inventory the newest version reads; * is any.
CREATE TABLE dm_policy_read (
    uri TEXT PRIMARY KEY
);

-- Every open device. mark is what a computed state has to know; marked_us is NULL
-- where nothing is to be computed. doubt: its state is older than the device.
CREATE TABLE dm_policy_device (
    device_name TEXT PRIMARY KEY REFERENCES dm_device (name),
    mark        BIGINT NOT NULL DEFAULT 0,
    marked_us   BIGINT,
    due_us      BIGINT,
    doubt       BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX dm_policy_device_marked ON dm_policy_device (marked_us, device_name) WHERE marked_us IS NOT NULL;
CREATE INDEX dm_policy_device_due ON dm_policy_device (due_us) WHERE due_us IS NOT NULL;
INSERT INTO dm_policy_device (device_name, marked_us) SELECT name, 0 FROM dm_device WHERE state = 'open';

CREATE TABLE dm_policy_state (
    device_name TEXT PRIMARY KEY REFERENCES dm_device (name),
    state       TEXT NOT NULL
);

CREATE TABLE dm_inventory (
    device_name TEXT PRIMARY KEY REFERENCES dm_device (name),
    version     BIGINT NOT NULL,
    snapshot    BYTEA NOT NULL
);

-- What one update changed.
CREATE TABLE dm_inventory_change (
    id          BIGSERIAL PRIMARY KEY,
    device_name TEXT NOT NULL REFERENCES dm_device (name),
    at_us       BIGINT NOT NULL,
    changes     BYTEA NOT NULL
);
CREATE INDEX dm_inventory_change_device ON dm_inventory_change (device_name, id);
CREATE INDEX dm_inventory_change_at ON dm_inventory_change (at_us);

-- When a device is asked for its inventory next, and how far it is with that.
CREATE TABLE dm_survey (
    device_name TEXT PRIMARY KEY REFERENCES dm_device (name),
    due_us      BIGINT NOT NULL,
    survey      BYTEA
);
CREATE INDEX dm_survey_due ON dm_survey (due_us);
-- Devices that are there already don't come all at once.
INSERT INTO dm_survey (device_name, due_us)
    SELECT name, CAST(extract(epoch FROM now()) * 1000000 + random() * 604800000000 AS BIGINT) FROM dm_device WHERE state = 'open';
