package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/inventory/inventorytest"
	"github.com/roamgate/roamgate/dmlink/policy/policytest"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/gatewayd/database"
)

type suite struct {
	*store.SQL
	t        *testing.T
	clock    *Clock
	database *database.DB
}

// Run the suite; open makes a new, empty database.
func Run(t *testing.T, open func(*testing.T) *database.DB) {
	for _, test := range []struct {
		name string
		run  func(*suite)
	}{
		{"devices", (*suite).devices},
		{"accounts", (*suite).accounts},
		{"commands of every kind", (*suite).commands},
		{"a task for a group", (*suite).groups},
		{"tasks that can't be put", (*suite).badTasks},
		{"expiry", (*suite).expiry},
		{"cancelling", (*suite).cancelling},
		{"a late answer", (*suite).late},
		{"an accepted command", (*suite).accepted},
		{"reports of many outcomes", (*suite).reports},
		{"what a device tells", (*suite).told},
		{"messages", (*suite).messages},
		{"old commands", (*suite).old},
		{"last seen", (*suite).seen},
		{"wipe, confirmed", (*suite).wipeConfirmed},
		{"wipe, expired", (*suite).wipeExpired},
		{"wipe, and enrolled anew", (*suite).wipeAnew},
		{"wipe, cancelled too late", (*suite).wipeCancelled},
		{"wipes are shared", (*suite).wipesShared},
		{"schedules", (*suite).schedules},
		{"events of others", (*suite).follows},
		{"events of others are shared", (*suite).followShared},
		{"after a backup", (*suite).restored},
		{"outbox", (*suite).outbox},
		{"pages", (*suite).pages},
		{"what marks a device", (*suite).marking},
		{"contents of policies", (*suite).contents},
		{"surveys", (*suite).surveyed},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := &suite{t: t, clock: NewClock(), database: open(t)}
			s.SQL = Store(t, s.database, s.clock)
			test.run(s)
		})
	}
	// Marks have an order in time: the true clock.
	t.Run("policies", func(t *testing.T) {
		policytest.Run(t, func(t *testing.T) policytest.Feeder { return newPolicies(Store(t, open(t), nil)) })
	})
	t.Run("inventories", func(t *testing.T) {
		inventorytest.Run(t, func(t *testing.T) inventory.Store {
			s := Store(t, open(t), nil)
			for _, name := range []string{"a", "b"} {
				if err := s.Enroll(t.Context(), store.Device{Name: name, Enrolled: Noon}); err != nil {
					t.Fatal(err)
				}
			}
			return s.Inventories()
		})
	})
}

func uriOf(k session.Task) string { return k.Command.(*syncml.Op).Items[0].Target.URI }

func (s *suite) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *suite) want(err, want error) {
	s.t.Helper()
	if !errors.Is(err, want) {
		s.t.Errorf("got %v, want %v", err, want)
	}
}

func (s *suite) enroll(name string, groups ...string) store.Device {
	s.t.Helper()
	v := store.Device{Name: name, User: "bob", IMEI: "imei-" + name, IMSI: "imsi-" + name, Phone: "+1" + name, Groups: groups, Enrolled: s.clock.Now()}
	s.must(s.Enroll(s.t.Context(), v))
	return v
}

// order is a task that ends in an hour.
func (s *suite) order(semantics session.Semantics, command syncml.Command) store.Task {
	return store.Task{Kind: "test", Detail: "{}", Created: s.clock.Now(), By: "alice", Expires: s.clock.Now().Add(time.Hour), Semantics: semantics, Command: command}
}

func exec(uri string) *syncml.Op {
	return &syncml.Op{Verb: syncml.Exec, Items: []syncml.Item{{Target: syncml.Location{URI: uri}}}}
}

// put for one device; the command's ID as sessions have it, and the task's.
func (s *suite) put(k store.Task, device string) (command, task string) {
	s.t.Helper()
	id, n, err := s.Put(s.t.Context(), k, device)
	s.must(err)
	if n != 1 {
		s.t.Fatalf("put for %d devices", n)
	}
	return strconv.FormatInt(s.command(id, device).ID, 10), id
}

