package policytest

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
)

// Memory is a policy.Store that forgets everything at the end, and the queue
// that its commands wait in.
type Memory struct {
	mu       sync.Mutex
	versions []policy.Version
	devices  map[string]*device
	marks    int64
}

var _ Feeder = (*Memory)(nil)

type device struct {
	facts    policy.Facts
	state    []byte // JSON, as in a database
	mark     int64  // when it was marked last
	marked   bool
	due      time.Time
	change   int64 // counts what makes a Put fail
	outcomes []session.Outcome
	at       time.Time
	waiting  []session.Task
	claimed  map[string]bool
}

// NewMemory is empty.
func NewMemory() *Memory { return &Memory{devices: map[string]*device{}} }

// Document implements policy.Store.
func (m *Memory) Document(_ context.Context, number int64) (policy.Version, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if number == 0 {
		number = int64(len(m.versions))
	}
	switch {
	case number == 0:
		return policy.Version{}, nil
	case number < 0 || number > int64(len(m.versions)):
		return policy.Version{}, fmt.Errorf("version %d: %w", number, policy.ErrNoVersion)
	}
	return m.versions[number-1], nil
}

// Save implements policy.Store.
func (m *Memory) Save(_ context.Context, v policy.Version, touched []policy.Scope) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if v.Number != int64(len(m.versions))+1 {
		return fmt.Errorf("version %d: %w", v.Number, policy.ErrChanged)
	}
	m.versions = append(m.versions, v)
	for _, d := range m.devices {
		if covered(touched, d.facts) {
			m.mark(d)
		}
	}
	return nil
}

func covered(scopes []policy.Scope, f policy.Facts) bool {
	return slices.ContainsFunc(scopes, func(s policy.Scope) bool { return s.Covers(f) })
}

func (m *Memory) mark(d *device) {
	d.change++
	if !d.marked {
		m.marks++
		d.marked, d.mark = true, m.marks
	}
}

// Devices implements policy.Store.
func (m *Memory) Devices(_ context.Context, scopes []policy.Scope, after string, n int, _ bool) ([]policy.Facts, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []policy.Facts
	for _, id := range slices.Sorted(maps.Keys(m.devices)) {
		if d := m.devices[id]; id > after && len(out) < n && covered(scopes, d.facts) {
			out = append(out, d.facts)
		}
	}
	return out, nil
}

// Device implements policy.Store.
func (m *Memory) Device(_ context.Context, id string) (policy.Marked, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[id]
	if d == nil {
		return policy.Marked{}, fmt.Errorf("device %q: %w", id, policy.ErrNoDevice)
	}
	return d.read()
}

func (d *device) read() (policy.Marked, error) {
	out := policy.Marked{Facts: d.facts, Mark: d.change, Outcomes: slices.Clone(d.outcomes), At: d.at, Claimed: slices.Sorted(maps.Keys(d.claimed))}
	if d.state == nil {
		return out, nil
	}
	return out, json.Unmarshal(d.state, &out.State)
}

// Mark implements policy.Store.
func (m *Memory) Mark(_ context.Context, devices ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range devices {
		if d := m.devices[id]; d != nil {
			m.mark(d)
		}
	}
	return nil
}

// Marked implements policy.Store.
func (m *Memory) Marked(_ context.Context, now time.Time, n int) ([]policy.Marked, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var found []*device
	for _, d := range m.devices {
		if d.marked || !d.due.IsZero() && !now.Before(d.due) {
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b *device) int {
		if a.marked != b.marked {
			if a.marked {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.mark, b.mark), cmp.Compare(a.facts.ID, b.facts.ID))
	})
	var out []policy.Marked
	for _, d := range found[:min(n, len(found))] {
		one, err := d.read()
		if err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// Put implements policy.Store.
func (m *Memory) Put(_ context.Context, all []policy.Computed) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	put := make([]bool, len(all))
	for i, c := range all {
		d := m.devices[c.Facts.ID]
		if put[i] = d != nil && d.change == c.Mark; !put[i] {
			continue
		}
		if err := d.put(c.Next); err != nil {
			return nil, err
		}
	}
	return put, nil
}

func (d *device) put(s policy.State) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	var waiting []session.Task
	for _, c := range s.Commands {
		t := c.Task()
		if old := slices.IndexFunc(d.waiting, func(w session.Task) bool { return w.ID == t.ID }); old >= 0 {
			t = d.waiting[old]
		}
		waiting = append(waiting, t)
	}
	d.state, d.waiting, d.due = text, waiting, s.Due
	d.outcomes, d.marked = nil, false
	d.change++
	maps.DeleteFunc(d.claimed, func(id string, _ bool) bool {
		return !slices.ContainsFunc(waiting, func(t session.Task) bool { return t.ID == id })
	})
	return nil
}

// PutDevice implements Feeder.
func (m *Memory) PutDevice(_ testing.TB, f policy.Facts) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[f.ID]
	if d == nil {
		d = &device{claimed: map[string]bool{}}
		m.devices[f.ID] = d
	}
	d.facts = f
	m.mark(d)
}

// Waiting implements Feeder.
func (m *Memory) Waiting(_ testing.TB, id string) []session.Task {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.devices[id].waiting)
}

// Claim implements Feeder.
func (m *Memory) Claim(t testing.TB, id string, tasks ...string) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[id]
	for _, task := range tasks {
		i := slices.IndexFunc(d.waiting, func(w session.Task) bool { return w.ID == task })
		if i < 0 {
			t.Fatalf("task %s doesn't wait", task)
		}
		d.waiting[i].Attempt++
		d.claimed[task] = true
		d.change++
	}
}

// Answer implements Feeder.
func (m *Memory) Answer(_ testing.TB, id string, at time.Time, outcomes ...session.Outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.devices[id]
	for _, o := range outcomes {
		i := slices.IndexFunc(d.waiting, func(w session.Task) bool { return w.ID == o.Task })
		if i < 0 {
			continue
		}
		d.waiting = slices.Delete(d.waiting, i, i+1)
		delete(d.claimed, o.Task)
		d.outcomes, d.at = append(d.outcomes, o), at
		m.mark(d)
	}
}
