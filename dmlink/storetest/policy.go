package storetest

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/inventory"
	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/policy/policytest"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/store"
)

// policies lets the suite of policies run on a store.
type policies struct {
	*store.Policies
	s *store.SQL
}

var _ policytest.Feeder = policies{}

func newPolicies(s *store.SQL) policies { return policies{s.Policies(), s} }

// PutDevice implements policytest.Feeder.
func (p policies) PutDevice(t testing.TB, f policy.Facts) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(p.s.Enroll(ctx, store.Device{Name: f.ID, User: f.User, Groups: f.Groups, Enrolled: Noon}))
	_, err := p.s.SetUnit(ctx, f.Unit, f.ID)
	must(err)
	u := inventory.Update{At: Noon, Complete: []string{"."}}
	for uri, data := range f.Inventory {
		u.Values = append(u.Values, session.Value{URI: uri, Data: []byte(data)})
	}
	_, err = inventory.NewKeeper(p.s.Inventories()).Record(ctx, f.ID, u)
	must(err)
	must(p.Mark(ctx, f.ID))
}

// Waiting implements policytest.Feeder.
func (p policies) Waiting(t testing.TB, device string) []session.Task {
	t.Helper()
	tasks, err := p.s.Next(t.Context(), device, nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	return tasks
}

// Claim implements policytest.Feeder.
func (p policies) Claim(t testing.TB, device string, tasks ...string) {
	t.Helper()
	var claims []session.Claim
	for _, k := range p.Waiting(t, device) {
		for _, id := range tasks {
			if id == k.ID {
				claims = append(claims, session.Claim{Task: id, Attempt: k.Attempt})
			}
		}
	}
	granted, err := p.s.Claim(t.Context(), device, claims)
	if err != nil || len(granted) != len(tasks) {
		t.Fatalf("claims of %v: %v, %v", tasks, granted, err)
	}
	for i, ok := range granted {
		if !ok {
			t.Fatalf("task %s wasn't granted", claims[i].Task)
		}
	}
}

// Answer implements policytest.Feeder.
func (p policies) Answer(t testing.TB, device string, at time.Time, outcomes ...session.Outcome) {
	t.Helper()
	if err := p.s.Record(t.Context(), device, session.Report{At: at, Outcomes: outcomes}); err != nil {
		t.Fatal(err)
	}
}

func (s *suite) marks(want ...string) {
	s.t.Helper()
	var got []string
	if n, since, err := s.Policies().Behind(s.t.Context()); err != nil || n != len(want) || since.IsZero() != (n == 0) {
		s.t.Errorf("%d are behind since %v, %v, want %d", n, since, err, len(want))
	}
	all, err := s.Policies().Marked(s.t.Context(), s.clock.Now(), 100)
	s.must(err)
	computed := make([]policy.Computed, len(all))
	for i, m := range all {
		got = append(got, m.Facts.ID)
		computed[i] = policy.Computed{Marked: m, Next: m.State}
	}
	put, err := s.Policies().Put(s.t.Context(), computed)
	s.must(err)
	for i := range put {
		if !put[i] {
			s.t.Errorf("%s wasn't put", got[i])
		}
	}
	if a, b := strings.Join(got, " "), strings.Join(want, " "); a != b {
		s.t.Errorf("marked are %q, want %q", a, b)
	}
}

// What a policy can depend on marks the device; what it can't doesn't.
func (s *suite) marking() {
	ctx := s.t.Context()
	v := s.enroll("a", "g")
	s.marks("a")
	s.must(s.Enroll(ctx, v)) // told again
	s.must(s.SetGroups(ctx, "a", []string{"g"}))
	n, err := s.SetUnit(ctx, "", "a", "nobody")
	s.must(err)
	if n != 0 {
		s.t.Errorf("%d moved to where they are", n)
	}
	s.marks()
	s.must(s.SetGroups(ctx, "a", []string{"h"}))
	s.marks("a")
	if n, err = s.SetUnit(ctx, "corp/sales", "a", "nobody"); n != 1 || err != nil {
		s.t.Errorf("moved %d, %v", n, err)
	}
	s.marks("a")
	if d, err := s.Device(ctx, "a"); err != nil || d.Unit != "corp/sales" {
		s.t.Errorf("device %+v, %v", d, err)
	}
	_, err = s.SetUnit(ctx, "corp//sales", "a")
	s.want(err, store.ErrInvalid)
	v.User, v.Groups = "anna", []string{"h"}
	s.must(s.Enroll(ctx, v))
	s.marks("a")
	// The inventory, if a filter reads what has changed.
	told := func(digest, model string) {
		s.t.Helper()
		s.must(s.Record(ctx, "a", session.Report{At: s.clock.Now(), InfoDigest: []byte(digest), DevInfo: []session.Value{{URI: "./DevInfo/Mod", Data: []byte(model)}}}))
	}
	told("1", "X")
	s.marks()
	reads := func(number int64, filter string) {
		s.t.Helper()
		s.must(s.Policies().Save(ctx, policy.Version{Number: number, At: s.clock.Now(), Document: policy.Document{
			Sets: []policy.Set{{Name: "base", Filter: filter, Settings: []policy.Setting{{URI: "./A", Data: "1"}}}},
		}}, nil))
	}
	reads(1, `inventory["./DevInfo/Man"] == "M"`)
	told("2", "Y")
	s.marks()
	reads(2, `inventory.value("./DevInfo/Mod") == "Y"`)
	told("3", "Y") // nothing new
	s.marks()
	told("4", "Z")
	s.marks("a")
	reads(3, `size(inventory) > 3`)
	told("5", "Y")
	s.marks("a")
	if all, err := s.Policies().Versions(ctx, 3, 0); err != nil || len(all) != 2 || all[0].Number != 2 {
		s.t.Errorf("versions before 3: %+v, %v", all, err)
	}
	// Closed: nothing is left to be done.
	s.must(s.Close(ctx, "a", s.clock.Now(), "left"))
	s.must(s.Policies().Mark(ctx, "a"))
	s.marks()
	_, err = s.Policies().Device(ctx, "a")
	s.want(err, policy.ErrNoDevice)
	// Enrolled anew: it has nothing of what it had.
	s.clock.Add(time.Minute)
	s.enroll("a")
	s.marks("a")
}

// policyFor lets a document with one set make commands for devices in units.
func (s *suite) policyFor(number int64, data string) *policy.Engine {
	s.t.Helper()
	e := policy.NewEngine(s.Policies(), policy.Config{Now: s.clock.Now})
	_, err := e.Apply(s.t.Context(), policy.Document{
		Sets:  []policy.Set{{Name: "base", Settings: []policy.Setting{{URI: "./A", Data: data}, {URI: "./B", Data: "b"}}}},
		Links: []policy.Link{{Set: "base", Order: 1}},
	}, number-1, "alice", "")
	s.must(err)
	s.refresh(e)
	return e
}

func (s *suite) refresh(e *policy.Engine) {
	s.t.Helper()
	for {
		n, err := e.Refresh(s.t.Context(), 10)
		s.must(err)
		if n == 0 {
			return
		}
	}
}

// Contents of policies are stored once for all devices, are nobody's task, and go
// when no device has a command of them.
func (s *suite) contents() {
	ctx := s.t.Context()
	for _, name := range []string{"a", "b", "c"} {
		s.enroll(name)
	}
	e := s.policyFor(1, "one")
	count := func(what string, want int) {
		s.t.Helper()
		var n int
		s.must(s.database.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+what).Scan(&n))
		if n != want {
			s.t.Errorf("%d rows of %s, want %d", n, what, want)
		}
	}
	count("dm_task", 2)
	count("dm_command", 6)
	tasks, err := s.Tasks(ctx, store.Task{}, 0)
	s.must(err)
	all, err := s.CommandsOfDevice(ctx, "a", 0, 0)
	s.must(err)
	if len(tasks) != 0 || len(all) != 2 {
		s.t.Errorf("tasks %+v, commands %+v", tasks, all)
	}
	_, err = s.Cancel(ctx, all[0].Task)
	s.want(err, store.ErrNotFound)
	k := s.order(session.Idempotent, exec("./X"))
	k.ID = all[0].Task
	_, _, err = s.Put(ctx, k, "a")
	s.want(err, store.ErrInvalid)
	// Another version: those that wait are replaced, unless they are right.
	s.policyFor(2, "two")
	count("dm_task", 2)
	count("dm_command", 6)
	// What somebody wants goes first.
	urgent, _ := s.put(s.order(session.OnceOnly, exec("./C")), "a")
	waits := s.waits("a")
	if len(waits) != 3 || waits[0] != urgent {
		s.t.Errorf("%v wait, the task is %s", waits, urgent)
	}
	for _, device := range []string{"a", "b", "c"} {
		for _, id := range s.waits(device) {
			s.claim(device, id, 0)
			s.record(device, session.Outcome{Task: id, Code: 200})
		}
	}
	s.refresh(e)
	count("dm_task", 1)
	count("dm_command", 1)
	x, err := e.Explain(ctx, "b")
	s.must(err)
	if n := x.Nodes["./A"]; n.Progress != policy.Confirmed {
		s.t.Errorf("explained %+v", x)
	}
	// After a backup nothing is certain: everything is sent again, and is right.
	_, err = s.AfterRestore(ctx)
	s.must(err)
	s.refresh(e)
	if waits := s.waits("b"); len(waits) != 2 {
		s.t.Errorf("after a backup %v wait", waits)
	}
	// A device that goes takes its commands along.
	for _, device := range []string{"a", "b", "c"} {
		s.must(s.Close(ctx, device, s.clock.Now(), "left"))
	}
	s.refresh(e)
	count("dm_policy_device", 0)
	count("dm_command", 1)
}

