package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// Device implements policy.Store.
func (p *Policies) Device(ctx context.Context, id string) (policy.Marked, error) {
	var all []policy.Marked
	err := p.d.db.Read(ctx, func(r *database.Tx) (err error) {
		t := &tx{r, p.d}
		marks, err := query(ctx, t, scanMark, `SELECT `+markColumns+` WHERE device_name = $1`, id)
		if err != nil {
			return err
		}
		all, err = t.marked(marks, policy.Everything)
		return err
	})
	switch {
	case err != nil:
		return policy.Marked{}, unavailable(err)
	case len(all) == 0:
		return policy.Marked{}, fmt.Errorf("device %q: %w", id, policy.ErrNoDevice)
	}
	return all[0], nil
}

// Marked implements policy.Store.
func (p *Policies) Marked(ctx context.Context, now time.Time, n int) (all []policy.Marked, err error) {
	// Mostly there is nothing, and that is one look.
	var some bool
	// At an end of each index: of EXISTS PostgreSQL believes that any row may be the
	// one, and reads the table.
	err = p.d.db.Prepared().QueryRowContext(ctx, `SELECT (SELECT MIN(marked_us) FROM dm_policy_device WHERE marked_us IS NOT NULL) IS NOT NULL
		OR COALESCE((SELECT MIN(due_us) FROM dm_policy_device WHERE due_us IS NOT NULL) <= $1, FALSE)`, now.UnixMicro()).Scan(&some)
	if err != nil || !some {
		return nil, unavailable(err)
	}
	err = p.d.db.Read(ctx, func(r *database.Tx) error {
		t := &tx{r, p.d}
		marks, err := query(ctx, t, scanMark, `SELECT `+markColumns+` WHERE marked_us IS NOT NULL ORDER BY marked_us, device_name LIMIT $1`, n)
		if err != nil {
			return err
		}
		if len(marks) < n {
			due, err := query(ctx, t, scanMark, `SELECT `+markColumns+` WHERE due_us <= $1 AND marked_us IS NULL
				ORDER BY due_us LIMIT $2`, now.UnixMicro(), n-len(marks))
			if err != nil {
				return err
			}
			marks = append(marks, due...)
		}
		var reading policy.Reading
		if reading.URIs, err = query(ctx, t, database.Scan[string], `SELECT uri FROM dm_policy_read`); err != nil {
			return err
		}
		reading.All = slices.Contains(reading.URIs, anyNode)
		all, err = t.marked(marks, reading)
		return err
	})
	return all, unavailable(err)
}

type mark struct {
	device      string
	mark, doubt int64
}

const markColumns = `device_name, mark, doubt FROM dm_policy_device`

func scanMark(r database.Row) (m mark, err error) { return m, r.Scan(&m.device, &m.mark, &m.doubt) }