func (s *suite) command(task, device string) store.Command {
	s.t.Helper()
	all, err := s.CommandsOfTask(s.t.Context(), task, "", 0)
	s.must(err)
	for _, c := range all {
		if c.Device == device {
			return c
		}
	}
	s.t.Fatalf("task %s has no command for %s: %+v", task, device, all)
	return store.Command{}
}

func (s *suite) claim(device, command string, attempt int) bool {
	s.t.Helper()
	granted, err := s.Claim(s.t.Context(), device, []session.Claim{{Task: command, Attempt: attempt}})
	s.must(err)
	return granted[0]
}

func (s *suite) record(device string, outcomes ...session.Outcome) {
	s.t.Helper()
	s.must(s.Record(s.t.Context(), device, session.Report{At: s.clock.Now(), Outcomes: outcomes}))
}

func (s *suite) waits(device string) (ids []string) {
	s.t.Helper()
	tasks, err := s.Next(s.t.Context(), device, nil, 100)
	s.must(err)
	for _, k := range tasks {
		ids = append(ids, k.ID)
	}
	return ids
}

func (s *suite) state(task, device string, want store.CommandState) {
	s.t.Helper()
	if c := s.command(task, device); c.State != want {
		s.t.Errorf("command of %s is %s, want %s", device, c.State, want)
	}
}

func (s *suite) expiry() {
	s.enroll("a")
	ctx := s.t.Context()
	fresh, k1 := s.put(s.order(session.OnceOnly, exec("./A")), "a")
	sent, k2 := s.put(s.order(session.OnceOnly, exec("./B")), "a")
	again, k3 := s.put(s.order(session.Idempotent, exec("./C")), "a")
	if !s.claim("a", sent, 0) || !s.claim("a", again, 0) {
		s.t.Fatal("not granted")
	}
	s.clock.Add(time.Hour)
	if got := s.waits("a"); len(got) != 0 {
		s.t.Errorf("expired tasks wait: %v", got)
	}
	if s.claim("a", fresh, 0) || s.claim("a", again, 1) {
		s.t.Error("an expired task was granted")
	}
	n, err := s.Expire(ctx, 2)
	s.must(err)
	more, err := s.Expire(ctx, 2)
	s.must(err)
	if n != 2 || more != 1 {
		s.t.Errorf("expired %d and %d", n, more)
	}
	s.state(k1, "a", store.Expired)
	s.state(k2, "a", store.Unknown)
	s.state(k3, "a", store.Expired)
	a, err := s.Account(ctx, "a")
	s.must(err)
	if !a.Idle {
		s.t.Error("not idle when all has expired")
	}
}

func (s *suite) cancelling() {
	s.enroll("a", "g")
	s.enroll("b", "g")
	k := s.order(session.OnceOnly, exec("./A"))
	k.Group = "g"
	id, n, err := s.Put(s.t.Context(), k)
	s.must(err)
	if n != 2 {
		s.t.Fatalf("for %d devices", n)
	}
	if !s.claim("a", strconv.FormatInt(s.command(id, "a").ID, 10), 0) {
		s.t.Fatal("not granted")
	}
	n, err = s.Cancel(s.t.Context(), id)
	s.must(err)
	if n != 2 || len(s.waits("a"))+len(s.waits("b")) != 0 {
		s.t.Errorf("cancelled %d; %v and %v wait", n, s.waits("a"), s.waits("b"))
	}
	s.state(id, "a", store.Unknown)
	s.state(id, "b", store.Cancelled)
	if n, err = s.Cancel(s.t.Context(), id); err != nil || n != 0 {
		s.t.Errorf("again: %d, %v", n, err)
	}
	_, err = s.Cancel(s.t.Context(), "nobody's")
	s.want(err, store.ErrNotFound)
}

// A device's word is worth more than what was concluded without it; what was
// concluded is worth nothing against its word.
func (s *suite) late() {
	s.enroll("a")
	command, task := s.put(s.order(session.OnceOnly, exec("./A")), "a")
	s.claim("a", command, 0)
	s.record("a", session.Outcome{Task: command, State: session.Unknown})
	s.state(task, "a", store.Unknown)
	s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 200})
	s.state(task, "a", store.Answered)
	s.record("a", session.Outcome{Task: command, State: session.Unknown})
	s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 500})
	if c := s.command(task, "a"); c.State != store.Answered || c.Code != 200 || !c.Succeeded() {
		s.t.Errorf("at the end %+v", c)
	}
}

