package directory

import (
	"context"
	"sync"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// news wakes those who read the outbox.
type news struct {
	mu   sync.Mutex
	next chan struct{}
}

// wait is closed by the next tell.
func (n *news) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next == nil {
		n.next = make(chan struct{})
	}
	return n.next
}

func (n *news) tell() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.next != nil {
		close(n.next)
		n.next = nil
	}
}

// News is closed by the next commit of this process that adds to the outbox. Who
// asks for it before reading misses nothing that is committed here; other
// processes' commits don't show.
func (d *SQL) News() <-chan struct{} { return d.news.wait() }

// tells is write for what may add to the outbox.
func (d *SQL) tells(ctx context.Context, work func(*tx) error) error {
	err := d.write(ctx, work)
	d.news.tell() // also after an error: the commit may have happened
	return err
}

func (t *tx) tell(e Event) error {
	until := int64(0)
	if !e.Until.IsZero() {
		until = e.Until.UnixMicro()
	}
	_, err := t.Exec(`INSERT INTO directory_outbox (at_us, kind, device, user_name, group_names, serial, reason, until_us)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		e.At.UnixMicro(), e.Kind, e.Device, e.User, list(e.Groups).text(), e.Serial, int64(e.Reason), until)
	return err
}

var outbox = database.Outbox[Event]{
	Table:   "directory_outbox",
	Columns: "number, at_us, kind, device, user_name, group_names, serial, reason, until_us",
	Scan:    scanEvent, Lock: 0x726f616d0001,
}

func scanEvent(r database.Row) (e Event, err error) {
	var at database.Instant
	var groups list
	var until int64
	err = r.Scan(&e.Number, &at, &e.Kind, &e.Device, &e.User, &groups, &e.Serial, &e.Reason, &until)
	e.At, e.Groups = at.Time, groups
	if until != 0 {
		var end database.Instant
		if err := end.Scan(until); err != nil {
			return e, err
		}
		e.Until = end.Time
	}
	return e, err
}

// Outbox is events with numbers above after, in order, at most max (1 to 1000).
func (d *SQL) Outbox(ctx context.Context, after int64, max int) ([]Event, error) {
	all, err := outbox.After(ctx, d.db, after, max)
	return all, unavailable(err)
}

// TrimOutbox takes away events up to a number, which all who read have seen.
func (d *SQL) TrimOutbox(ctx context.Context, upTo int64) error {
	return unavailable(outbox.Trim(ctx, d.db, upTo))
}
