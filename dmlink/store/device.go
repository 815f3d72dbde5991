package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Device that is managed.
type Device struct {
	// Name is its identity in sessions and certificates.
	Name string
	User string
	// IMEI, IMSI and Phone number, where they are known.
	IMEI, IMSI, Phone string
	Groups            []string
	// Unit of the tree of units that policies are linked to, such as corp/sales;
	// see SetUnit.
	Unit     string
	Open     bool
	Enrolled time.Time
	Closed   time.Time
	// Seen is when it last authenticated; written late, see SQL.Seen.
	Seen time.Time
}

const deviceColumns = `name, user_name, imei, imsi, phone, unit, state, enrolled_us, closed_us, seen_us FROM dm_device`

func scanDevice(r database.Row) (v Device, err error) {
	var user, imei, imsi, phone database.Text
	var state string
	var enrolled, closed, seen database.Instant
	err = r.Scan(&v.Name, &user, &imei, &imsi, &phone, &v.Unit, &state, &enrolled, &closed, &seen)
	v.User, v.IMEI, v.IMSI, v.Phone = string(user), string(imei), string(imsi), string(phone)
	v.Open, v.Enrolled, v.Closed, v.Seen = state == "open", enrolled.Time, closed.Time, seen.Time
	return v, err
}

// Enroll a device, for the first time or anew at a later moment: then its open
// commands are cancelled and a wipe that waits is forgotten, because somebody
// has let it in since. Told again of the same enrollment, by v.Enrolled, it only
// takes over user, numbers and groups. The account is by certificate until
// PutAccount.
func (d *SQL) Enroll(ctx context.Context, v Device) error {
	if !isName(v.Name) || v.Enrolled.IsZero() {
		return fmt.Errorf("%w: a device needs a name of at most %d octets and the time of its enrollment", ErrInvalid, maxName)
	}
	return d.write(ctx, func(t *tx) error { return t.enroll(v) })
}

func (t *tx) enroll(v Device) error {
	added, err := t.Exec(`INSERT INTO dm_device (name, state, enrolled_us) VALUES ($1, 'open', $2) ON CONFLICT (name) DO NOTHING`,
		v.Name, v.Enrolled.UnixMicro())
	if err != nil {
		return err
	}
	old, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), v.Name))
	if err != nil {
		return err
	}
	switch {
	case added > 0:
		if err := t.standing(v.Name, true); err != nil {
			return err
		}
	case v.Enrolled.UnixMicro() < old.Enrolled.UnixMicro():
		return nil // an old tale
	case v.Enrolled.UnixMicro() > old.Enrolled.UnixMicro():
		if err := t.anew(v); err != nil {
			return err
		}
	}
	if _, err := t.Exec(`UPDATE dm_device SET user_name = $1, imei = $2, imsi = $3, phone = $4 WHERE name = $5`,
		database.OrNull(v.User), database.OrNull(v.IMEI), database.OrNull(v.IMSI), database.OrNull(v.Phone), v.Name); err != nil {
		return err
	}
	if v.User != old.User {
		if err := t.mark(v.Name); err != nil {
			return err
		}
	}
	return t.setGroups(v.Name, v.Groups)
}

// anew: nothing of the enrollment before is left.
func (t *tx) anew(v Device) error {
	if err := t.standing(v.Name, true); err != nil {
		return err
	}
	if err := t.cancelAll(v.Name); err != nil {
		return err
	}
	for _, text := range []string{
		`DELETE FROM dm_wipe WHERE device_name = $1`,
		`UPDATE dm_device SET state = 'open', closed_us = NULL, seen_us = NULL, scheme = 0, account = '', secret = NULL, nonce = NULL,
			server_account = '', server_secret = NULL, server_nonce = NULL, info_digest = NULL WHERE name = $1`,
	} {
		if _, err := t.Exec(text, v.Name); err != nil {
			return err
		}
	}
	_, err := t.Exec(`UPDATE dm_device SET enrolled_us = $1 WHERE name = $2`, v.Enrolled.UnixMicro(), v.Name)
	return err
}

func (t *tx) setGroups(device string, groups []string) error {
	old, err := query(t.Context(), t, database.Scan[string], `DELETE FROM dm_member WHERE device_name = $1 RETURNING group_name`, device)
	if err != nil {
		return err
	}
	groups = slices.Compact(slices.Sorted(slices.Values(groups)))
	for _, g := range groups {
		if _, err := t.Exec(`INSERT INTO dm_member (device_name, group_name) VALUES ($1, $2)`, device, g); err != nil {
			return err
		}
	}
	slices.Sort(old)
	if slices.Equal(old, groups) {
		return nil
	}
	return t.mark(device)
}

