package task_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/schedule"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/storetest"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/task"
)

// office is a desk and a keeper over a store.
type office struct {
	*store.SQL
	*task.Desk
	t     *testing.T
	clock *storetest.Clock
}

func newOffice(t *testing.T) *office {
	o := &office{t: t, clock: storetest.NewClock()}
	o.SQL = storetest.SQLite(t, o.clock)
	o.Desk = task.New(task.Options{Store: o.SQL, Provider: "roamgate", Now: o.clock.Now})
	return o
}

func (o *office) must(err error) {
	o.t.Helper()
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *office) want(err, want error) {
	o.t.Helper()
	if !errors.Is(err, want) {
		o.t.Errorf("got %v, want %v", err, want)
	}
}

func (o *office) enroll(v store.Device) {
	o.t.Helper()
	v.Enrolled = o.clock.Now()
	o.must(o.Enroll(o.t.Context(), v))
}

func (o *office) next(device string) []session.Task {
	o.t.Helper()
	tasks, err := o.Next(o.t.Context(), device, nil, 100)
	o.must(err)
	return tasks
}

// Every type, as an administrator would ask for it, and what the device gets.
func TestTypes(t *testing.T) {
	for _, c := range []struct {
		name      string
		values    task.Values
		semantics session.Semantics
		want      string // verb, URI, data, format
		query     *session.Query
	}{
		{"wipe", nil, session.OnceOnly, "Exec ./Vendor/MSFT/RemoteWipe/doWipe", nil},
		{"wipe", task.Values{"mode": "doWipeProtected"}, session.OnceOnly, "Exec ./Vendor/MSFT/RemoteWipe/doWipeProtected", nil},
		{"lock", nil, session.Idempotent, "Exec ./Vendor/MSFT/RemoteLock/Lock", nil},
		{"lock", task.Values{"uri": "./X"}, session.Idempotent, "Exec ./X", nil},
		{"deactivate", nil, session.Idempotent, "Exec ./LAWMO/Operations/FullyLock", nil},
		{"activate", nil, session.Idempotent, "Exec ./LAWMO/Operations/UnLock", nil},
		{"query", task.Values{"uri": "./A ./B?list=Struct"}, session.Idempotent, "Get ./A ./B?list=Struct", nil},
		{"message", task.Values{"text": "hello"}, session.OnceOnly, "Alert 1100 hello", nil},
		{"add", task.Values{"uri": "./A", "value": "1", "format": "int"}, session.Queryable, "Add ./A 1 int", &session.Query{URI: "./A"}},
		{"replace", task.Values{"uri": "./A", "value": ""}, session.Idempotent, "Replace ./A", nil},
		{"delete", task.Values{"uri": "./A"}, session.Queryable, "Delete ./A", &session.Query{URI: "./A", Gone: true}},
		{"exec", task.Values{"uri": "./A"}, session.OnceOnly, "Exec ./A", nil},
		{"copy", task.Values{"uri": "./A", "from": "./B"}, session.Idempotent, "Copy ./A from ./B", nil},
	} {
		_, o, err := task.Types().Make(c.name, c.values)
		if err != nil {
			t.Errorf("%s %v: %v", c.name, c.values, err)
			continue
		}
		if got := describe(o.Command); got != c.want || o.Semantics != c.semantics {
			t.Errorf("%s %v: %q of semantics %d, want %q of %d", c.name, c.values, got, o.Semantics, c.want, c.semantics)
		}
		if (o.Query == nil) != (c.query == nil) || c.query != nil && (o.Query.URI != c.query.URI || o.Query.Gone != c.query.Gone) {
			t.Errorf("%s: query %+v, want %+v", c.name, o.Query, c.query)
		}
	}
	for name, values := range map[string]task.Values{
		"nonsense": nil, "query": nil, "wipe": {"mode": "gently"}, "lock": {"uri": "no uri\x00"}, "replace": {"uri": "./A", "value": "x", "format": "int"},
		"add": {"uri": "./A", "value": "yes", "format": "bool"}, "exec": {"uri": "./A", "colour": "red"}, "copy": {"uri": "./A"}, "delete": {"uri": ""},
	} {
		if _, _, err := task.Types().Make(name, values); !errors.Is(err, task.ErrInvalid) {
			t.Errorf("%s %v: %v", name, values, err)
		}
	}
	types := task.Types()
	types.Add(task.Type{Name: "update", Help: "of firmware", Make: func(task.Values) (task.Order, error) { return task.Order{}, nil }})
	if !slices.Contains(types.Names(), "update") || slices.Contains(task.Types().Names(), "update") {
		t.Errorf("types %v", types.Names())
	}
}

