package directory

import (
	"context"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/enrollment/otp"
	"github.com/roamgate/roamgate/gatewayd/database"
)

const requestColumns = `r.id, r.device, r.user_name, u.email, r.group_names, r.state, r.secret, r.guesses,
	r.created_us, r.created_by, r.expires_us, r.closed_us, r.key_hash, r.serial
	FROM directory_request r JOIN directory_user u ON u.name = r.user_name`

func scanRequest(r database.Row) (Request, error) {
	var (
		q                        Request
		id                       string
		groups                   list
		created, expires, closed database.Instant
		serial                   database.Text
	)
	err := r.Scan(&id, &q.Device, &q.User, &q.Email, &groups, &q.State, &q.Secret, &q.Guesses,
		&created, &q.CreatedBy, &expires, &closed, &q.KeyHash, &serial)
	if err != nil {
		return q, err
	}
	q.Groups, q.Created, q.Expires, q.Closed, q.Serial = groups, created.Time, expires.Time, closed.Time, string(serial)
	q.ID, err = otp.ParseID(id)
	return q, err
}

// CreateRequest records an open request; its user is made or gets the e-mail
// address, its groups are made. Open requests for the same device are
// cancelled. At most openPerUser of one user may be open.
//
// ErrExists: the ID is taken; draw another. ErrOwner: the device is another
// user's.
func (d *SQL) CreateRequest(ctx context.Context, by By, q Request, openPerUser int) error {
	return d.write(ctx, func(t *tx) error {
		if err := t.lockName(q.Device); err != nil {
			return err
		}
		// An open request holds its device's name, too.
		owners, err := query(ctx, t, database.Scan[string], `SELECT user_name FROM directory_device WHERE name = $1
			UNION SELECT user_name FROM directory_request WHERE device = $2 AND state = $3 AND expires_us > $4`,
			q.Device, q.Device, Open, q.Created.UnixMicro())
		if err != nil {
			return err
		}
		for _, owner := range owners {
			if owner != q.User {
				return fmt.Errorf("device %q of %q: %w", q.Device, owner, ErrOwner)
			}
		}
		if err := t.putUser(q.User, q.Email, q.Created); err != nil {
			return err
		}
		if err := t.putGroups(q.Groups, q.Created); err != nil {
			return err
		}
		if err := t.cancelOpen(by, q); err != nil {
			return err
		}
		var open int
		if err := t.Row(`SELECT COUNT(*) FROM directory_request WHERE user_name = $1 AND state = $2 AND expires_us > $3`,
			q.User, Open, q.Created.UnixMicro()).Scan(&open); err != nil {
			return err
		}
		if open >= openPerUser {
			return fmt.Errorf("%d open requests of user %q: %w", open, q.User, ErrTooMany)
		}
		n, err := t.Exec(`INSERT INTO directory_request (id, device, user_name, group_names, state, secret, created_us, created_by, expires_us)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING`,
			q.ID.String(), q.Device, q.User, list(q.Groups).text(), Open, q.Secret, q.Created.UnixMicro(), q.CreatedBy, q.Expires.UnixMicro())
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("request %s: %w", q.ID, ErrExists)
		}
		return t.audit(Entry{At: q.Created, By: by, Action: ActRequest, Request: q.ID.String(), Device: q.Device,
			Detail: fmt.Sprintf("user %s, groups %v, until %s", q.User, q.Groups, q.Expires.UTC().Format(time.RFC3339))})
	})
}

// nameLock is this package's space of locks on devices' names.
const nameLock = 0x726f616d0002

// lockName keeps requests for one device apart, whose row isn't there yet.
func (t *tx) lockName(device string) error {
	if t.Engine != database.Postgres {
		return nil
	}
	_, err := t.Exec(`SELECT pg_advisory_xact_lock(hashtextextended($1, $2))`, device, int64(nameLock))
	return err
}

// putUser also keeps two requests of one user apart: its row is locked.
func (t *tx) putUser(name, email string, now time.Time) error {
	_, err := t.Exec(`INSERT INTO directory_user (name, email, created_us) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET email = CASE WHEN excluded.email = '' THEN directory_user.email ELSE excluded.email END`,
		name, email, now.UnixMicro())
	return err
}

func (t *tx) putGroups(groups []string, now time.Time) error {
	for _, group := range groups {
		if _, err := t.Exec(`INSERT INTO directory_group (name, created_us) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING`, group, now.UnixMicro()); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) cancelOpen(by By, q Request) error {
	ids, err := query(t.Context(), t, database.Scan[string], `UPDATE directory_request SET state = $1, secret = NULL, closed_us = $2
		WHERE device = $3 AND state = $4 RETURNING id`, Cancelled, q.Created.UnixMicro(), q.Device, Open)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := t.audit(Entry{At: q.Created, By: by, Action: ActCancel, Request: id, Device: q.Device, Detail: "replaced by " + q.ID.String()}); err != nil {
			return err
		}
	}
	return nil
}