func (s *suite) accepted() {
	ctx := s.t.Context()
	s.enroll("a")
	s.enroll("b")
	command, task := s.put(s.order(session.OnceOnly, exec("./A")), "a")
	s.claim("a", command, 0)
	s.record("a", session.Outcome{Task: command, State: session.Answered, Code: 202})
	s.state(task, "a", store.Accepted)
	if len(s.waits("a")) != 0 {
		s.t.Error("an accepted command waits")
	}
	tell := func(device string, code int, data string) {
		s.t.Helper()
		s.must(s.Record(ctx, device, session.Report{At: s.clock.Now(), Alerts: []session.Alert{{
			Code: code, Correlator: task, Items: []syncml.Item{{Source: syncml.Location{URI: "./A"}, Data: []byte(data), HasData: true}},
		}}}))
	}
	tell("b", syncml.AlertGeneric, "1200") // not b's to say
	tell("a", syncml.AlertClientEvent, "1200")
	s.state(task, "a", store.Accepted)
	tell("a", syncml.AlertGeneric, "1200")
	c := s.command(task, "a")
	if c.State != store.Answered || c.Code != 1200 || !c.Succeeded() {
		s.t.Errorf("after the alert %+v", c)
	}
	answer, err := s.Answer(ctx, c.ID)
	s.must(err)
	if len(answer.Results) != 1 || string(answer.Results[0].Data) != "1200" {
		s.t.Errorf("answer %+v", answer)
	}
	tell("a", syncml.AlertGeneric, "1400")
	if c := s.command(task, "a"); c.Code != 1200 {
		s.t.Errorf("told twice: %+v", c)
	}
}

func (s *suite) told() {
	ctx := s.t.Context()
	s.enroll("a")
	r := session.Report{
		At: s.clock.Now(), InfoDigest: []byte("one"),
		DevInfo: []session.Value{{URI: "./DevInfo/Mod", Data: []byte("X")}, {URI: "./DevInfo/Man", Format: "chr", Data: []byte("a\x00\xff")}},
	}
	s.must(s.Record(ctx, "a", r))
	r.DevInfo, r.InfoDigest = []session.Value{{URI: "./DevInfo/Mod", Data: []byte("Y")}}, []byte("two")
	s.must(s.Record(ctx, "a", r))
	info, err := s.Info(ctx, "a")
	s.must(err)
	if len(info) != 1 || string(info[0].Data) != "Y" {
		s.t.Errorf("info %+v", info)
	}
	// A device that talks too much is heard, and not remembered for ever.
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			var alerts []session.Alert
			for n := range 50 {
				alerts = append(alerts, session.Alert{Code: 1226, Correlator: fmt.Sprint(i, "\x00", n)})
			}
			if err := s.Record(ctx, "a", session.Report{At: s.clock.Now(), Alerts: alerts}); err != nil {
				s.t.Error(err)
			}
		})
	}
	group.Wait()
	alerts, err := s.Alerts(ctx, "a")
	s.must(err)
	if len(alerts) != 100 {
		s.t.Errorf("%d alerts are kept", len(alerts))
	}
	// Nobody we know.
	s.must(s.Record(ctx, "nobody", session.Report{At: s.clock.Now(), Alerts: []session.Alert{{Code: 1226}}, InfoDigest: []byte("x")}))
}

// The best rank of a device's groups decides, then what is for all.
func (s *suite) schedules() {
	ctx := s.t.Context()
	s.enroll("a", "g", "h")
	want := func(want string) {
		s.t.Helper()
		if got, err := s.ScheduleOf(ctx, "a"); err != nil || got != want {
			s.t.Errorf("schedule %q, %v, want %q", got, err, want)
		}
	}
	want("")
	s.must(s.PutSchedule(ctx, "", -5, "all"))
	s.must(s.PutSchedule(ctx, "other", -5, "other"))
	want("all")
	s.must(s.PutSchedule(ctx, "g", 2, "g"))
	want("g")
	s.must(s.PutSchedule(ctx, "h", 1, "old"))
	s.must(s.PutSchedule(ctx, "h", 1, "h"))
	want("h")
	s.must(s.DeleteSchedule(ctx, "h"))
	want("g")
}

