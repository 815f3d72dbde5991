package fleet

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Kind of an entry.
type Kind string

// Kinds of entries.
const (
	// Enrolled: a device has its first certificate of a request. It may come from
	// now on, and is in quarantine if those that are new are.
	Enrolled Kind = "enrolled"
	// Renewed: a device has a further certificate. It may still come.
	Renewed Kind = "renewed"
	// Revoked: a certificate isn't good any more, of a device or of anything else.
	Revoked Kind = "revoked"
	// Closed: a device may not come any more.
	Closed Kind = "closed"
)

// Entry of a feed: what enrollment has done. What doesn't fit its kind isn't set.
type Entry struct {
	// Number rises from entry to entry by one.
	Number int64
	At     time.Time
	Kind   Kind
	Device string
	// Groups that enrollment put the device into; the first one counts.
	Groups []string
	// Issuer of a certificate that is revoked: SHA-256 of its
	// SubjectPublicKeyInfo; Serial big-endian without leading zeros.
	Issuer [sha256.Size]byte
	Serial string
	// Reason is the CRLReason (RFC 5280 section 5.3.1).
	Reason uint8
	// Until is the end of that certificate: nobody need be told of it after that.
	Until time.Time
	// Last: the device has no other certificate that is good, so it is closed, too.
	Last bool
}

// Feed of entries.
type Feed interface {
	// Entries with numbers above after, in order, at most limit.
	Entries(ctx context.Context, after int64, limit int) ([]Entry, error)
}

// outbox is the feed's name in gcm_cursor.
const outbox = "enrollment"

// feedBatch is how many entries one version of the devices has.
const feedBatch = 500

// Follow enrollment: take over what it has done since, with the place up to which
// that is, so that each entry counts once, whoever follows.
func (f *Fleet) Follow(ctx context.Context) error {
	for {
		after, err := f.Cursor(ctx)
		if err != nil {
			return err
		}
		entries, err := f.Feed.Entries(ctx, after, feedBatch)
		if err != nil || len(entries) == 0 {
			return err
		}
		if first := entries[0].Number; first != after+1 {
			// Unless another manager was faster.
			if now, err := f.Cursor(ctx); err != nil || now == after {
				return errors.Join(err, fmt.Errorf("%w: the first one after %d is %d", ErrGap, after, first))
			}
			continue
		}
		if err := f.take(ctx, after, entries); err != nil {
			return err
		}
	}
}

// Cursor up to which enrollment's outbox was followed: entries up to it are not
// read again.
func (f *Fleet) Cursor(ctx context.Context) (int64, error) { return cursor(ctx, f.db) }