// Request by its ID.
func (d *SQL) Request(ctx context.Context, id otp.ID) (Request, error) {
	q, err := scanRequest(d.db.QueryRowContext(ctx, `SELECT `+requestColumns+` WHERE r.id = $1`, id.String()))
	return q, found(err, "request", id.String())
}

// RequestsOf a user, by name or e-mail address, that have a secret: those that
// are open or were used, the newest first, at most max.
func (d *SQL) RequestsOf(ctx context.Context, user string, max int) ([]Request, error) {
	return query(ctx, d.db, scanRequest, `SELECT `+requestColumns+` WHERE (u.name = $1 OR u.email = $2) AND r.secret IS NOT NULL
		ORDER BY r.created_us DESC, r.id LIMIT $3`, user, user, max)
}

// HasOpenRequest of a user with that e-mail address.
func (d *SQL) HasOpenRequest(ctx context.Context, email string, now time.Time) (bool, error) {
	var yes bool
	err := d.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM directory_request r JOIN directory_user u ON u.name = r.user_name
		WHERE u.email = $1 AND r.state = $2 AND r.expires_us > $3)`, email, Open, now.UnixMicro()).Scan(&yes)
	return yes, unavailable(err)
}

// RequestFilter; its zero value means all.
type RequestFilter struct {
	State  State
	User   string
	Device string
	// After is the ID of the last one that was seen; Limit of how many, 1 to
	// 1000, 0 means 1000.
	After string
	Limit int
}

// Requests in the order of their IDs.
func (d *SQL) Requests(ctx context.Context, f RequestFilter) ([]Request, error) {
	var w database.Where
	w.Equal("r.state", string(f.State))
	w.Equal("r.user_name", f.User)
	w.Equal("r.device", f.Device)
	w.After("r.id", f.After)
	return query(ctx, d.db, scanRequest, `SELECT `+requestColumns+w.Text("r.id", f.Limit), w.Args...)
}

// Cancel an open request.
func (d *SQL) Cancel(ctx context.Context, by By, id otp.ID, now time.Time) error {
	return d.write(ctx, func(t *tx) error {
		return t.closeRequest(by, id, Cancelled, now, "")
	})
}

func (t *tx) closeRequest(by By, id otp.ID, to State, now time.Time, detail string) error {
	devices, err := query(t.Context(), t, database.Scan[string], `UPDATE directory_request SET state = $1, secret = NULL, closed_us = $2
		WHERE id = $3 AND state = $4 RETURNING device`, to, now.UnixMicro(), id.String(), Open)
	if err != nil {
		return err
	}
	if len(devices) == 0 {
		if err := t.Row(`SELECT device FROM directory_request WHERE id = $1`, id.String()).Scan(new(string)); err != nil {
			return found(err, "request", id.String())
		}
		return fmt.Errorf("request %s: %w", id, ErrNotOpen)
	}
	action := map[State]Action{Cancelled: ActCancel, Exhausted: ActExhaust}[to]
	return t.audit(Entry{At: now, By: by, Action: action, Request: id.String(), Device: devices[0], Detail: detail})
}

// Guessed adds wrong guesses to a request and closes it at limit.
func (d *SQL) Guessed(ctx context.Context, by By, id otp.ID, guesses, limit int64, now time.Time) error {
	return d.write(ctx, func(t *tx) error {
		var total int64
		err := t.Row(`UPDATE directory_request SET guesses = guesses + $1 WHERE id = $2 AND state = $3 RETURNING guesses`,
			guesses, id.String(), Open).Scan(&total)
		if err != nil {
			return found(err, "open request", id.String())
		}
		if total < limit {
			return nil
		}
		return t.closeRequest(by, id, Exhausted, now, fmt.Sprintf("%d wrong guesses", total))
	})
}

// Expire closes up to max open requests whose time is over and takes away
// secrets that nobody needs any more. It returns how many it found: max means
// that there may be more.
func (d *SQL) Expire(ctx context.Context, by By, now time.Time, max int) (int, error) {
	n := 0
	err := d.write(ctx, func(t *tx) error {
		due, err := query(t.Context(), t, func(r database.Row) (q Request, err error) {
			var id string
			if err = r.Scan(&id, &q.Device, &q.State); err == nil {
				q.ID, err = otp.ParseID(id)
			}
			return q, err
		}, `SELECT id, device, state FROM directory_request WHERE secret IS NOT NULL AND expires_us <= $1
			ORDER BY expires_us LIMIT $2`+t.ForUpdate(), now.UnixMicro(), max)
		if err != nil {
			return err
		}
		n = len(due)
		for _, q := range due {
			if _, err := t.Exec(`UPDATE directory_request SET secret = NULL WHERE id = $1`, q.ID.String()); err != nil {
				return err
			}
			if q.State != Open {
				continue
			}
			if _, err := t.Exec(`UPDATE directory_request SET state = $1, closed_us = $2 WHERE id = $3`, Expired, now.UnixMicro(), q.ID.String()); err != nil {
				return err
			}
			if err := t.audit(Entry{At: now, By: by, Action: ActExpire, Request: q.ID.String(), Device: q.Device}); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
