package fleet

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// devices is the section's name.
const devices = string(gcm.Devices)

// Device as it is authorised.
type Device struct {
	Name string `json:"name"`
	// Group that it is in. While it is Held gateways are told Options.Quarantine
	// instead.
	Group     string       `json:"group"`
	Held      bool         `json:"held"`
	Barred    bool         `json:"barred"`
	Enrolled  time.Time    `json:"enrolled"`
	Addresses []netip.Addr `json:"addresses"`
}

// Device by its name. Error: ErrNotFound.
func (f *Fleet) Device(ctx context.Context, name string) (Device, error) {
	d := Device{Name: name}
	var enrolled database.Instant
	var value []byte
	err := f.db.QueryRowContext(ctx, `SELECT group_name, held, barred, enrolled_us, value FROM gcm_device WHERE name = $1`, name).
		Scan(&d.Group, &d.Held, &d.Barred, &enrolled, &value)
	if err != nil {
		return Device{}, found(err, "device", name)
	}
	d.Enrolled = enrolled.Time
	r, err := gcm.Decode(gcm.Devices, gcm.Record{Key: gcm.DeviceKey(name), Value: value})
	if a, ok := r.(gcm.Authorisation); ok {
		d.Addresses = a.Addresses
	}
	return d, err
}

// SetCompliant releases a device from quarantine, or puts it there, at all
// gateways. Error: ErrNotFound.
func (f *Fleet) SetCompliant(ctx context.Context, device string, compliant bool) error {
	return f.set(ctx, device, `UPDATE gcm_device SET held = $1 WHERE name = $2`, flag(!compliant), device)
}

// Judge devices: those that comply are released from quarantine, those that fail
// are put there, all at once. Devices that aren't authorised, and those of which
// it is known, are left out; if that is all of them, nothing is written.
func (f *Fleet) Judge(ctx context.Context, complying, failing []string) error {
	for _, judged := range []struct {
		names []string
		held  int64
	}{{complying, 0}, {failing, 1}} {
		for names := range slices.Chunk(judged.names, maxJudged) {
			if err := f.judge(ctx, names, judged.held); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxJudged of one transaction.
const maxJudged = 1000

func (f *Fleet) judge(ctx context.Context, names []string, held int64) error {
	const others = ` gcm_device WHERE held <> $1 AND `
	among, all := f.db.Among("name", "TEXT", 2), database.Several(f.db.Engine, names)
	var any bool
	if err := f.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM`+others+among+`)`, held, all).Scan(&any); err != nil || !any {
		return err
	}
	return f.change(ctx, func(c *change) error {
		changed, err := database.Query(c.Context(), c, database.Scan[string],
			`UPDATE gcm_device SET held = $1 WHERE held <> $2 AND `+c.Among("name", "TEXT", 3)+` RETURNING name`, held, held, all)
		if err != nil || len(changed) == 0 {
			return err
		}
		return c.refresh(changed...)
	}, devices)
}

// SetGroup of a device. It stays until the device is enrolled anew. Error:
// ErrNotFound.
func (f *Fleet) SetGroup(ctx context.Context, device, group string) error {
	if _, err := gcm.Decode(gcm.Devices, gcm.Authorisation{Device: device, Group: group}.Record()); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return f.set(ctx, device, `UPDATE gcm_device SET group_name = $1 WHERE name = $2`, group, device)
}

// SetBarred keeps a device out, or lets it in again. It stays authorised, with
// its addresses. Error: ErrNotFound.
func (f *Fleet) SetBarred(ctx context.Context, device string, barred bool) error {
	return f.set(ctx, device, `UPDATE gcm_device SET barred = $1 WHERE name = $2`, flag(barred), device)
}

func (f *Fleet) set(ctx context.Context, device, text string, args ...any) error {
	return f.change(ctx, func(c *change) error {
		n, err := c.Exec(text, args...)
		if err == nil && n == 0 {
			err = fmt.Errorf("device %q: %w", device, ErrNotFound)
		}
		if err != nil {
			return err
		}
		return c.refresh(device)
	}, devices)
}

// refresh the records of devices that may have changed.
func (c *change) refresh(names ...string) error {
	type device struct {
		gcm.Authorisation
		held  bool
		value []byte
	}
	rows, err := database.Query(c.Context(), c, func(r database.Row) (d device, err error) {
		return d, r.Scan(&d.Device, &d.Group, &d.held, &d.Barred, &d.value)
	}, `SELECT name, group_name, held, barred, value FROM gcm_device WHERE `+c.Among("name", "TEXT", 1), database.Several(c.Engine, names))
	if err != nil {
		return err
	}
	type assigned struct {
		device  string
		address netip.Addr
	}
	addresses, err := database.Query(c.Context(), c, func(r database.Row) (a assigned, err error) {
		var octets []byte
		if err = r.Scan(&a.device, &octets); err == nil {
			a.address, err = address(octets)
		}
		return a, err
	}, `SELECT device, address FROM gcm_address WHERE freed_us IS NULL AND `+c.Among("device", "TEXT", 1)+` ORDER BY device, family`,
		database.Several(c.Engine, names))
	if err != nil {
		return err
	}
	of := map[string][]netip.Addr{}
	for _, a := range addresses {
		of[a.device] = append(of[a.device], a.address)
	}
	var changed [][]any
	for _, d := range rows {
		d.Addresses = of[d.Device]
		if d.held {
			d.Group = c.f.Quarantine
		}
		r := d.Record()
		if string(r.Value) == string(d.value) {
			continue
		}
		if _, err := gcm.Decode(gcm.Devices, r); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		c.put(r)
		changed = append(changed, []any{d.Device, r.Value})
	}
	return c.many(changed, func(values string) string {
		return `INSERT INTO gcm_device (name, value, group_name, held, barred, enrolled_us) ` + values + `
			ON CONFLICT (name) DO UPDATE SET value = excluded.value`
	}, `'', 0, 0, 0`)
}

// many rows by few statements, whose texts are few, too. text makes one around
// the values; rest are columns that all rows have, as SQL.
func (c *change) many(rows [][]any, text func(values string) string, rest string) error {
	for len(rows) > 0 {
		n := 256
		for n > len(rows) {
			n /= 4
		}
		var b strings.Builder
		var args []any
		for i, row := range rows[:n] {
			b.WriteString([]string{", (", "VALUES ("}[flag(i == 0)])
			for j, v := range row {
				if j > 0 {
					b.WriteString(", ")
				}
				args = append(args, v)
				fmt.Fprintf(&b, "$%d", len(args))
			}
			if rest != "" {
				b.WriteString(", " + rest)
			}
			b.WriteByte(')')
		}
		if _, err := c.Exec(text(b.String()), args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// found turns the absence of a row into ErrNotFound.
func found(err error, what, name string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("%s %q: %w", what, name, ErrNotFound)
	}
	return err
}

// known: devices that are authorised, and those of which somebody has told that
// they are connected: their end is to be believed after they were closed.
func (f *Fleet) known(device string) bool {
	if f.AdmitUnknown || f.documents.Has(gcm.Devices, gcm.DeviceKey(device)) {
		return true
	}
	ctx, cancel := context.WithTimeout(context.Background(), knownTime)
	defer cancel()
	var there bool
	err := f.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM gcm_session WHERE device = $1)`, device).Scan(&there)
	return err == nil && there
}

// knownTime bounds how long a gateway's event may wait for the database.
const knownTime = 5 * time.Second
