package directory

import (
	"context"
	"net/netip"

	"github.com/roamgate/roamgate/gatewayd/database"
)

func (t *tx) audit(e Entry) error {
	source := ""
	if e.By.Source.IsValid() {
		source = e.By.Source.String()
	}
	_, err := t.Exec(`INSERT INTO directory_audit (at_us, actor, source, action, request, device, serial, detail)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		e.At.UnixMicro(), e.By.Name, source, e.Action, e.Request, e.Device, e.Serial, e.Detail)
	return err
}

// AddAudit records what changed nothing else here, such as refusals.
func (d *SQL) AddAudit(ctx context.Context, entries ...Entry) error {
	return d.write(ctx, func(t *tx) error {
		for _, e := range entries {
			if err := t.audit(e); err != nil {
				return err
			}
		}
		return nil
	})
}

// Audit entries with IDs above after, at most limit (1 to 1000, 0 means 1000).
// Entries of one moment may become visible in another order than that of their
// IDs.
func (d *SQL) Audit(ctx context.Context, after int64, limit int) ([]Entry, error) {
	return query(ctx, d.db, func(r database.Row) (e Entry, err error) {
		var at database.Instant
		var source string
		err = r.Scan(&e.ID, &at, &e.By.Name, &source, &e.Action, &e.Request, &e.Device, &e.Serial, &e.Detail)
		if err == nil && source != "" {
			e.By.Source, err = netip.ParseAddr(source)
		}
		e.At = at.Time
		return e, err
	}, `SELECT id, at_us, actor, source, action, request, device, serial, detail FROM directory_audit
		WHERE id > $1 ORDER BY id LIMIT $2`, after, database.Page(limit))
}
