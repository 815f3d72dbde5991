package store

import (
	"context"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Wipe of a device, and what follows.
type Wipe struct {
	Device, Task string
	State        WipeState
	// Reason: WipedReason or ExpiredReason, once it is closing.
	Reason string
	// Enrolled is which enrollment of the device it ends.
	Enrolled time.Time
	Expires  time.Time
	// Tries so far to have the account closed elsewhere, and what went wrong when
	// last.
	Tries   int
	Trouble string
	Closed  time.Time
}

// WipeState is how far a wipe is.
type WipeState string

// States of a wipe.
const (
	// WipeOrdered: the task waits, was sent, or was refused by the device, or nobody
	// knows what came of it.
	WipeOrdered WipeState = "ordered"
	// WipeClosing: the device is closed here, gateways are told; its certificate
	// has to be revoked.
	WipeClosing WipeState = "closing"
	// WipeClosed: all is done. The device may enroll anew.
	WipeClosed WipeState = "closed"
)

// Reasons.
const (
	WipedReason   = "wiped"
	ExpiredReason = "wipe expired"
)

// orderWipe of a device whose row is locked. An earlier order that waits is
// replaced: its task may still be done, and then ends the device as well.
func (t *tx) orderWipe(k Task, v Device) error {
	_, err := t.Exec(`INSERT INTO dm_wipe (device_name, task_id, state, enrolled_us, expires_us, due_us) VALUES ($1, $2, 'ordered', $3, $4, $5)
		ON CONFLICT (device_name) DO UPDATE SET task_id = excluded.task_id, expires_us = excluded.expires_us, due_us = excluded.due_us`,
		v.Name, k.ID, v.Enrolled.UnixMicro(), k.Expires.UnixMicro(), k.Expires.UnixMicro())
	return err
}

// wiped: the device has said so, about this command. A word about an enrollment
// that is over ends nothing. An order that was cancelled too late is an order.
func (t *tx) wiped(device string, command int64) error {
	v, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), device))
	if err != nil {
		return err
	}
	var task string
	var created int64
	if err := t.Row(`SELECT id, created_us FROM dm_task WHERE id = (SELECT task_id FROM dm_command WHERE id = $1)`, command).Scan(&task, &created); err != nil {
		return err
	}
	if !v.Open || created < v.Enrolled.UnixMicro() {
		return nil
	}
	return t.closing(v, task, WipedReason)
}

// closing ends a device here and leaves the rest to whoever takes due wipes.
func (t *tx) closing(v Device, task, reason string) error {
	now := t.d.now().UnixMicro()
	if _, err := t.Exec(`INSERT INTO dm_wipe (device_name, task_id, state, reason, enrolled_us, expires_us, due_us)
			VALUES ($1, $2, 'closing', $3, $4, $5, $6)
			ON CONFLICT (device_name) DO UPDATE SET task_id = excluded.task_id, state = 'closing', reason = excluded.reason, due_us = excluded.due_us`,
		v.Name, task, reason, v.Enrolled.UnixMicro(), now, now); err != nil {
		return err
	}
	return t.closeDevice(v.Name, reason)
}

const wipeReturning = `device_name, task_id, state, reason, enrolled_us, expires_us, tries, trouble, closed_us`

const wipeColumns = wipeReturning + ` FROM dm_wipe`

func scanWipe(r database.Row) (w Wipe, err error) {
	var enrolled, expires, closed database.Instant
	err = r.Scan(&w.Device, &w.Task, &w.State, &w.Reason, &enrolled, &expires, &w.Tries, &w.Trouble, &closed)
	w.Enrolled, w.Expires, w.Closed = enrolled.Time, expires.Time, closed.Time
	return w, err
}

// Wipe of a device. ErrNotFound: none was ordered since it enrolled.
func (d *SQL) Wipe(ctx context.Context, device string) (Wipe, error) {
	w, err := scanWipe(d.db.QueryRowContext(ctx, `SELECT `+wipeColumns+` WHERE device_name = $1`, device))
	return w, found(err, "wipe of device", device)
}

// Wipes in a state, in the order of devices' names, after one that was seen.
func (d *SQL) Wipes(ctx context.Context, state WipeState, after string, limit int) ([]Wipe, error) {
	return query(ctx, d.db, scanWipe, `SELECT `+wipeColumns+` WHERE state = $1 AND device_name > $2 ORDER BY device_name LIMIT $3`,
		string(state), after, database.Page(limit))
}

// ExpireWipes closes devices whose wipe nobody confirmed in time, at most limit
// of them, and says how many.
func (d *SQL) ExpireWipes(ctx context.Context, limit int) (n int, err error) {
	err = d.write(ctx, func(t *tx) error {
		n = 0
		wipes, err := query(t.Context(), t, scanWipe, `SELECT `+wipeColumns+` WHERE state = 'ordered' AND due_us <= $1
			ORDER BY due_us LIMIT $2`+t.SkipLocked("dm_wipe"), d.now().UnixMicro(), database.Page(limit))
		if err != nil {
			return err
		}
		for _, w := range wipes {
			v, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), w.Device))
			if err != nil {
				return err
			}
			if err := t.closing(v, w.Task, ExpiredReason); err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// TakeWipes that are closing: they are the caller's for as long as lease says,
// then somebody else's, in case the caller crashed.
func (d *SQL) TakeWipes(ctx context.Context, lease time.Duration, limit int) (taken []Wipe, err error) {
	err = d.write(ctx, func(t *tx) error {
		now := d.now()
		names, err := query(t.Context(), t, database.Scan[string], `SELECT device_name FROM dm_wipe WHERE state = 'closing' AND due_us <= $1
			ORDER BY due_us LIMIT $2`+t.SkipLocked("dm_wipe"), now.UnixMicro(), database.Page(limit))
		if err != nil || len(names) == 0 {
			taken = nil
			return err
		}
		taken, err = query(t.Context(), t, scanWipe, `UPDATE dm_wipe SET due_us = $1, tries = tries + 1 WHERE `+t.Among("device_name", "TEXT", 2)+`
			RETURNING `+wipeReturning, now.Add(lease).UnixMicro(), database.Several(t.Engine, names))
		return err
	})
	return taken, err
}

// EndWipe: its account is closed everywhere.
func (d *SQL) EndWipe(ctx context.Context, w Wipe) error {
	return d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`UPDATE dm_wipe SET state = 'closed', trouble = '', closed_us = $1
			WHERE device_name = $2 AND task_id = $3 AND state = 'closing'`, d.now().UnixMicro(), w.Device, w.Task)
		return err
	})
}

// maxTrouble is how much of an error is kept, in octets.
const maxTrouble = 500

// DelayWipe: it failed, and may be taken again at a later time.
func (d *SQL) DelayWipe(ctx context.Context, w Wipe, until time.Time, trouble error) error {
	said := fmt.Sprint(trouble)
	said = text(said[:min(len(said), maxTrouble)])
	return d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`UPDATE dm_wipe SET due_us = $1, trouble = $2 WHERE device_name = $3 AND task_id = $4 AND state = 'closing'`,
			until.UnixMicro(), said, w.Device, w.Task)
		return err
	})
}
