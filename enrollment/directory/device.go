package directory

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/gatewayd/database"
)

const deviceColumns = `name, user_name, state, created_us, closed_us FROM directory_device`

func scanDevice(r database.Row) (v Device, err error) {
	var state string
	var created, closed database.Instant
	err = r.Scan(&v.Name, &v.User, &state, &created, &closed)
	v.Open, v.Created, v.Closed = state == "open", created.Time, closed.Time
	return v, err
}

// device for a change: its row is locked.
func (t *tx) device(name string) (Device, error) {
	v, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`+t.ForUpdate(), name))
	if err != nil {
		return v, found(err, "device", name)
	}
	v.Groups, err = query(t.Context(), t, database.Scan[string], groupsOf, name)
	return v, err
}

const groupsOf = `SELECT group_name FROM directory_member WHERE device_name = $1 ORDER BY group_name`

// Device by its name.
func (d *SQL) Device(ctx context.Context, name string) (Device, error) {
	v, err := scanDevice(d.db.QueryRowContext(ctx, `SELECT `+deviceColumns+` WHERE name = $1`, name))
	if err != nil {
		return v, found(err, "device", name)
	}
	v.Groups, err = query(ctx, d.db, database.Scan[string], groupsOf, name)
	return v, err
}

// DeviceFilter; its zero value means all.
type DeviceFilter struct {
	User  string
	Group string
	// After is the name of the last one that was seen; Limit as in
	// RequestFilter.
	After string
	Limit int
}

// Devices in the order of their names.
func (d *SQL) Devices(ctx context.Context, f DeviceFilter) ([]Device, error) {
	var w database.Where
	w.Equal("user_name", f.User)
	if f.Group != "" {
		w.Add("name IN (SELECT device_name FROM directory_member WHERE group_name = $%d)", f.Group)
	}
	w.After("name", f.After)
	all, err := query(ctx, d.db, scanDevice, `SELECT `+deviceColumns+w.Text("name", f.Limit), w.Args...)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	type member struct{ device, group string }
	members, err := query(ctx, d.db, func(r database.Row) (m member, err error) {
		return m, r.Scan(&m.device, &m.group)
	}, `SELECT device_name, group_name FROM directory_member WHERE device_name >= $1 AND device_name <= $2 ORDER BY group_name`,
		all[0].Name, all[len(all)-1].Name)
	if err != nil {
		return nil, err
	}
	groups := make(map[string][]string)
	for _, m := range members {
		groups[m.device] = append(groups[m.device], m.group)
	}
	for i := range all {
		all[i].Groups = groups[all[i].Name]
	}
	return all, nil
}

// Users in the order of their names, after one that was seen.
func (d *SQL) Users(ctx context.Context, after string, limit int) ([]User, error) {
	var w database.Where
	w.After("name", after)
	return query(ctx, d.db, func(r database.Row) (u User, err error) {
		var created database.Instant
		err = r.Scan(&u.Name, &u.Email, &created)
		u.Created = created.Time
		return u, err
	}, `SELECT name, email, created_us FROM directory_user`+w.Text("name", limit), w.Args...)
}

// Groups in the order of their names, after one that was seen.
func (d *SQL) Groups(ctx context.Context, after string, limit int) ([]string, error) {
	var w database.Where
	w.After("name", after)
	return query(ctx, d.db, database.Scan[string], `SELECT name FROM directory_group`+w.Text("name", limit), w.Args...)
}

// Revoke a certificate, and what its device renewed from it, in however many
// steps: somebody else may have held its key. For ca.Superseded it goes alone,
// because what took its place is meant to stay; where it is found out later that
// it wasn't, a second call with another reason revokes the renewals. The certificate
// itself keeps its entry then. They are on the next list that is published.
// ErrRevoked: it was before, and with it all that this would revoke.
func (d *SQL) Revoke(ctx context.Context, by By, serial *big.Int, reason ca.Reason, at time.Time) error {
	text := ca.SerialString(serial)
	return d.tells(ctx, func(t *tx) error {
		c, err := scanCertificate(t.Row(`SELECT `+certificateColumns+` WHERE serial = $1`, text))
		if err != nil {
			return found(err, "certificate", text)
		}
		if c.Device != "" {
			// Its row, locked first, puts renewals before this or after it.
			if _, err := t.device(c.Device); err != nil {
				return err
			}
		}
		if c, err = scanCertificate(t.Row(`SELECT `+certificateColumns+` WHERE serial = $1`+t.ForUpdate(), text)); err != nil {
			return err
		}
		before := !c.Revoked.IsZero()
		switch {
		case before && (c.Reason != ca.Superseded || reason == ca.Superseded):
			return fmt.Errorf("certificate %s: %w", text, ErrRevoked)
		case !before:
			if err := t.revoke(by, c, reason, reason.String(), at); err != nil || reason == ca.Superseded {
				return err
			}
		}
		renewals, err := query(t.Context(), t, scanCertificate, `WITH RECURSIVE later (serial) AS (
				SELECT serial FROM directory_certificate WHERE renews = $1
				UNION SELECT c.serial FROM directory_certificate c JOIN later l ON c.renews = l.serial)
			SELECT `+certificateColumns+` WHERE serial IN (SELECT serial FROM later) AND revoked_us IS NULL AND not_after_us > $2 ORDER BY issued_us, serial`,
			text, at.UnixMicro())
		if err != nil {
			return err
		}
		if before && len(renewals) == 0 {
			return fmt.Errorf("certificate %s: %w", text, ErrRevoked)
		}
		for _, each := range renewals {
			if err := t.revoke(by, each, reason, reason.String()+", renewed from "+text, at); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *tx) revoke(by By, c Certificate, reason ca.Reason, detail string, at time.Time) error {
	if _, err := t.Exec(`UPDATE directory_certificate SET revoked_us = $1, reason = $2 WHERE serial = $3`, at.UnixMicro(), int64(reason), c.Serial); err != nil {
		return err
	}
	e := Event{At: at, Kind: Revoked, Device: c.Device, Serial: c.Serial, Reason: reason}
	if c.Device != "" {
		device, err := scanDevice(t.Row(`SELECT `+deviceColumns+` WHERE name = $1`, c.Device))
		if err != nil {
			return err
		}
		e.User = device.User
	}
	if err := t.tell(e); err != nil {
		return err
	}
	return t.audit(Entry{At: at, By: by, Action: ActRevoke, Device: c.Device, Serial: c.Serial, Detail: detail})
}

// CloseDevice revokes what a device has and cancels its open requests. A later
// request opens it again. ErrClosed: it was closed before.
func (d *SQL) CloseDevice(ctx context.Context, by By, name string, reason ca.Reason, at time.Time) error {
	return d.tells(ctx, func(t *tx) error {
		ids, err := query(t.Context(), t, database.Scan[string], `UPDATE directory_request SET state = $1, secret = NULL, closed_us = $2
			WHERE device = $3 AND state = $4 RETURNING id`, Cancelled, at.UnixMicro(), name, Open)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if err := t.audit(Entry{At: at, By: by, Action: ActCancel, Request: id, Device: name, Detail: "device is closed"}); err != nil {
				return err
			}
		}
		device, err := t.device(name)
		if err != nil {
			return err
		}
		if !device.Open {
			return fmt.Errorf("device %q: %w", name, ErrClosed)
		}
		return t.close(by, device, reason, at)
	})
}

// CloseEnrollment is CloseDevice for one enrollment of a device, the one of a
// moment: if it enrolled anew since, or is closed, nothing happens. Open requests
// stay: whoever made one wants it back. It says whether something was closed.
func (d *SQL) CloseEnrollment(ctx context.Context, by By, name string, enrolled time.Time, reason ca.Reason, at time.Time) (closed bool, err error) {
	err = d.tells(ctx, func(t *tx) error {
		closed = false
		// The device's row, locked first, puts this and an enrollment in an order.
		device, err := t.device(name)
		if err != nil || !device.Open {
			return err
		}
		var since bool
		if err := t.Row(`SELECT EXISTS (SELECT 1 FROM directory_certificate WHERE device_name = $1 AND request IS NOT NULL AND issued_us > $2)`,
			name, enrolled.UnixMicro()).Scan(&since); err != nil || since {
			return err
		}
		closed = true
		return t.close(by, device, reason, at)
	})
	return closed && err == nil, err
}

// close a device whose row is locked.
func (t *tx) close(by By, device Device, reason ca.Reason, at time.Time) error {
	name := device.Name
	if _, err := t.Exec(`UPDATE directory_device SET state = $1, closed_us = $2 WHERE name = $3`, "closed", at.UnixMicro(), name); err != nil {
		return err
	}
	valid, err := query(t.Context(), t, scanCertificate, `SELECT `+certificateColumns+`
		WHERE device_name = $1 AND revoked_us IS NULL AND not_after_us > $2 ORDER BY issued_us`+t.ForUpdate(), name, at.UnixMicro())
	if err != nil {
		return err
	}
	for _, c := range valid {
		if err := t.revoke(by, c, reason, reason.String(), at); err != nil {
			return err
		}
	}
	if err := t.tell(Event{At: at, Kind: Closed, Device: name, User: device.User, Groups: device.Groups, Reason: reason}); err != nil {
		return err
	}
	return t.audit(Entry{At: at, By: by, Action: ActClose, Device: name, Detail: reason.String()})
}
