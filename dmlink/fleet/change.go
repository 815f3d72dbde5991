package fleet

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// registry is the row of gcm_section for the list of gateways.
const registry = "gateways"

const (
	// keptChanges of the devices, for managers that were away for a moment.
	keptChanges = 8192
	// maxChange is how many records a change has that is kept.
	maxChange = 20_000
)

// change is a transaction in which sections get their next version.
type change struct {
	*database.Tx
	f      *Fleet
	now    time.Time
	before map[string]position
	// put and del are what becomes of the devices, by key; del has nil values.
	records map[string][]byte
	// touched are the other sections that change.
	touched map[string]bool
}

// change sections, whose rows it locks, in one transaction; then read what was
// committed. A section that work didn't touch keeps its version.
func (f *Fleet) change(ctx context.Context, work func(*change) error, sections ...string) error {
	slices.Sort(sections) // everybody locks in the same order
	err := f.db.Write(ctx, func(t *database.Tx) error {
		c, err := f.begin(t, sections)
		if err != nil {
			return err
		}
		if err := work(c); err != nil {
			return err
		}
		return c.draw(sections)
	})
	if err != nil {
		return err
	}
	f.committed(ctx)
	return nil
}

// begin a change of sections, whose rows are locked from here on.
func (f *Fleet) begin(t *database.Tx, sections []string) (*change, error) {
	c := &change{Tx: t, f: f, now: f.Now(), before: map[string]position{}, records: map[string][]byte{}, touched: map[string]bool{}}
	for _, section := range sections {
		var p position
		err := t.Row(`SELECT epoch, number, mark FROM gcm_section WHERE name = $1`+t.ForUpdate(), section).Scan(&p.Epoch, &p.Number, &p.mark)
		if err != nil {
			return nil, err
		}
		c.before[section] = p
	}
	return c, nil
}

// committed: this manager doesn't wait for the clock to read it. What goes wrong
// with that is no error of the commit, and Run tries again.
func (f *Fleet) committed(ctx context.Context) {
	if err := f.follow(context.WithoutCancel(ctx)); err != nil {
		f.Log.Warn("manager couldn't read what was committed", slog.Any("error", err))
	}
}

// touch a section: its content is another one.
func (c *change) touch(section string) { c.touched[section] = true }

// put a record of the devices.
func (c *change) put(r gcm.Record) { c.records[string(r.Key)] = append([]byte{}, r.Value...) }

// del a record of the devices.
func (c *change) del(key []byte) { c.records[string(key)] = nil }

// draw the next version of what changed.
func (c *change) draw(sections []string) error {
	if len(c.records) > 0 {
		c.touch(string(gcm.Devices))
	}
	for _, section := range sections {
		if !c.touched[section] {
			continue
		}
		before := c.before[section]
		after := position{gcm.Version{Epoch: before.Epoch, Number: before.Number + 1}, rand.Int64()}
		if _, err := c.Exec(`UPDATE gcm_section SET number = $1, mark = $2 WHERE name = $3`, int64(after.Number), after.mark, section); err != nil {
			return err
		}
		if section != string(gcm.Devices) {
			continue
		}
		body, err := c.body(after.Version)
		if err != nil {
			return err
		}
		if _, err := c.Exec(`INSERT INTO gcm_change (epoch, number, before, mark, body) VALUES ($1, $2, $3, $4, $5)`,
			int64(after.Epoch), int64(after.Number), before.mark, after.mark, body); err != nil {
			return err
		}
		if _, err := c.Exec(`DELETE FROM gcm_change WHERE epoch = $1 AND number <= $2`,
			int64(after.Epoch), int64(after.Number)-keptChanges); err != nil {
			return err
		}
	}
	return nil
}

// body of a change as it is kept: a delta whose hashes nobody knows here.
func (c *change) body(v gcm.Version) (any, error) {
	if len(c.records) == 0 || len(c.records) > maxChange {
		return nil, nil
	}
	d := gcm.Delta{Section: gcm.Devices, Version: v}
	for key, value := range c.records {
		if value == nil {
			d.Delete = append(d.Delete, []byte(key))
		} else {
			d.Put = append(d.Put, gcm.Record{Key: []byte(key), Value: value})
		}
	}
	slices.SortFunc(d.Put, func(a, b gcm.Record) int { return bytes.Compare(a.Key, b.Key) })
	slices.SortFunc(d.Delete, bytes.Compare)
	var b bytes.Buffer
	err := gcm.WriteDelta(&b, d)
	return b.Bytes(), err
}

// BumpEpoch begins a new epoch, after the database was restored from a backup:
// gateways that have newer versions of the former one take what is here from now
// on. It returns the epoch.
func (f *Fleet) BumpEpoch(ctx context.Context) (uint64, error) {
	var epoch uint64
	err := f.db.Write(ctx, func(t *database.Tx) error {
		if _, err := t.Exec(`DELETE FROM gcm_change`); err != nil {
			return err
		}
		rows, err := database.Query(t.Context(), t, func(r database.Row) (p namedPosition, err error) {
			return p, r.Scan(&p.name, &p.Epoch, &p.Number)
		}, `SELECT name, epoch, number FROM gcm_section ORDER BY name`+t.ForUpdate())
		if err != nil {
			return err
		}
		epoch = 0
		for _, r := range rows {
			epoch = max(epoch, r.Epoch+1)
		}
		epoch = f.beyond(epoch)
		for _, r := range rows {
			if _, err := t.Exec(`UPDATE gcm_section SET epoch = $1, number = number + 1, mark = $2 WHERE name = $3`,
				int64(epoch), rand.Int64(), r.name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("begin a new epoch: %w", err)
	}
	f.committed(ctx)
	return epoch, nil
}

// maxAdopted is how far an epoch goes for what gateways say that they have: one
// that lies gets no epoch that others wouldn't take, even those that missed some.
const maxAdopted = gcm.MaxEpochStep / 16

// beyond what gateways have that are connected, if that is within reach: somebody
// else may have pushed to them.
func (f *Fleet) beyond(epoch uint64) uint64 {
	next := epoch
	for _, s := range f.push.Status() {
		for _, has := range s.State.Sections {
			if e := has.Version.Epoch; e >= next && e-epoch < maxAdopted {
				next = e + 1
			}
		}
	}
	return next
}

type namedPosition struct {
	name string
	position
}
