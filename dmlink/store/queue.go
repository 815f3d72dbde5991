package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/gatewayd/database"
)

var _ session.Queue = (*SQL)(nil)

// maxNext bounds how many tasks one call of Next reads.
const maxNext = 1024

// commandID of a session.Task.ID; false if it is none of ours.
func commandID(s string) (int64, bool) {
	id, err := strconv.ParseInt(s, 10, 64)
	return id, err == nil
}

// Next implements session.Queue. What has expired doesn't wait any more, even
// before Expire says so.
func (d *SQL) Next(ctx context.Context, device string, except []string, n int) ([]session.Task, error) {
	text := `SELECT dm_command.id, dm_command.attempt, dm_task.semantics, dm_task.command, dm_task.query
		FROM dm_command JOIN dm_task ON dm_task.id = dm_command.task_id
		WHERE dm_command.device_name = $1 AND dm_command.state = 'waiting' AND dm_command.expires_us > $2`
	args := []any{device, d.now().UnixMicro()}
	var ids []int64
	for _, e := range except {
		if id, ok := commandID(e); ok {
			ids = append(ids, id)
		}
	}
	if len(ids) > 0 {
		text += ` AND NOT ` + d.db.Among("dm_command.id", "BIGINT", 3)
		args = append(args, database.Several(d.db.Engine, ids))
	}
	args = append(args, min(max(n, 0), maxNext))
	text += fmt.Sprintf(` ORDER BY dm_command.urgency, dm_command.id LIMIT $%d`, len(args))
	return query(ctx, d.db.Prepared(), func(r database.Row) (k session.Task, err error) {
		var id, semantics int64
		var command []byte
		var asks database.Text
		if err := r.Scan(&id, &k.Attempt, &semantics, &command, &asks); err != nil {
			return k, err
		}
		k.ID, k.Semantics = strconv.FormatInt(id, 10), session.Semantics(semantics)
		if k.Query, err = unmarshalQuery(string(asks)); err != nil {
			return k, err
		}
		k.Command, err = unmarshalCommand(command)
		return k, err
	}, text, args...)
}

// Claim implements session.Queue.
func (d *SQL) Claim(ctx context.Context, device string, claims []session.Claim) ([]bool, error) {
	attempts := make(map[int64]int, len(claims))
	for _, c := range claims {
		id, ok := commandID(c.Task)
		if _, twice := attempts[id]; ok && !twice {
			attempts[id] = c.Attempt
		}
	}
	// In one order, so that servers don't wait for each other in a circle.
	ids, counts := slices.Sorted(maps.Keys(attempts)), make([]int64, len(attempts))
	for i, id := range ids {
		counts[i] = int64(attempts[id])
	}
	won, err := d.claim(ctx, device, ids, counts)
	if err != nil {
		return nil, err
	}
	granted := make([]bool, len(claims))
	for i, c := range claims {
		if id, ok := commandID(c.Task); ok && won[id] && attempts[id] == c.Attempt {
			granted[i] = true
			delete(won, id) // the same task twice in one call is granted once
		}
	}
	return granted, nil
}

// claim commands that were claimed so often; on PostgreSQL in one round trip. One
// that is policies' tells who computes them that it was sent.
func (d *SQL) claim(ctx context.Context, device string, ids, counts []int64) (won map[int64]bool, err error) {
	v, args := d.db.Rows(3, database.Numbers("command", ids), database.Numbers("claims", counts))
	args = append([]any{d.now().UnixMicro(), device}, args...)
	text := `UPDATE dm_command SET attempt = attempt + 1, claimed_us = $1 FROM ` + v + `
		WHERE dm_command.id = v.command AND device_name = $2 AND state = 'waiting' AND attempt = v.claims AND expires_us > $1
		RETURNING id, COALESCE(serial, 0) AS serial`
	type grant struct{ id, serial int64 }
	scan := func(r database.Row) (g grant, err error) { return g, r.Scan(&g.id, &g.serial) }
	var granted []grant
	if d.db.Engine == database.Postgres {
		// Counted, so that all commands are locked before the mark.
		granted, err = database.AtOnce(ctx, d.db, scan, `WITH granted AS (`+text+`),
			bumped AS (UPDATE dm_policy_device SET mark = mark + 1 WHERE device_name = $2 AND (SELECT COUNT(*) FROM granted WHERE serial > 0) > 0)
			SELECT id, serial FROM granted`, args...)
		err = unavailable(err)
	} else {
		err = d.write(ctx, func(t *tx) (err error) {
			if granted, err = query(t.Context(), t, scan, text, args...); err != nil {
				return err
			}
			if slices.ContainsFunc(granted, func(g grant) bool { return g.serial > 0 }) {
				return t.bump(device)
			}
			return nil
		})
	}
	won = make(map[int64]bool, len(granted))
	for _, g := range granted {
		won[g.id] = true
	}
	return won, err
}
