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

var outbox = database.Outbox[Event]{
	Table: "dm_outbox", Columns: "number, at_us, kind, device_name, reason", Scan: scanEvent, Lock: 0x726f616d0002,
}

func scanEvent(r database.Row) (e Event, err error) {
	var at database.Instant
	err = r.Scan(&e.Number, &at, &e.Kind, &e.Device, &e.Reason)
	e.At = at.Time
	return e, err
}

// Outbox is events with numbers above after, in order, at most limit (1 to
// 1,000).
func (d *SQL) Outbox(ctx context.Context, after int64, limit int) ([]Event, error) {
	all, err := outbox.After(ctx, d.db, after, limit)
	return all, unavailable(err)
}

// TrimOutbox takes away events up to a number, which all who read have seen.
func (d *SQL) TrimOutbox(ctx context.Context, upTo int64) error {
	return unavailable(outbox.Trim(ctx, d.db, upTo))
}