func describe(c syncml.Command) string {
	switch c := c.(type) {
	case *syncml.Op:
		s := string(c.Verb)
		for _, i := range c.Items {
			s += " " + i.Target.URI
			if i.Source.URI != "" {
				s += " from " + i.Source.URI
			}
			if len(i.Data) > 0 {
				s += " " + string(i.Data)
			}
			if i.Meta.Format != "" {
				s += " " + i.Meta.Format
			}
		}
		return s
	case *syncml.Alert:
		return fmt.Sprint("Alert ", c.Code, " ", string(c.Items[1].Data))
	}
	return fmt.Sprintf("%T", c)
}

// Who is meant, in every way that it can be said.
func TestTargets(t *testing.T) {
	o := newOffice(t)
	o.enroll(store.Device{Name: "phone", User: "bob", IMEI: "35-1", IMSI: "262-1", Phone: "+49-1", Groups: []string{"sales"}})
	o.enroll(store.Device{Name: "tablet", User: "bob", IMEI: "35-2", Phone: "+49-2", Groups: []string{"sales", "staff"}})
	o.enroll(store.Device{Name: "twin", User: "eve", Phone: "+49-2"})
	for _, c := range []struct {
		target task.Target
		want   int
		err    error
	}{
		{task.Target{Device: "phone"}, 1, nil},
		{task.Target{IMEI: "35-2"}, 1, nil},
		{task.Target{IMSI: "262-1"}, 1, nil},
		{task.Target{Phone: "+49-1"}, 1, nil},
		{task.Target{User: "bob"}, 2, nil},
		{task.Target{Group: "sales"}, 2, nil},
		{task.Target{Group: "nobody's"}, 0, nil},
		{task.Target{Phone: "+49-2"}, 0, task.ErrInvalid},
		{task.Target{IMEI: "35-9"}, 0, store.ErrNotFound},
		{task.Target{Device: "nobody's"}, 0, store.ErrNotFound},
		{task.Target{User: "bob", Group: "staff"}, 0, task.ErrInvalid},
		{task.Target{}, 0, task.ErrInvalid},
	} {
		got, err := o.Place(t.Context(), task.Request{Type: "lock", Target: c.target, By: "alice"})
		if !errors.Is(err, c.err) || got.Devices != c.want && err == nil {
			t.Errorf("%+v: %+v, %v", c.target, got, err)
		}
	}
	for _, r := range []task.Request{
		{Type: "lock", Target: task.Target{Device: "phone"}, Lifetime: time.Second},
		{Type: "wipe", Target: task.Target{Group: "sales"}},
		{Type: "wipe", Target: task.Target{User: "eve"}},
		{ID: "schedule-phone-1-0", Type: "lock", Target: task.Target{Device: "phone"}},
	} {
		if _, err := o.Place(t.Context(), r); !errors.Is(err, task.ErrInvalid) {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// Wipes go before what else waits, and an Exec says which task it is, so that an
// alert can.
func TestOrderOfTasks(t *testing.T) {
	o := newOffice(t)
	o.enroll(store.Device{Name: "phone"})
	place := func(id, kind string, values task.Values) {
		t.Helper()
		_, err := o.Place(t.Context(), task.Request{ID: id, Type: kind, Values: values, Target: task.Target{Device: "phone"}})
		o.must(err)
	}
	place("1", "replace", task.Values{"uri": "./A"})
	place("2", "lock", nil)
	place("3", "wipe", nil)
	var got []string
	for _, k := range o.next("phone") {
		op := k.Command.(*syncml.Op)
		got = append(got, op.Items[0].Target.URI+" "+op.Correlator)
	}
	want := []string{"./Vendor/MSFT/RemoteWipe/doWipe 3", "./Vendor/MSFT/RemoteLock/Lock 2", "./A "}
	if !slices.Equal(got, want) {
		t.Errorf("the device gets %q, want %q", got, want)
	}
	k, err := o.Task(t.Context(), "1")
	o.must(err)
	if k.Detail != `{"uri":"./A"}` || k.Kind != "replace" {
		t.Errorf("task %+v", k)
	}
}

// told says that so many tasks wait for a device, the newest with a schedule.
func (o *office) told(device string, tasks int, want schedule.Schedule) {
	o.t.Helper()
	text, err := json.Marshal(want)
	o.must(err)
	commands, err := o.CommandsOfDevice(o.t.Context(), device, 0, 1)
	o.must(err)
	if n := len(o.next(device)); n != tasks || len(commands) != 1 {
		o.t.Fatalf("there wait %d tasks, want %d", n, tasks)
	}
	k, err := o.Task(o.t.Context(), commands[0].Task)
	o.must(err)
	if k.Detail != string(text) {
		o.t.Errorf("told last was %s, want %s", k.Detail, text)
	}
}

// Schedules: of all, of groups, and told once.
func TestSchedules(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	v := store.Device{Name: "phone", Groups: []string{"sales", "staff"}, Enrolled: o.clock.Now()}
	for range 2 {
		o.must(o.Enrolled(ctx, v))
	}
	if n := len(o.next("phone")); n != 1 {
		t.Fatalf("after enrollment there wait %d tasks", n)
	}
	hourly := schedule.Default()
	hourly.Every, hourly.Jitter = time.Hour, 0
	daily := hourly
	daily.Every = 24 * time.Hour
	for range 2 {
		o.must(o.SetSchedule(ctx, "staff", 2, daily))
		o.must(o.SetSchedule(ctx, "sales", 1, hourly))
		o.must(o.SetSchedule(ctx, "", 0, schedule.Default()))
	}
	if s, err := o.Schedule(ctx, "phone"); err != nil || s != hourly {
		t.Errorf("schedule %+v, %v", s, err)
	}
	// The default, daily, hourly; each once.
	if n := len(o.next("phone")); n != 3 {
		t.Errorf("there wait %d tasks", n)
	}
	// Changed and changed back, the device hears of it: once, however often it is
	// tried.
	for range 2 {
		o.must(o.SetSchedule(ctx, "sales", 1, daily))
	}
	if n := len(o.next("phone")); n != 4 {
		t.Errorf("changed to daily, there wait %d tasks", n)
	}
	for range 2 {
		o.must(o.SetSchedule(ctx, "sales", 1, hourly))
	}
	if n := len(o.next("phone")); n != 5 {
		t.Errorf("changed back, there wait %d tasks", n)
	}
	for range 2 {
		o.must(o.Desk.DeleteSchedule(ctx, "sales"))
	}
	if s, err := o.Schedule(ctx, "phone"); err != nil || s != daily {
		t.Errorf("without sales: %+v, %v", s, err)
	}
	o.told("phone", 6, daily)
	// Another group's, and none's: what has not changed isn't told.
	o.must(o.SetSchedule(ctx, "guests", 3, hourly))
	o.told("phone", 6, daily)
	for _, step := range []struct {
		groups []string
		tasks  int
		want   schedule.Schedule
	}{{[]string{"guests"}, 7, hourly}, {[]string{"guests", "others"}, 7, hourly}, {nil, 8, schedule.Default()}, {[]string{"staff"}, 9, daily}} {
		for range 2 {
			o.must(o.Desk.SetGroups(ctx, "phone", step.groups))
		}
		o.told("phone", step.tasks, step.want)
	}
	o.want(o.Desk.SetGroups(ctx, "nobody's", nil), store.ErrNotFound)
	v.Groups = []string{"staff"}
	bad := hourly
	bad.Every = time.Second
	o.want(o.SetSchedule(ctx, "sales", 1, bad), schedule.ErrInvalid)
	// Enrolled anew it hears it anew.
	o.clock.Add(time.Hour)
	v.Enrolled = o.clock.Now()
	o.must(o.Enrolled(ctx, v))
	if n := len(o.next("phone")); n != 1 {
		t.Errorf("enrolled anew there wait %d tasks", n)
	}
	text, err := json.Marshal(daily)
	o.must(err)
	tasks, err := o.Tasks(ctx, store.Task{}, 1)
	o.must(err)
	if len(tasks) != 1 || tasks[0].Detail != string(text) {
		t.Errorf("newest task %+v", tasks)
	}
}

// closer closes accounts, unless it is told to fail.
type closer struct {
	closed []string
	fail   error
}

func (c *closer) CloseAccount(_ context.Context, w store.Wipe) error {
	c.closed = append(c.closed, w.Device)
	return c.fail
}

// crashing is a store whose caller dies before it can write that a wipe is over.
type crashing struct{ *store.SQL }

var errCrash = errors.New("crashed")

func (crashing) EndWipe(context.Context, store.Wipe) error { return errCrash }

// A wipe that nobody confirms: it expires, and its account is closed by whoever
// gets through with it.
func TestKeeper(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	o.enroll(store.Device{Name: "phone"})
	placed, err := o.Place(ctx, task.Request{Type: "wipe", Target: task.Target{Device: "phone"}, Lifetime: time.Hour})
	o.must(err)
	c := &closer{}
	keeper := task.NewKeeper(o.SQL, c, task.KeeperOptions{Now: o.clock.Now})
	sweep := func(want store.WipeState, calls int) {
		t.Helper()
		o.must(keeper.Sweep(ctx))
		w, err := o.Wipe(ctx, "phone")
		o.must(err)
		if w.State != want || len(c.closed) != calls {
			t.Errorf("wipe is %s after %d calls, want %s after %d", w.State, len(c.closed), want, calls)
		}
	}
	sweep(store.WipeOrdered, 0)
	o.clock.Add(time.Hour)
	// The one server's enrollment doesn't answer, and then it crashes.
	c.fail = errors.New("no answer")
	sweep(store.WipeClosing, 1)
	sweep(store.WipeClosing, 1) // not at once again
	o.clock.Add(10 * time.Second)
	sweep(store.WipeClosing, 2)
	c.fail = nil
	o.clock.Add(20 * time.Second)
	dying := task.NewKeeper(crashing{o.SQL}, c, task.KeeperOptions{Now: o.clock.Now})
	o.want(dying.Sweep(ctx), errCrash)
	sweep(store.WipeClosing, 3) // it is the dead one's
	o.clock.Add(time.Minute)
	sweep(store.WipeClosed, 4)
	sweep(store.WipeClosed, 4)
	if cmds, err := o.CommandsOfTask(ctx, placed.ID, "", 0); err != nil || cmds[0].State != store.Cancelled {
		t.Errorf("commands %+v, %v", cmds, err)
	}
	if events, err := o.Outbox(ctx, 0, 0); err != nil || len(events) != 1 || events[0].Device != "phone" {
		t.Errorf("outbox %+v, %v", events, err)
	}
}

// What expired ends, and messages go when their time is over.
func TestSweep(t *testing.T) {
	o := newOffice(t)
	ctx := t.Context()
	o.enroll(store.Device{Name: "phone"})
	placed, err := o.Place(ctx, task.Request{Type: "lock", Target: task.Target{Device: "phone"}, Lifetime: time.Hour})
	o.must(err)
	var messages []store.Message
	for range 450 {
		messages = append(messages, store.Message{At: o.clock.Now(), Device: "phone"})
	}
	o.must(o.LogMessages(ctx, messages))
	o.clock.Add(2 * time.Hour)
	o.must(o.LogMessages(ctx, []store.Message{{At: o.clock.Now(), Device: "phone"}}))
	o.must(task.NewKeeper(o.SQL, &closer{}, task.KeeperOptions{Now: o.clock.Now, Retention: time.Hour}).Sweep(ctx))
	if all, err := o.CommandsOfTask(ctx, placed.ID, "", 0); err != nil || all[0].State != store.Expired {
		t.Errorf("commands %+v, %v", all, err)
	}
	if left, err := o.Messages(ctx, "phone", 0, 0); err != nil || len(left) != 1 {
		t.Errorf("%d messages, %v", len(left), err)
	}
	// A year later nobody asks for it any more.
	o.clock.Add(366 * 24 * time.Hour)
	o.must(task.NewKeeper(o.SQL, &closer{}, task.KeeperOptions{Now: o.clock.Now, Retention: -1}).Sweep(ctx))
	if _, err := o.Task(ctx, placed.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("task after a year: %v", err)
	}
	if left, err := o.Messages(ctx, "phone", 0, 0); err != nil || len(left) != 1 {
		t.Errorf("%d messages that are kept for ever, %v", len(left), err)
	}
}