// SetUnit moves open devices to a unit of the tree that policies are linked to,
// "" being its top, and says how many were elsewhere. Those that aren't there or
// aren't open are left out. ErrInvalid.
func (d *SQL) SetUnit(ctx context.Context, unit string, devices ...string) (n int, err error) {
	if err := policy.CheckUnit(unit); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if len(devices) == 0 {
		return 0, nil
	}
	err = d.write(ctx, func(t *tx) error {
		moved, err := query(t.Context(), t, database.Scan[string], `UPDATE dm_device SET unit = $1
			WHERE state = 'open' AND unit <> $2 AND `+t.Among("name", "TEXT", 3)+` RETURNING name`, unit, unit, database.Several(t.Engine, devices))
		if n = len(moved); err != nil {
			return err
		}
		return t.mark(moved...)
	})
	return n, err
}

// SetGroups replaces the groups of a device.
func (d *SQL) SetGroups(ctx context.Context, device string, groups []string) error {
	return d.write(ctx, func(t *tx) error {
		if err := t.Row(`SELECT name FROM dm_device WHERE name = $1`+t.ForUpdate(), device).Scan(new(string)); err != nil {
			return found(err, "device", device)
		}
		return t.setGroups(device, groups)
	})
}

// Device by its name.
func (d *SQL) Device(ctx context.Context, name string) (Device, error) {
	v, err := scanDevice(d.db.QueryRowContext(ctx, `SELECT `+deviceColumns+` WHERE name = $1`, name))
	if err != nil {
		return v, found(err, "device", name)
	}
	v.Groups, err = query(ctx, d.db, database.Scan[string], `SELECT group_name FROM dm_member WHERE device_name = $1 ORDER BY group_name`, name)
	return v, err
}

// DeviceFilter; its zero value means all.
type DeviceFilter struct {
	User, IMEI, IMSI, Phone, Group string
	// Open leaves out those that are closed.
	Open bool
	// After is the name of the last one that was seen; Limit is at most 1,000,
	// which zero means, too.
	After string
	Limit int
}

// Devices in the order of their names; without their groups.
func (d *SQL) Devices(ctx context.Context, f DeviceFilter) ([]Device, error) {
	var w database.Where
	w.Equal("user_name", f.User)
	w.Equal("imei", f.IMEI)
	w.Equal("imsi", f.IMSI)
	w.Equal("phone", f.Phone)
	if f.Group != "" {
		w.Add("name IN (SELECT device_name FROM dm_member WHERE group_name = $%d)", f.Group)
	}
	if f.Open {
		w.Add("state = $%d", "open")
	}
	// Also without one: it leads to the index, whose order is that of the list.
	w.Add("name > $%d", f.After)
	return query(ctx, d.db, scanDevice, `SELECT `+deviceColumns+w.Text("name", f.Limit), w.Args...)
}

// Close a device that its administrator, or enrollment, has let go: it gets no
// session any more, its secrets are gone, its commands are cancelled, gateways
// hear of it. Enrolled is which enrollment is meant: one that came since isn't
// touched. Again it changes nothing.
func (d *SQL) Close(ctx context.Context, device string, enrolled time.Time, reason string) error {
	return d.write(ctx, func(t *tx) error {
		v, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), device))
		if err != nil {
			return found(err, "device", device)
		}
		if !v.Open || v.Enrolled.UnixMicro() > enrolled.UnixMicro() {
			return nil
		}
		return t.letGo(v, reason)
	})
}

// letGo of a device whose row is locked, without a word from it.
func (t *tx) letGo(v Device, reason string) error {
	if _, err := t.Exec(`DELETE FROM dm_wipe WHERE device_name = $1 AND state = 'ordered'`, v.Name); err != nil {
		return err
	}
	return t.closeDevice(v.Name, reason)
}

// closeDevice whose row is locked.
func (t *tx) closeDevice(device, reason string) error {
	now := t.d.now()
	if _, err := t.Exec(`UPDATE dm_device SET state = 'closed', closed_us = $1, secret = NULL, nonce = NULL,
		server_secret = NULL, server_nonce = NULL WHERE name = $2`, now.UnixMicro(), device); err != nil {
		return err
	}
	if err := t.standing(device, false); err != nil {
		return err
	}
	if err := t.cancelAll(device); err != nil {
		return err
	}
	return t.tell(Event{At: now, Kind: Closed, Device: device, Reason: reason})
}
