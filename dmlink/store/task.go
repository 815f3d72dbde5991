package store

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Task is what somebody wants of one device or of many.
type Task struct {
	// ID is drawn by Put if it is empty. Who gives one can try again after an
	// error without doing it twice.
	ID string
	// Kind is a task type's name, Detail its parameters in JSON.
	Kind, Detail string
	// Group that it was put for, if it was.
	Group   string
	Created time.Time
	By      string
	Expires time.Time
	// Urgency: lower ones go first, then older ones.
	Urgency   int
	Semantics session.Semantics
	Command   syncml.Command
	Query     *session.Query
	// Closes: a device that has done it, or that hasn't when it expires, is
	// closed. Wipe.
	Closes bool
}

func (k *Task) once() bool {
	return k.Semantics == session.OnceOnly || k.Semantics == session.Queryable && k.Query == nil
}

// maxCommand is how large a stored command may be, in octets.
const maxCommand = 4 << 20

// Put a task for devices by name, or for all open ones that are in k.Group now.
// It returns the ID and for how many devices it is. ErrExists: this ID was put
// before, which is how a second try ends whose first one worked. ErrNotFound and
// ErrClosed name the device.
func (d *SQL) Put(ctx context.Context, k Task, devices ...string) (id string, n int, err error) {
	if (k.Group == "") == (len(devices) == 0) {
		return "", 0, fmt.Errorf("%w: a task needs either devices or a group", ErrInvalid)
	}
	p, err := newStorable(k)
	if err != nil {
		return "", 0, err
	}
	err = d.write(ctx, func(t *tx) error {
		n, err = t.putTask(p, devices...)
		return err
	})
	return p.ID, n, err
}

// storable is a task in the form in which it is stored.
type storable struct {
	Task
	command []byte
	query   any
}

func newStorable(k Task) (*storable, error) {
	if k.ID == "" {
		k.ID = rand.Text()
	}
	if k.Kind == "" || k.Created.IsZero() || !k.Expires.After(k.Created) {
		return nil, fmt.Errorf("%w: a task needs a kind and an end after its beginning", ErrInvalid)
	}
	if !isName(k.ID) || reserved(k.ID) {
		return nil, fmt.Errorf("%w: task ID %.50q: text of at most %d octets that doesn't begin with %s/ or %s/", ErrInvalid, k.ID, maxName, policyKind, inventoryKind)
	}
	command, err := marshalCommand(k.Command)
	if err != nil {
		return nil, err
	}
	if len(command) > maxCommand {
		return nil, fmt.Errorf("%w: a command of %d octets, at most %d", ErrInvalid, len(command), maxCommand)
	}
	query, err := marshalQuery(k.Query)
	return &storable{k, command, query}, err
}

func (t *tx) putTask(p *storable, devices ...string) (n int, err error) {
	k := p.Task
	added, err := t.Exec(`INSERT INTO dm_task (id, kind, detail, group_name, created_us, created_by, expires_us,
			semantics, urgency, command, query, once, closes)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT (id) DO NOTHING`,
		k.ID, k.Kind, k.Detail, database.OrNull(k.Group), k.Created.UnixMicro(), k.By, k.Expires.UnixMicro(),
		int64(k.Semantics), int64(k.Urgency), p.command, p.query, flag(k.once()), flag(k.Closes))
	if err != nil {
		return 0, err
	}
	if added == 0 {
		return 0, fmt.Errorf("task %q: %w", k.ID, ErrExists)
	}
	if k.Group != "" {
		return t.commandsOfGroup(k)
	}
	for _, device := range devices {
		if err := t.commandOf(k, device); err != nil {
			return 0, err
		}
	}
	return len(devices), nil
}

// commandOf one device. Its row is locked, so that nothing is added to one that
// is being closed.
func (t *tx) commandOf(k Task, device string) error {
	v, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), device))
	if err != nil {
		return found(err, "device", device)
	}
	if !v.Open {
		return fmt.Errorf("device %q: %w", device, ErrClosed)
	}
	if _, err := t.Exec(`INSERT INTO dm_command (task_id, device_name, state, urgency, expires_us) VALUES ($1, $2, 'waiting', $3, $4)`,
		k.ID, device, int64(k.Urgency), k.Expires.UnixMicro()); err != nil {
		return err
	}
	if k.Closes {
		return t.orderWipe(k, v)
	}
	return nil
}