func cursor(ctx context.Context, q database.Querier) (after int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COALESCE(MAX(number), 0) FROM gcm_cursor WHERE feed = $1`, outbox).Scan(&after)
	return after, err
}

// take entries that come behind a place, unless somebody else has.
func (f *Fleet) take(ctx context.Context, after int64, entries []Entry) error {
	return f.change(ctx, func(c *change) error {
		// The row of the devices is locked: managers take turns.
		if now, err := cursor(c.Context(), c); err != nil || now != after {
			return err
		}
		for len(entries) > 0 {
			n := run(entries)
			if err := c.entries(entries[:n]); err != nil {
				return err
			}
			after = entries[n-1].Number
			entries = entries[n:]
		}
		_, err := c.Exec(`INSERT INTO gcm_cursor (feed, number) VALUES ($1, $2)
			ON CONFLICT (feed) DO UPDATE SET number = excluded.number`, outbox, after)
		return err
	}, devices, registry)
}

// run is how many entries at the beginning are of one kind and of different
// devices: in which order they are done doesn't matter.
func run(entries []Entry) int {
	of := map[string]bool{}
	for n, e := range entries {
		if e.Kind != entries[0].Kind || e.Device != "" && of[e.Device] {
			return n
		}
		of[e.Device] = true
	}
	return len(entries)
}

func (c *change) entries(entries []Entry) error {
	switch entries[0].Kind {
	case Enrolled, Renewed:
		return c.authorise(entries)
	case Closed, Revoked:
		if err := c.revoke(entries); err != nil {
			return err
		}
		var names []string
		for _, e := range entries {
			if e.Kind == Closed || e.Last && e.Device != "" {
				names = append(names, e.Device)
			}
		}
		return c.close(names)
	}
	return nil // what else enrollment does is nothing to gateways
}

func (c *change) authorise(entries []Entry) error {
	var rows [][]any
	var names []string
	for _, e := range entries {
		group := c.f.DefaultGroup
		if len(e.Groups) > 0 {
			group = e.Groups[0]
		}
		a := gcm.Authorisation{Device: e.Device, Group: group}.Record()
		if _, err := gcm.Decode(gcm.Devices, a); err != nil {
			// It would keep all others from being told to gateways.
			c.f.Log.Error("a device can't be authorised", slog.String("device", e.Device), slog.Any("error", err))
			continue
		}
		rows = append(rows, []any{e.Device, group, flag(c.f.QuarantineNew), e.At.UnixMicro()})
		names = append(names, e.Device)
	}
	again := `DO NOTHING`
	if entries[0].Kind == Enrolled {
		again = `DO UPDATE SET group_name = excluded.group_name, held = excluded.held, enrolled_us = excluded.enrolled_us`
	}
	err := c.many(rows, func(values string) string {
		return `INSERT INTO gcm_device (name, group_name, held, enrolled_us, barred, value) ` + values + ` ON CONFLICT (name) ` + again
	}, `0, `+c.empty())
	if err != nil {
		return err
	}
	if err := c.assign(names...); err != nil {
		return err
	}
	return c.refresh(names...)
}

// empty octets in SQL.
func (c *change) empty() string {
	if c.Engine == database.Postgres {
		return `''::bytea`
	}
	return `x''`
}

// close devices: they are gone, and their addresses rest.
func (c *change) close(names []string) error {
	if len(names) == 0 {
		return nil
	}
	gone, err := database.Query(c.Context(), c, database.Scan[string],
		`DELETE FROM gcm_device WHERE `+c.Among("name", "TEXT", 1)+` RETURNING name`, database.Several(c.Engine, names))
	if err != nil {
		return err
	}
	for _, name := range gone {
		c.del(gcm.DeviceKey(name))
	}
	return c.free(gone...)
}

func (c *change) revoke(entries []Entry) error {
	for _, e := range entries {
		if e.Kind != Revoked {
			continue
		}
		r := gcm.Revocation{Issuer: e.Issuer, Serial: e.Serial, Reason: e.Reason, At: e.At}
		if _, err := gcm.Decode(gcm.Devices, r.Record()); err != nil {
			c.f.Log.Error("a revocation can't be told", slog.String("device", e.Device), slog.Any("error", err))
			continue
		}
		_, err := c.Exec(`INSERT INTO gcm_revocation (issuer, serial, reason, at_us, until_us) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (issuer, serial) DO UPDATE SET reason = excluded.reason, at_us = excluded.at_us, until_us = excluded.until_us`,
			e.Issuer[:], []byte(e.Serial), int64(e.Reason), e.At.UnixMicro(), database.Micros(e.Until))
		if err != nil {
			return err
		}
		c.put(r.Record())
		if e.Device != "" || e.Reason == superseded {
			continue
		}
		if err := c.revoked([]byte(e.Serial)); err != nil {
			return err
		}
	}
	return nil
}

// superseded is a reason to revoke a certificate in whose place there is another.
const superseded = 4

func scanRevocation(r database.Row) (v gcm.Revocation, err error) {
	var issuer, serial []byte
	var at database.Instant
	if err = r.Scan(&issuer, &serial, &v.Reason, &at); err != nil {
		return v, err
	}
	if len(issuer) != len(v.Issuer) {
		return v, fmt.Errorf("an issuer of %d octets", len(issuer))
	}
	v.Issuer, v.Serial, v.At = [sha256.Size]byte(issuer), string(serial), at.Time
	return v, nil
}

// keepRevocations as long as their certificates would be good; a day longer, for
// clocks that are wrong.
func (f *Fleet) keepRevocations(ctx context.Context) error {
	cutoff := f.Now().AddDate(0, 0, -1).UnixMicro()
	const due = ` FROM gcm_revocation WHERE until_us < $1`
	var any bool
	if err := f.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1`+due+`)`, cutoff).Scan(&any); err != nil || !any {
		return err
	}
	return f.change(ctx, func(c *change) error {
		old, err := database.Query(c.Context(), c, scanRevocation,
			fmt.Sprintf(`SELECT issuer, serial, reason, at_us%s ORDER BY until_us LIMIT %d`, due, maxChange/2), cutoff)
		if err != nil {
			return err
		}
		for _, r := range old {
			if _, err := c.Exec(`DELETE FROM gcm_revocation WHERE issuer = $1 AND serial = $2`, r.Issuer[:], []byte(r.Serial)); err != nil {
				return err
			}
			c.del(gcm.RevocationKey(r.Issuer, r.Serial))
		}
		return nil
	}, devices)
}