// marked devices as policies need them, in the order of marks: a few statements
// for all of them.
func (t *tx) marked(marks []mark, r policy.Reading) ([]policy.Marked, error) {
	if len(marks) == 0 {
		return nil, nil
	}
	out, at := make([]policy.Marked, len(marks)), map[string]*policy.Marked{}
	names, doubt := make([]string, len(marks)), map[string]bool{}
	for i, m := range marks {
		names[i], at[m.device], doubt[m.device] = m.device, &out[i], m.doubt != 0
		out[i].Mark = m.mark
	}
	facts, err := t.facts(names, r)
	if err != nil {
		return nil, err
	}
	for name, f := range facts {
		at[name].Facts = *f
	}
	several := database.Several(t.Engine, names)
	type stored struct{ device, state string }
	states, err := query(t.Context(), t, func(r database.Row) (s stored, err error) { return s, r.Scan(&s.device, &s.state) },
		`SELECT device_name, state FROM dm_policy_state WHERE `+t.Among("device_name", "TEXT", 1), several)
	if err != nil {
		return nil, err
	}
	for _, s := range states {
		to := &at[s.device].State
		if err := json.Unmarshal([]byte(s.state), to); err != nil {
			return nil, fmt.Errorf("stored state of %q: %w", s.device, err)
		}
		if doubt[s.device] {
			*to = to.Doubted()
		}
	}
	commands, err := query(t.Context(), t, func(r database.Row) (c policyCommand, err error) {
		var ended database.Instant
		err = r.Scan(&c.device, &c.serial, &c.state, &c.attempt, &c.code, &ended, &c.answer)
		c.ended = ended.Time
		return c, err
	}, `SELECT device_name, serial, state, attempt, code, ended_us, (SELECT octets FROM dm_answer WHERE command_id = dm_command.id)
		FROM dm_command WHERE `+t.Among("device_name", "TEXT", 1)+` AND serial > 0 ORDER BY ended_us, id`, several)
	if err != nil {
		return nil, err
	}
	for _, c := range commands {
		if err := c.tell(at[c.device]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// policyCommand is what became of a command of policies.
type policyCommand struct {
	device        string
	serial        int64
	state         CommandState
	attempt, code int
	ended         time.Time
	answer        []byte
}

// serialID is the name that policies have for a command of a device.
func serialID(serial int64) string { return "p" + strconv.FormatInt(serial, 10) }

func serialOf(id string) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimPrefix(id, "p"), 10, 64)
	if err != nil || n < 1 || serialID(n) != id {
		return 0, fmt.Errorf("%w: command of a policy named %.50q", ErrInvalid, id)
	}
	return n, nil
}

func (c *policyCommand) tell(m *policy.Marked) error {
	id := serialID(c.serial)
	if c.state == Waiting {
		if c.attempt > 0 {
			m.Claimed = append(m.Claimed, id)
		}
		return nil
	}
	o := session.Outcome{Task: id, State: session.Answered, Code: c.code}
	switch c.state {
	case Confirmed:
		o.State = session.Confirmed
	case Unknown:
		o.State = session.Unknown
	case Undeliverable:
		o.State = session.Undeliverable
	default:
	}
	if c.answer != nil {
		var a Answer
		if err := unpack(c.answer, &a); err != nil {
			return err
		}
		o.Parts, o.Results = a.Parts, a.Results
	}
	m.Outcomes, m.At = append(m.Outcomes, o), c.ended
	return nil
}

// facts of devices by name.
func (t *tx) facts(names []string, reading policy.Reading) (map[string]*policy.Facts, error) {
	all := make(map[string]*policy.Facts, len(names))
	for _, name := range names {
		all[name] = &policy.Facts{ID: name}
	}
	several := database.Several(t.Engine, names)
	_, err := query(t.Context(), t, func(r database.Row) (_ struct{}, err error) {
		var name, unit string
		var user database.Text
		if err = r.Scan(&name, &user, &unit); err == nil {
			all[name].User, all[name].Unit = string(user), unit
		}
		return struct{}{}, err
	}, `SELECT name, user_name, unit FROM dm_device WHERE `+t.Among("name", "TEXT", 1), several)
	if err != nil {
		return nil, err
	}
	_, err = query(t.Context(), t, func(r database.Row) (_ struct{}, err error) {
		var name, group string
		if err = r.Scan(&name, &group); err == nil {
			all[name].Groups = append(all[name].Groups, group)
		}
		return struct{}{}, err
	}, `SELECT device_name, group_name FROM dm_member WHERE `+t.Among("device_name", "TEXT", 1)+` ORDER BY group_name`, several)
	if err != nil || reading.Empty() {
		return all, err
	}
	known, err := query(t.Context(), t, database.Scan[string], `SELECT device_name FROM dm_survey
		WHERE `+t.Among("device_name", "TEXT", 1)+` AND survey IS NULL AND due_us > $2`, several, t.d.now().UnixMicro())
	if err != nil {
		return all, err
	}
	for _, name := range known {
		all[name].Surveyed = true
	}
	wanted := newWanted(reading)
	_, err = query(t.Context(), t, func(r database.Row) (_ struct{}, err error) {
		var name string
		var packed []byte
		if err = r.Scan(&name, &packed); err != nil {
			return struct{}{}, err
		}
		all[name].Inventory, all[name].Software, err = wanted.facts(packed)
		return struct{}{}, err
	}, `SELECT device_name, facts FROM dm_inventory WHERE `+t.Among("device_name", "TEXT", 1), several)
	return all, err
}

// Put implements policy.Store. However many devices there are, it is a handful of
// statements, and a content that they share is stored once.
func (p *Policies) Put(ctx context.Context, all []policy.Computed) (put []bool, err error) {
	w, err := newPutting(all)
	if err != nil || len(all) == 0 {
		return make([]bool, len(all)), err
	}
	if err := p.d.write(ctx, func(t *tx) error { return t.put(w) }); err != nil {
		return nil, err
	}
	put = make([]bool, len(all))
	for i, c := range all {
		put[i] = w.put[c.Facts.ID]
	}
	return put, nil
}

// putting is a Put, by device; names are in order.
type putting struct {
	names    []string
	computed map[string]*computed
	put      map[string]bool
}

type computed struct {
	mark   int64
	due    int64 // 0 for never
	state  string
	wanted []wanted
	place  map[int64]int // of a serial in wanted
}

type wanted struct {
	serial  int64
	content string
	command []byte
}

func newPutting(all []policy.Computed) (*putting, error) {
	w := &putting{computed: make(map[string]*computed, len(all))}
	contents := map[string][]byte{} // so that equal ones share memory
	for _, one := range all {
		state, err := json.Marshal(one.Next)
		if err != nil {
			return nil, err
		}
		c := &computed{mark: one.Mark, state: string(state), place: make(map[int64]int, len(one.Next.Commands))}
		if !one.Next.Due.IsZero() {
			c.due = one.Next.Due.UnixMicro()
		}
		for i, command := range one.Next.Commands {
			serial, err := serialOf(command.ID)
			if err != nil {
				return nil, err
			}
			text, err := marshalCommand(command.Task().Command)
			if err != nil {
				return nil, err
			}
			id := standingID(policyKind, text)
			if contents[id] == nil {
				contents[id] = text
			}
			c.wanted = append(c.wanted, wanted{serial, id, contents[id]})
			c.place[serial] = i
		}
		w.computed[one.Facts.ID] = c
	}
	w.names = slices.Sorted(maps.Keys(w.computed))
	return w, nil
}

// policyUrgency: what people want goes first; policies in their order.
const policyUrgency = 1000

func (t *tx) put(w *putting) error {
	w.put = make(map[string]bool, len(w.names))
	// Commands are locked before marks, as sessions do.
	type existing struct {
		id, serial, urgency int64
		device, task        string
		state               CommandState
	}
	there, err := query(t.Context(), t, func(r database.Row) (e existing, err error) {
		return e, r.Scan(&e.id, &e.serial, &e.urgency, &e.device, &e.task, &e.state)
	}, `SELECT id, serial, urgency, device_name, task_id, state FROM dm_command WHERE `+t.Among("device_name", "TEXT", 1)+` AND serial > 0
		ORDER BY id`+t.ForUpdate(), database.Several(t.Engine, w.names))
	if err != nil {
		return err
	}
	var marks, dues []int64
	for _, name := range w.names {
		marks, dues = append(marks, w.computed[name].mark), append(dues, w.computed[name].due)
	}
	v, args := t.Rows(1, database.Texts("name", w.names), database.Numbers("mark", marks), database.Numbers("due", dues))
	put, err := query(t.Context(), t, database.Scan[string], `UPDATE dm_policy_device
		SET mark = dm_policy_device.mark + 1, marked_us = NULL, due_us = NULLIF(v.due, 0), doubt = 0 FROM `+v+`
		WHERE dm_policy_device.device_name = v.name AND dm_policy_device.mark = v.mark RETURNING device_name`, args...)
	if err != nil || len(put) == 0 {
		return err
	}
	slices.Sort(put)
	for _, name := range put {
		w.put[name] = true
	}
	var gone, moved, places []int64
	var contents []string
	kept := map[string]map[int64]bool{}
	for _, e := range there {
		if !w.put[e.device] {
			continue
		}
		i, ok := w.computed[e.device].place[e.serial]
		if !ok || e.state != Waiting {
			gone, contents = append(gone, e.id), append(contents, e.task)
			continue
		}
		if kept[e.device] == nil {
			kept[e.device] = map[int64]bool{}
		}
		kept[e.device][e.serial] = true
		if place := int64(policyUrgency + i); place != e.urgency {
			moved, places = append(moved, e.id), append(places, place)
		}
	}
	if err := t.forget(gone); err != nil {
		return err
	}
	if len(moved) > 0 {
		v, args := t.Rows(1, database.Numbers("id", moved), database.Numbers("place", places))
		if _, err := t.Exec(`UPDATE dm_command SET urgency = v.place FROM `+v+` WHERE dm_command.id = v.id`, args...); err != nil {
			return err
		}
	}
	if err := t.add(w, put, kept); err != nil {
		return err
	}
	return t.forgetContents(contents)
}

// forget commands.
func (t *tx) forget(ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	if _, err := t.Exec(`DELETE FROM dm_answer WHERE `+t.Among("command_id", "BIGINT", 1), database.Several(t.Engine, ids)); err != nil {
		return err
	}
	_, err := t.Exec(`DELETE FROM dm_command WHERE `+t.Among("id", "BIGINT", 1), database.Several(t.Engine, ids))
	return err
}

// forgetContents of which no device has a command. Two transactions that take
// away the last two commands leave one, until it is used and given up again.
func (t *tx) forgetContents(ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	_, err := t.Exec(`DELETE FROM dm_task WHERE `+t.Among("id", "TEXT", 1)+`
		AND NOT EXISTS (SELECT 1 FROM dm_command WHERE dm_command.task_id = dm_task.id)`, database.Several(t.Engine, slices.Compact(ids)))
	return err
}

// add commands that don't wait yet, and the states.
func (t *tx) add(w *putting, put []string, kept map[string]map[int64]bool) error {
	var states, tasks, devices []string
	var places, serials []int64
	stored, now := map[string]bool{}, t.d.now()
	for _, name := range put {
		c := w.computed[name]
		states = append(states, c.state)
		for i, one := range c.wanted {
			if kept[name][one.serial] {
				continue
			}
			if !stored[one.content] {
				stored[one.content] = true
				if _, err := t.standingTask(policyKind, "", one.command, now); err != nil {
					return err
				}
			}
			tasks, devices = append(tasks, one.content), append(devices, name)
			places, serials = append(places, int64(policyUrgency+i)), append(serials, one.serial)
		}
	}
	if err := t.addStanding(tasks, devices, serials, places); err != nil {
		return err
	}
	v, args := t.Rows(1, database.Texts("name", put), database.Texts("state", states))
	_, err := t.Exec(`INSERT INTO dm_policy_state (device_name, state) SELECT v.name, v.state FROM `+v+` WHERE true
		ON CONFLICT (device_name) DO UPDATE SET state = excluded.state`, args...)
	return err
}
