package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/roamgate/roamgate/gatewayd/database"
)

// Seen writes when devices were last there, in one transaction. A time that is
// older than what is there changes nothing.
func (d *SQL) Seen(ctx context.Context, times map[string]time.Time) error {
	if len(times) == 0 {
		return nil
	}
	// In one order, so that servers don't wait for each other in a circle.
	names := slices.Sorted(maps.Keys(times))
	at := make([]int64, len(names))
	for i, n := range names {
		at[i] = times[n].UnixMicro()
	}
	return d.write(ctx, func(t *tx) error {
		if t.Engine == database.Postgres {
			if _, err := t.Exec(`SELECT name FROM dm_device WHERE name = ANY (CAST($1 AS TEXT[])) ORDER BY name FOR UPDATE`, names); err != nil {
				return err
			}
		}
		v, args := t.Rows(1, database.Texts("name", names), database.Numbers("at", at))
		_, err := t.Exec(`UPDATE dm_device SET seen_us = v.at FROM `+v+`
			WHERE dm_device.name = v.name AND COALESCE(seen_us, 0) < v.at`, args...)
		return err
	})
}