func (t *tx) commandsOfGroup(k Task) (int, error) {
	if k.Closes {
		return 0, fmt.Errorf("%w: a task that closes devices is put for devices by name", ErrInvalid)
	}
	lock := ""
	if t.Engine == database.Postgres {
		lock = " FOR SHARE OF dm_device"
	}
	n, err := t.Exec(`INSERT INTO dm_command (task_id, device_name, state, urgency, expires_us)
		SELECT CAST($1 AS TEXT), name, 'waiting', CAST($2 AS BIGINT), CAST($3 AS BIGINT) FROM dm_member JOIN dm_device ON name = device_name
		WHERE group_name = $4 AND state = 'open' ORDER BY name`+lock,
		k.ID, int64(k.Urgency), k.Expires.UnixMicro(), k.Group)
	return int(n), err
}

const taskColumns = `id, kind, detail, group_name, created_us, created_by, expires_us, semantics, urgency, command, query, closes FROM dm_task`

func scanTask(r database.Row) (k Task, err error) {
	var group, text database.Text
	var created, expires database.Instant
	var semantics, closes int64
	var command []byte
	if err := r.Scan(&k.ID, &k.Kind, &k.Detail, &group, &created, &k.By, &expires, &semantics, &k.Urgency, &command, &text, &closes); err != nil {
		return k, err
	}
	k.Group, k.Created, k.Expires = string(group), created.Time, expires.Time
	k.Semantics, k.Closes = session.Semantics(semantics), closes != 0
	if k.Query, err = unmarshalQuery(string(text)); err != nil {
		return k, err
	}
	k.Command, err = unmarshalCommand(command)
	return k, err
}

// Task by its ID.
func (d *SQL) Task(ctx context.Context, id string) (Task, error) {
	k, err := scanTask(d.db.QueryRowContext(ctx, `SELECT `+taskColumns+` WHERE id = $1`, id))
	return k, found(err, "task", id)
}

// Tasks that somebody put, the newest first, that were made before another one; the zero Task
// means from the newest. Limit is at most 1,000.
func (d *SQL) Tasks(ctx context.Context, before Task, limit int) ([]Task, error) {
	var w database.Where
	w.That("listed = 1")
	if !before.Created.IsZero() {
		w.Before("created_us, id", before.Created.UnixMicro(), before.ID)
	}
	return query(ctx, d.db, scanTask, `SELECT `+taskColumns+w.Text("created_us DESC, id DESC", limit), w.Args...)
}

// CommandState is how far a command is.
type CommandState string

// States of commands, see the package comment.
const (
	Waiting       CommandState = "waiting"
	Answered      CommandState = "answered"
	Accepted      CommandState = "accepted"
	Confirmed     CommandState = "confirmed"
	Unknown       CommandState = "unknown"
	Undeliverable CommandState = "undeliverable"
	Expired       CommandState = "expired"
	Cancelled     CommandState = "cancelled"
)

// Command is a task for one device.
type Command struct {
	// ID is that of session.Task.
	ID           int64
	Task, Device string
	State        CommandState
	// Attempt is how often it was claimed, Claimed when last.
	Attempt int
	Claimed time.Time
	// Code is the status; of an accepted command that ended, what its alert told.
	Code  int
	Ended time.Time
}

// Succeeded: the device has done it, as far as anybody knows.
func (c *Command) Succeeded() bool {
	return c.State == Confirmed || c.State == Answered && succeeded(c.Code)
}

// succeeded: a status of 2xx, or 304, or a result code of a generic alert of
// software management, 12xx.
func succeeded(code int) bool {
	return code >= 200 && code < 300 || code == syncml.StatusNotModified || code >= 1200 && code < 1300
}

const commandColumns = `id, task_id, device_name, state, attempt, claimed_us, code, ended_us FROM dm_command`

func scanCommand(r database.Row) (c Command, err error) {
	var claimed, ended database.Instant
	err = r.Scan(&c.ID, &c.Task, &c.Device, &c.State, &c.Attempt, &claimed, &c.Code, &ended)
	c.Claimed, c.Ended = claimed.Time, ended.Time
	return c, err
}

// CommandsOfTask in the order of devices' names, after one that was seen.
func (d *SQL) CommandsOfTask(ctx context.Context, task, after string, limit int) ([]Command, error) {
	return query(ctx, d.db, scanCommand, `SELECT `+commandColumns+` WHERE task_id = $1 AND device_name > $2
		ORDER BY device_name LIMIT $3`, task, after, database.Page(limit))
}

// CommandsOfDevice, the newest first, before one that was seen; zero means from
// the newest.
func (d *SQL) CommandsOfDevice(ctx context.Context, device string, before int64, limit int) ([]Command, error) {
	if before == 0 {
		before = 1<<63 - 1
	}
	return query(ctx, d.db, scanCommand, `SELECT `+commandColumns+` WHERE device_name = $1 AND id < $2
		ORDER BY id DESC LIMIT $3`, device, before, database.Page(limit))
}