// Whatever is once-only and waits may have been sent since the backup.
func (s *suite) restored() {
	s.enroll("a")
	_, once := s.put(s.order(session.OnceOnly, exec("./A")), "a")
	_, blind := s.put(s.order(session.Queryable, exec("./A")), "a")
	_, again := s.put(s.order(session.Idempotent, exec("./A")), "a")
	n, err := s.AfterRestore(s.t.Context())
	s.must(err)
	if n != 2 {
		s.t.Errorf("%d are unknown now", n)
	}
	s.state(once, "a", store.Unknown)
	s.state(blind, "a", store.Unknown)
	s.state(again, "a", store.Waiting)
}

func (s *suite) messages() {
	ctx := s.t.Context()
	var all []store.Message
	for i := range 5 {
		all = append(all, store.Message{
			At: s.clock.Now(), Device: []string{"a", "b\x00"}[i%2], Sent: i%2 == 0, Proven: i > 0, ContentType: "application/x",
			Octets: slices.Repeat([]byte{0, 0xFF, byte(i)}, 1000),
		})
		s.clock.Add(time.Minute)
	}
	s.must(s.LogMessages(ctx, all))
	got, err := s.Messages(ctx, "a", 0, 2)
	s.must(err)
	if len(got) != 2 || string(got[0].Octets) != string(all[4].Octets) || !got[0].At.Equal(all[4].At) || !got[0].Sent || !got[0].Proven || got[0].Size != 3000 {
		s.t.Errorf("the newest two: %+v", got)
	}
	if got, err = s.Messages(ctx, "a", got[1].ID, 2); err != nil || len(got) != 1 || got[0].Proven {
		s.t.Errorf("the one before: %+v, %v", got, err)
	}
	n, err := s.TrimMessages(ctx, all[3].At, 0)
	s.must(err)
	if got, err = s.Messages(ctx, "a", 0, 0); n != 3 || err != nil || len(got) != 1 {
		s.t.Errorf("trimmed %d, left %d, %v", n, len(got), err)
	}
}

// Commands go when their time is over, tasks with the last of theirs; what waits
// stays.
func (s *suite) old() {
	ctx := s.t.Context()
	s.enroll("a", "g")
	s.enroll("b", "g")
	k := s.order(session.Idempotent, exec("./A"))
	k.Group, k.ID = "g", "both"
	_, _, err := s.Put(ctx, k)
	s.must(err)
	s.must(s.Record(ctx, "a", session.Report{At: s.clock.Now(), Outcomes: []session.Outcome{{
		Task: strconv.FormatInt(s.command("both", "a").ID, 10), Code: 200, Results: []session.Value{{URI: "./A", Data: []byte("1")}},
	}}}))
	trim := func(want int64) {
		s.t.Helper()
		n, err := s.TrimCommands(ctx, s.clock.Now(), 0)
		s.must(err)
		if n != want {
			s.t.Errorf("trimmed %d, want %d", n, want)
		}
	}
	trim(0) // ended just now
	s.clock.Add(time.Second)
	trim(1)
	s.state("both", "b", store.Waiting)
	_, err = s.Cancel(ctx, "both")
	s.must(err)
	_, wipe := s.orderWipe("a")
	_, err = s.ExpireWipes(ctx, 0)
	s.must(err)
	s.clock.Add(2 * time.Hour)
	_, err = s.ExpireWipes(ctx, 0)
	s.must(err)
	s.clock.Add(time.Second)
	trim(2)
	_, err = s.Task(ctx, "both")
	s.want(err, store.ErrNotFound)
	_, err = s.Task(ctx, wipe) // the device's wipe names it
	s.must(err)
}

func (s *suite) seen() {
	ctx := s.t.Context()
	s.enroll("a")
	s.enroll("b")
	early, later := s.clock.Now(), s.clock.Now().Add(time.Minute)
	s.must(s.Seen(ctx, map[string]time.Time{"a": later, "b": early, "nobody": early}))
	s.must(s.Seen(ctx, map[string]time.Time{"a": early, "b": later}))
	s.must(s.Seen(ctx, nil))
	for _, name := range []string{"a", "b"} {
		v, err := s.Device(ctx, name)
		s.must(err)
		if !v.Seen.Equal(later) {
			s.t.Errorf("%s was seen %v, want %v", name, v.Seen, later)
		}
	}
}
