package store

import (
	"context"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Kind of an event.
type Kind string

// Kinds of events.
const (
	// Closed: a device may not come any more.
	Closed Kind = "closed"
)

// Event that gateways, and others, must hear of. Numbers begin at 1, rise by
// one, and are in the order of the commits of what concerns one device.
type Event struct {
	Number int64
	At     time.Time
	Kind   Kind
	Device string
	// Reason: wiped, wipe expired, or what Close was told.
	Reason string
}

func (t *tx) tell(e Event) error {
	_, err := t.Exec(`INSERT INTO dm_outbox (at_us, kind, device_name, reason) VALUES ($1, $2, $3, $4)`,
		e.At.UnixMicro(), string(e.Kind), e.Device, e.Reason)
	return err
}

// outboxLock is taken by whoever numbers events: the key is arbitrary, and
// this package's alone.
const outboxLock = 0x726f616d0002

// Outbox is events with numbers above after, in order, at most limit (1 to
// 1,000).
func (d *SQL) Outbox(ctx context.Context, after int64, limit int) ([]Event, error) {
	var fresh bool
	if err := d.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM dm_outbox WHERE number IS NULL)`).Scan(&fresh); err != nil {
		return nil, unavailable(err)
	}
	if fresh {
		if err := d.write(ctx, (*tx).number); err != nil {
			return nil, err
		}
	}
	return query(ctx, d.db, scanEvent, `SELECT number, at_us, kind, device_name, reason
		FROM dm_outbox WHERE number > $1 ORDER BY number LIMIT $2`, after, database.Page(limit))
}

// number events when they are committed: a number that is drawn before may be
// seen after a higher one.
func (t *tx) number() error {
	if err := t.Lock(outboxLock); err != nil {
		return err
	}
	_, err := t.Exec(`UPDATE dm_outbox SET number = fresh.number FROM (
			SELECT id, (SELECT COALESCE(MAX(number), 0) FROM dm_outbox) + ROW_NUMBER() OVER (ORDER BY id) AS number
			FROM dm_outbox WHERE number IS NULL
		) AS fresh WHERE dm_outbox.id = fresh.id`)
	return err
}

func scanEvent(r database.Row) (e Event, err error) {
	var at database.Instant
	err = r.Scan(&e.Number, &at, &e.Kind, &e.Device, &e.Reason)
	e.At = at.Time
	return e, err
}

// TrimOutbox takes away events up to a number, which all who read have seen. The
// newest stays, so that numbers go on.
func (d *SQL) TrimOutbox(ctx context.Context, upTo int64) error {
	return d.write(ctx, func(t *tx) error {
		_, err := t.Exec(`DELETE FROM dm_outbox WHERE number <= $1
			AND number < (SELECT MAX(number) FROM dm_outbox)`, upTo)
		return err
	})
}
