package store

import (
	"context"
	"fmt"
	"strconv"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
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

// Claim implements session.Queue. Claims of one count share a statement: one for
// all, unless a session ended badly before.
func (d *SQL) Claim(ctx context.Context, device string, claims []session.Claim) ([]bool, error) {
	attempts := map[int64]int{}
	alike := map[int][]int64{}
	var all []int64
	for _, c := range claims {
		id, ok := commandID(c.Task)
		if _, twice := attempts[id]; !ok || twice {
			continue
		}
		attempts[id] = c.Attempt
		alike[c.Attempt] = append(alike[c.Attempt], id)
		all = append(all, id)
	}
	won := map[int64]bool{}
	type grant struct {
		id     int64
		policy bool
	}
	err := d.write(ctx, func(t *tx) error {
		clear(won)
		if err := t.lock(all); err != nil {
			return err
		}
		now, policies := d.now().UnixMicro(), false
		for attempt, ids := range alike {
			granted, err := query(t.Context(), t, func(r database.Row) (g grant, err error) { return g, r.Scan(&g.id, &g.policy) }, `UPDATE dm_command SET attempt = attempt + 1, claimed_us = $1
				WHERE device_name = $2 AND state = 'waiting' AND attempt = $3 AND expires_us > $4 AND `+t.Among("id", "BIGINT", 5)+` RETURNING id, COALESCE(serial, 0) > 0`,
				now, device, int64(attempt), now, database.Several(t.Engine, ids))
			if err != nil {
				return err
			}
			for _, g := range granted {
				won[g.id] = true
				policies = policies || g.policy
			}
		}
		if policies {
			return t.bump(device)
		}
		return nil
	})
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

// lock commands in one order, so that servers don't wait for each other in a
// circle. One row is an order.
func (t *tx) lock(ids []int64) error {
	if t.Engine != database.Postgres || len(ids) < 2 {
		return nil
	}
	_, err := t.Exec(`SELECT id FROM dm_command WHERE `+t.Among("id", "BIGINT", 1)+` ORDER BY id FOR UPDATE`, ids)
	return err
}

// Record implements session.Queue. Whatever a device that is unknown here says
// is lost.
func (d *SQL) Record(ctx context.Context, device string, r session.Report) error {
	return d.write(ctx, func(t *tx) error {
		if err := t.outcomes(device, r); err != nil {
			return err
		}
		if len(r.DevInfo) == 0 && r.InfoDigest == nil && len(r.Alerts) == 0 {
			return nil
		}
		known, err := query(t.Context(), t, database.Scan[string], `SELECT name FROM dm_device WHERE name = $1`+t.ForUpdate(), device)
		if err != nil || len(known) == 0 {
			return err
		}
		if err := t.info(device, r); err != nil {
			return err
		}
		for _, a := range r.Alerts {
			if err := t.alert(device, a, r.At.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	})
}

// verdict is what outcomes have in common that are written by one statement.
type verdict struct {
	state CommandState
	code  int
}

func verdictOf(o session.Outcome) verdict {
	switch o.State {
	case session.Confirmed:
		return verdict{Confirmed, o.Code}
	case session.Unknown:
		return verdict{Unknown, o.Code}
	case session.Undeliverable:
		return verdict{Undeliverable, o.Code}
	case session.Answered:
		if o.Code == syncml.StatusAccepted {
			return verdict{Accepted, o.Code}
		}
	}
	return verdict{Answered, o.Code}
}

// told by the device itself, not concluded by us.
func (v verdict) told() bool {
	return v.state == Answered || v.state == Accepted || v.state == Confirmed
}

func (t *tx) outcomes(device string, r session.Report) error {
	var order []verdict
	alike := map[verdict][]int64{}
	outcomes := map[int64]session.Outcome{}
	var all []int64
	for _, o := range r.Outcomes {
		id, ok := commandID(o.Task)
		if _, twice := outcomes[id]; !ok || twice {
			continue
		}
		v := verdictOf(o)
		if alike[v] == nil {
			order = append(order, v)
		}
		alike[v], outcomes[id] = append(alike[v], id), o
		all = append(all, id)
	}
	if err := t.lock(all); err != nil {
		return err
	}
	var survey []surveyed
	policies := false
	for _, v := range order {
		from := `state = 'waiting'`
		if v.told() {
			from = `state IN ('waiting', 'unknown', 'expired', 'cancelled')`
		}
		type done struct {
			id, closes, serial int64
			detail             string
		}
		ended, err := query(t.Context(), t, func(r database.Row) (n done, err error) { return n, r.Scan(&n.id, &n.closes, &n.serial, &n.detail) },
			`UPDATE dm_command SET state = $1, code = $2, ended_us = $3 WHERE device_name = $4 AND `+from+` AND `+t.Among("id", "BIGINT", 5)+`
			RETURNING id, (SELECT closes FROM dm_task WHERE dm_task.id = dm_command.task_id), COALESCE(serial, -1),
			(SELECT detail FROM dm_task WHERE dm_task.id = dm_command.task_id)`,
			string(v.state), int64(v.code), r.At.UnixMicro(), device, database.Several(t.Engine, alike[v]))
		if err != nil {
			return err
		}
		for _, n := range ended {
			o := outcomes[n.id]
			if n.serial == surveySerial {
				survey = append(survey, surveyed{n.id, n.detail, o})
				continue
			}
			policies = policies || n.serial > 0
			if err := t.answer(n.id, Answer{Parts: o.Parts, Results: o.Results}); err != nil {
				return err
			}
			c := Command{State: v.state, Code: v.code}
			if n.closes != 0 && c.Succeeded() && v.state != Accepted {
				if err := t.wiped(device, n.id); err != nil {
					return err
				}
			}
		}
	}
	if policies {
		if err := t.mark(device); err != nil {
			return err
		}
	}
	if len(survey) > 0 {
		return t.survey(device, survey, r.At)
	}
	return nil
}