// surveyed: a device is asked in rounds, within one session or over several, and
// again after a while.
func (s *suite) surveyed() {
	ctx := s.t.Context()
	roots := []inventory.Root{{URI: "./DevInfo", Depth: 2}, {URI: "./DevDetail", Depth: 2}}
	begin := func(want int) {
		s.t.Helper()
		n, err := s.Inventories().BeginSurveys(ctx, 24*time.Hour, 10, roots...)
		s.must(err)
		if n != want {
			s.t.Errorf("%d surveys began, want %d", n, want)
		}
	}
	tree := map[string]string{"./DevInfo/Man": "M", "./DevInfo/Mod": "X", "./DevInfo/Ext/one": "1"}
	nodes := map[string]string{"./DevInfo": "Man/Mod/Ext", "./DevInfo/Ext": "one"}
	// session answers up to n of what waits, and says how many rounds that took.
	session1 := func(device string, n int) (rounds int) {
		s.t.Helper()
		for n > 0 {
			tasks, err := s.Next(ctx, device, nil, 100)
			s.must(err)
			if len(tasks) == 0 {
				return rounds
			}
			rounds++
			r := session.Report{At: s.clock.Now()}
			for _, k := range tasks[:min(n, len(tasks))] {
				n--
				if !s.claim(device, k.ID, k.Attempt) {
					s.t.Fatal("not granted")
				}
				uri := uriOf(k)
				o := session.Outcome{Task: k.ID, Code: 404}
				if v, ok := tree[uri]; ok {
					o.Code, o.Results = 200, []session.Value{{URI: uri, Data: []byte(v)}}
				} else if v, ok := nodes[uri]; ok {
					o.Code, o.Results = 200, []session.Value{{URI: uri, Format: "node", Data: []byte(v)}}
				}
				r.Outcomes = append(r.Outcomes, o)
			}
			s.must(s.Record(ctx, device, r))
			s.must(s.Record(ctx, device, r)) // the same once more
		}
		return rounds
	}
	snapshot := func(device string) map[string]inventory.Value {
		s.t.Helper()
		v, err := s.Inventories().Snapshot(ctx, device)
		s.must(err)
		return v.Nodes
	}
	s.enroll("a")
	s.enroll("b")
	begin(2)
	begin(0)
	if next, now, err := s.Inventories().Surveyed(ctx, "a"); err != nil || !now || !next.Equal(s.clock.Now().Add(24*time.Hour)) {
		s.t.Errorf("surveyed %v, %v, %v", next, now, err)
	}
	if rounds := session1("a", 100); rounds != 3 {
		s.t.Errorf("%d rounds", rounds)
	}
	if got := snapshot("a"); len(got) != 3 || string(got["./DevInfo/Ext/one"].Data) != "1" {
		s.t.Errorf("inventory %+v", got)
	}
	if _, now, err := s.Inventories().Surveyed(ctx, "a"); err != nil || now {
		s.t.Errorf("still surveyed, %v", err)
	}
	// b goes away in the middle, and comes back.
	session1("b", 3)
	if got := snapshot("b"); len(got) != 0 {
		s.t.Errorf("after half of it %+v", got)
	}
	session1("b", 100)
	if got := snapshot("b"); len(got) != 3 {
		s.t.Errorf("after all of it %+v", got)
	}
	// A day later: one node is gone, and a stays silent in the middle for a day.
	s.clock.Add(24 * time.Hour)
	delete(tree, "./DevInfo/Mod")
	nodes["./DevInfo"] = "Man/Ext"
	begin(2)
	session1("a", 3)
	session1("b", 100)
	if got := snapshot("b"); len(got) != 2 {
		s.t.Errorf("then %+v", got)
	}
	s.clock.Add(24 * time.Hour)
	begin(2)
	if rounds := session1("a", 100); rounds != 3 {
		s.t.Errorf("%d rounds after one that wasn't answered", rounds)
	}
	history, err := s.Inventories().History(ctx, "a", 0, 100)
	s.must(err)
	if len(history) != 4 || history[0].URI != "./DevInfo/Mod" || history[0].After != nil {
		s.t.Errorf("history %+v", history)
	}
	// Nothing is left of what was asked, but the round that b has.
	session1("b", 100)
	var n int
	s.must(s.database.QueryRowContext(ctx, `SELECT COUNT(*) FROM dm_task`).Scan(&n))
	if n != 0 {
		s.t.Errorf("%d contents are left", n)
	}
	s.must(s.Inventories().SurveyNow(ctx, "a"))
	begin(1)
	_, _, err = s.Inventories().Surveyed(ctx, "nobody")
	s.want(err, store.ErrNotFound)
	s.must(s.Close(ctx, "a", s.clock.Now(), "left"))
	if waits := s.waits("a"); len(waits) != 0 {
		s.t.Errorf("of a closed device %v wait", waits)
	}
	s.clock.Add(24 * time.Hour)
	begin(1)
	if _, err := strconv.Atoi(s.waits("b")[0]); err != nil {
		s.t.Error(err)
	}
}