// ended is what becomes of a waiting command that nobody wants any more: if it
// was sent and may not be sent twice, nobody knows.
const ended = `CASE WHEN attempt > 0 AND (SELECT once FROM dm_task WHERE dm_task.id = dm_command.task_id) = 1 THEN 'unknown' ELSE `

// Cancel what still waits of a task, and say how many that were. One that was
// sent may be done all the same.
func (d *SQL) Cancel(ctx context.Context, task string) (n int, err error) {
	err = d.write(ctx, func(t *tx) error {
		if err := t.Row(`SELECT id FROM dm_task WHERE id = $1 AND listed = 1`, task).Scan(new(string)); err != nil {
			return found(err, "task", task)
		}
		// In the order in which claims lock.
		ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_command WHERE task_id = $1 AND state = 'waiting' ORDER BY id`+t.ForUpdate(), task)
		if err != nil {
			return err
		}
		n = len(ids)
		if err := t.end(ids, Cancelled); err != nil {
			return err
		}
		_, err = t.Exec(`DELETE FROM dm_wipe WHERE task_id = $1 AND state = 'ordered'`, task)
		return err
	})
	return n, err
}

// end commands that wait and are locked.
func (t *tx) end(ids []int64, state CommandState) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := t.Exec(`UPDATE dm_command SET state = `+ended+`'`+string(state)+`' END, ended_us = $1
		WHERE state = 'waiting' AND `+t.Among("id", "BIGINT", 2), t.d.now().UnixMicro(), database.Several(t.Engine, ids))
	return err
}

func (t *tx) cancelAll(device string) error {
	ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_command WHERE device_name = $1 AND state = 'waiting' ORDER BY id`+t.ForUpdate(), device)
	if err != nil {
		return err
	}
	return t.end(ids, Cancelled)
}

// Expire ends commands that waited too long, at most limit of them, and says how
// many. Of several servers each takes its own.
func (d *SQL) Expire(ctx context.Context, limit int) (n int, err error) {
	err = d.write(ctx, func(t *tx) error {
		ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_command WHERE state = 'waiting' AND expires_us <= $1
			ORDER BY expires_us LIMIT $2`+t.SkipLocked("dm_command"), d.now().UnixMicro(), database.Page(limit))
		if err != nil {
			return err
		}
		n = len(ids)
		return t.end(ids, Expired)
	})
	return n, err
}

// TrimCommands takes away commands that ended before a time, at most limit of
// them, and tasks of which none is left, and says how many. A task that a wipe
// stands on stays.
func (d *SQL) TrimCommands(ctx context.Context, before time.Time, limit int) (n int64, err error) {
	err = d.write(ctx, func(t *tx) error {
		n = 0
		ids, err := query(t.Context(), t, database.Scan[int64], `SELECT id FROM dm_command WHERE ended_us < $1 ORDER BY ended_us LIMIT $2`+t.SkipLocked("dm_command"),
			before.UnixMicro(), database.Page(limit))
		if err != nil || len(ids) == 0 {
			return err
		}
		if _, err := t.Exec(`DELETE FROM dm_answer WHERE `+t.Among("command_id", "BIGINT", 1), database.Several(t.Engine, ids)); err != nil {
			return err
		}
		tasks, err := query(t.Context(), t, database.Scan[string], `DELETE FROM dm_command WHERE `+t.Among("id", "BIGINT", 1)+` RETURNING task_id`, database.Several(t.Engine, ids))
		if err != nil {
			return err
		}
		n = int64(len(ids))
		_, err = t.Exec(`DELETE FROM dm_task WHERE `+t.Among("id", "TEXT", 1)+`
			AND (SELECT COUNT(*) FROM dm_command WHERE dm_command.task_id = dm_task.id) = 0
			AND (SELECT COUNT(*) FROM dm_wipe WHERE dm_wipe.task_id = dm_task.id) = 0`, database.Several(t.Engine, tasks))
		return err
	})
	return n, err
}

// AfterRestore of a backup: what was sent since isn't known any more, so once-only
// commands that wait become unknown; their administrators decide. It says how
// many those were. What policies gave to devices is sent to them again. Devices' sessions may begin when it has returned.
func (d *SQL) AfterRestore(ctx context.Context) (n int64, err error) {
	err = d.write(ctx, func(t *tx) error {
		var err error
		n, err = t.Exec(`UPDATE dm_command SET state = 'unknown', ended_us = $1
			WHERE state = 'waiting' AND expires_us > 0 AND (SELECT once FROM dm_task WHERE dm_task.id = dm_command.task_id) = 1`, d.now().UnixMicro())
		if err != nil {
			return err
		}
		_, err = t.Exec(`UPDATE dm_policy_device SET doubt = 1, mark = mark + 1, marked_us = COALESCE(marked_us, $1)`, d.now().UnixMicro())
		return err
	})
	return n, err
}
