package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Record implements session.Queue. Whatever a device that is unknown here says
// is lost.
func (d *SQL) Record(ctx context.Context, device string, r session.Report) error {
	ended := outcomesOf(r)
	if d.db.Engine == database.Postgres && len(r.DevInfo) == 0 && r.InfoDigest == nil && len(r.Alerts) == 0 {
		if done, err := d.recordAtOnce(ctx, device, ended, r.At); err != nil || done {
			return err
		}
	}
	return d.write(ctx, func(t *tx) error {
		if err := t.outcomes(device, ended, r.At); err != nil {
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

// verdict is what an outcome makes of a command.
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

// outcomes by commands; of two for one command the first.
type outcomes map[int64]session.Outcome

func outcomesOf(r session.Report) outcomes {
	all := make(outcomes, len(r.Outcomes))
	for _, o := range r.Outcomes {
		id, ok := commandID(o.Task)
		if _, twice := all[id]; ok && !twice {
			all[id] = o
		}
	}
	return all
}

// ended is an UPDATE of commands without its RETURNING, with its parameters. It
// goes by their IDs, so that servers don't wait for each other in a circle.
func (all outcomes) ended(e database.Engine, device string, at time.Time) (text string, ids []int64, args []any) {
	ids = slices.Sorted(maps.Keys(all))
	states := make([]string, len(ids))
	codes, told := make([]int64, len(ids)), make([]int64, len(ids))
	for i, id := range ids {
		v := verdictOf(all[id])
		states[i], codes[i], told[i] = string(v.state), int64(v.code), flag(v.told())
	}
	v, args := e.Rows(3, database.Numbers("command", ids), database.Texts("becomes", states), database.Numbers("status", codes), database.Numbers("told", told))
	return `UPDATE dm_command SET state = v.becomes, code = v.status, ended_us = $1 FROM ` + v + `
		WHERE dm_command.id = v.command AND device_name = $2
		AND (state = 'waiting' OR v.told = 1 AND state IN ('unknown', 'expired', 'cancelled'))`, ids, append([]any{at.UnixMicro(), device}, args...)
}

// recordAtOnce does what outcomes does in one round trip to PostgreSQL, if all
// that there is to do is to end the commands, keep the answers, and mark a device
// whose policies they were of. It isn't if one ends the device or belongs to a
// survey: then nothing is done. Nor, perhaps, if one had an outcome before: then
// what outcomes would do is nothing.
func (d *SQL) recordAtOnce(ctx context.Context, device string, all outcomes, at time.Time) (done bool, err error) {
	update, ids, args := all.ended(d.db.Engine, device, at)
	var answered []int64
	var answers [][]byte
	for _, id := range ids {
		packed, err := packAnswer(all[id])
		if err != nil {
			return false, err
		}
		if packed != nil {
			answered, answers = append(answered, id), append(answers, packed)
		}
	}
	text := `WITH ended AS (` + update + ` AND (SELECT COUNT(*) FROM dm_command AS c WHERE c.device_name = $2 AND c.id = ANY (CAST($3 AS BIGINT[]))
			AND c.serial IS DISTINCT FROM 0 AND (SELECT closes FROM dm_task WHERE dm_task.id = c.task_id) = 0) = $7
			RETURNING dm_command.id, serial),
		marked AS (UPDATE dm_policy_device SET mark = mark + 1, marked_us = COALESCE(marked_us, $8)
			WHERE device_name = $2 AND (SELECT COUNT(*) FROM ended WHERE serial > 0) > 0)`
	args = append(args, int64(len(ids)), d.now().UnixMicro())
	if len(answered) > 0 {
		text += `, answered AS (INSERT INTO dm_answer (command_id, octets) SELECT v.command, v.octets
			FROM unnest(CAST($9 AS BIGINT[]), CAST($10 AS BYTEA[])) AS v (command, octets) JOIN ended ON ended.id = v.command
			ON CONFLICT (command_id) DO UPDATE SET octets = excluded.octets)`
		args = append(args, answered, answers)
	}
	ended, err := database.AtOnce(ctx, d.db, database.Scan[int64], text+` SELECT COUNT(*) FROM ended`, args...)
	if err != nil {
		return false, unavailable(err)
	}
	return ended[0] == int64(len(ids)), nil
}

// outcomes of commands of a device, and what follows from them.
func (t *tx) outcomes(device string, all outcomes, at time.Time) error {
	if len(all) == 0 {
		return nil
	}
	update, _, args := all.ended(t.Engine, device, at)
	type done struct {
		id, closes, serial int64
		detail             string
	}
	ended, err := query(t.Context(), t, func(r database.Row) (n done, err error) { return n, r.Scan(&n.id, &n.closes, &n.serial, &n.detail) },
		update+` RETURNING id, (SELECT closes FROM dm_task WHERE dm_task.id = dm_command.task_id), COALESCE(serial, -1),
		(SELECT detail FROM dm_task WHERE dm_task.id = dm_command.task_id)`, args...)
	if err != nil {
		return err
	}
	var survey []surveyed
	policies := false
	for _, n := range ended {
		o := all[n.id]
		if n.serial == surveySerial {
			survey = append(survey, surveyed{n.id, n.detail, o})
			continue
		}
		policies = policies || n.serial > 0
		if err := t.answer(n.id, o); err != nil {
			return err
		}
		v := verdictOf(o)
		c := Command{State: v.state, Code: v.code}
		if n.closes != 0 && c.Succeeded() && v.state != Accepted {
			if err := t.wiped(device, n.id); err != nil {
				return err
			}
		}
	}
	if policies {
		if err := t.mark(device); err != nil {
			return err
		}
	}
	if len(survey) > 0 {
		return t.survey(device, survey, at)
	}
	return nil
}
