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
			_, err := t.Exec(`UPDATE dm_device SET seen_us = v.at FROM unnest(CAST($1 AS TEXT[]), CAST($2 AS BIGINT[])) AS v (name, at)
				WHERE dm_device.name = v.name AND COALESCE(seen_us, 0) < v.at`, names, at)
			return err
		}
		for i, n := range names {
			if _, err := t.Exec(`UPDATE dm_device SET seen_us = $1 WHERE name = $2 AND COALESCE(seen_us, 0) < $3`, at[i], n, at[i]); err != nil {
				return err
			}
		}
		return nil
	})
}
