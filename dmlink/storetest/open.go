package storetest

import (
	"bytes"
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
)

// SealKey of stores in tests.
var SealKey = bytes.Repeat([]byte{7}, 32)

// Clock that tests move; it doesn't go by itself.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock shows noon.
func NewClock() *Clock { return &Clock{now: Noon} }

// Noon is when tests happen.
var Noon = time.Date(2030, 5, 1, 12, 0, 0, 123456000, time.UTC)

// Now is what it shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Add moves it.
func (c *Clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Store in a database, which several may share, with a clock; nil means the true
// time.
func Store(t testing.TB, db *database.DB, clock *Clock) *store.SQL {
	t.Helper()
	o := store.Options{SealKey: SealKey}
	if clock != nil {
		o.Now = clock.Now
	}
	s, err := store.New(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// SQLite is a store in a new file of the test's folder.
func SQLite(t testing.TB, clock *Clock) *store.SQL {
	t.Helper()
	return Store(t, databasetest.SQLite(t), clock)
}

// Feeder lets the suite of sessions, whose tasks have names of their own, run on
// a store, which draws IDs.
type Feeder struct {
	*store.SQL
	t  testing.TB
	mu sync.Mutex
	// ids by name, names by ID.
	ids, names map[string]string
}

// NewFeeder for a store.
func NewFeeder(t testing.TB, s *store.SQL) *Feeder {
	return &Feeder{SQL: s, t: t, ids: map[string]string{}, names: map[string]string{}}
}

func (f *Feeder) enroll(device string) {
	f.t.Helper()
	if err := f.Enroll(f.t.Context(), store.Device{Name: device, Enrolled: Noon}); err != nil {
		f.t.Fatal(err)
	}
}

// Put implements sessiontest.Feeder.
func (f *Feeder) Put(device string, tasks ...session.Task) {
	f.t.Helper()
	f.enroll(device)
	for _, k := range tasks {
		id, _, err := f.SQL.Put(f.t.Context(), store.Task{
			Kind: "test", Created: Noon, By: "test", Expires: Noon.Add(100 * 365 * 24 * time.Hour),
			Semantics: k.Semantics, Command: k.Command, Query: k.Query,
		}, device)
		if err != nil {
			f.t.Fatal(err)
		}
		commands, err := f.CommandsOfTask(f.t.Context(), id, "", 0)
		if err != nil || len(commands) != 1 {
			f.t.Fatalf("commands of task %s: %v, %v", id, commands, err)
		}
		own := strconv.FormatInt(commands[0].ID, 10)
		f.mu.Lock()
		f.ids[k.ID], f.names[own] = own, k.ID
		f.mu.Unlock()
	}
}

// PutAccount implements sessiontest.Feeder.
func (f *Feeder) PutAccount(device string, a session.Account) {
	f.t.Helper()
	f.enroll(device)
	if err := f.SQL.PutAccount(f.t.Context(), device, a); err != nil {
		f.t.Fatal(err)
	}
}

// own ID of a task by its name; one that isn't there keeps its name.
func (f *Feeder) own(name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id, ok := f.ids[name]; ok {
		return id
	}
	return "1000000" + name
}

// Next implements session.Queue.
func (f *Feeder) Next(ctx context.Context, device string, except []string, n int) ([]session.Task, error) {
	var own []string
	for _, e := range except {
		own = append(own, f.own(e))
	}
	tasks, err := f.SQL.Next(ctx, device, own, n)
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range tasks {
		tasks[i].ID = f.names[tasks[i].ID]
	}
	return tasks, err
}

// Claim implements session.Queue.
func (f *Feeder) Claim(ctx context.Context, device string, claims []session.Claim) ([]bool, error) {
	own := make([]session.Claim, len(claims))
	for i, c := range claims {
		own[i] = session.Claim{Task: f.own(c.Task), Attempt: c.Attempt}
	}
	return f.SQL.Claim(ctx, device, own)
}

// Record implements session.Queue.
func (f *Feeder) Record(ctx context.Context, device string, r session.Report) error {
	own := make([]session.Outcome, len(r.Outcomes))
	for i, o := range r.Outcomes {
		o.Task = f.own(o.Task)
		own[i] = o
	}
	r.Outcomes = own
	return f.SQL.Record(ctx, device, r)
}
