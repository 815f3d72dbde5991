package policytest

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/policy"
	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Feeder is a store that is tested, with what happens around it.
type Feeder interface {
	policy.Store
	// PutDevice makes a device, or changes it; either marks it.
	PutDevice(t testing.TB, f policy.Facts)
	// Waiting are the commands of policies that a session would get, in order.
	Waiting(t testing.TB, device string) []session.Task
	// Claim and Answer are what a session does to them, by the IDs in Waiting.
	Claim(t testing.TB, device string, tasks ...string)
	Answer(t testing.TB, device string, at time.Time, outcomes ...session.Outcome)
}

// Run the suite on what open makes; each call makes an empty one.
func Run(t *testing.T, open func(t *testing.T) Feeder) {
	t.Run("every version is kept", func(t *testing.T) { testVersions(t, open(t)) })
	t.Run("scopes", func(t *testing.T) { testScopes(t, open(t)) })
	t.Run("a change marks whom it touches", func(t *testing.T) { testMarks(t, open(t)) })
	t.Run("commands wait", func(t *testing.T) { testCommands(t, open(t)) })
	t.Run("many are put, each by itself", func(t *testing.T) { testMany(t, open(t)) })
	t.Run("what happens meanwhile isn't lost", func(t *testing.T) { testChanged(t, open(t)) })
	t.Run("outcomes are told once", func(t *testing.T) { testOutcomes(t, open(t)) })
	t.Run("what is due comes back", func(t *testing.T) { testDue(t, open(t)) })
	t.Run("from a document to a confirmation and back", func(t *testing.T) { testStory(t, open(t)) })
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func document(value string) policy.Document {
	return policy.Document{
		Sets: []policy.Set{
			{Name: "base", Settings: []policy.Setting{{URI: "./A", Data: value}, {URI: "./B/b", Format: "int", Data: "7"}}},
			{Name: "field", Groups: []string{"field"}, Settings: []policy.Setting{{URI: "./A", Data: "field"}}},
		},
		Links: []policy.Link{{Unit: "corp", Set: "base", Order: 1}, {Unit: "corp/sales", Set: "field", Order: 1}},
	}
}

func save(t *testing.T, s policy.Store, number int64, d policy.Document, touched ...policy.Scope) {
	t.Helper()
	if err := s.Save(t.Context(), policy.Version{Number: number, At: noon, By: "admin", Comment: "why", Document: d}, touched); err != nil {
		t.Fatal(err)
	}
}

func testVersions(t *testing.T, s Feeder) {
	ctx := t.Context()
	if v, err := s.Document(ctx, 0); err != nil || v.Number != 0 || len(v.Document.Sets) != 0 {
		t.Fatalf("of an empty store: %+v, %v", v, err)
	}
	save(t, s, 1, document("one"))
	save(t, s, 2, document("two"))
	for _, number := range []int64{2, 4, 0} {
		if err := s.Save(ctx, policy.Version{Number: number, At: noon}, nil); !errors.Is(err, policy.ErrChanged) {
			t.Errorf("number %d after 2: %v", number, err)
		}
	}
	for number, want := range map[int64]string{0: "two", 1: "one", 2: "two"} {
		v, err := s.Document(ctx, number)
		if err != nil || !reflect.DeepEqual(v.Document, document(want)) || !v.At.Equal(noon) || v.By != "admin" || v.Comment != "why" {
			t.Errorf("version %d: %+v, %v", number, v, err)
		}
	}
	if _, err := s.Document(ctx, 3); !errors.Is(err, policy.ErrNoVersion) {
		t.Errorf("a version that isn't there: %v", err)
	}
}

// fleet of devices; "corp/sales2" isn't below "corp/sales".
func fleet(t *testing.T, s Feeder) {
	for _, f := range []policy.Facts{
		{ID: "a", Unit: "corp/sales", User: "anna", Groups: []string{"field", "pilot"}, Inventory: map[string]string{"./DevInfo/Mod": "X1"}},
		{ID: "b", Unit: "corp/sales", Groups: []string{"office"}},
		{ID: "c", Unit: "corp/sales/emea", Groups: []string{"field"}},
		{ID: "d", Unit: "corp/sales2", Groups: []string{"field"}},
		{ID: "e", Unit: "corp"},
		{ID: "f"},
	} {
		s.PutDevice(t, f)
	}
}

func testScopes(t *testing.T, s Feeder) {
	fleet(t, s)
	enough := errors.New("enough")
	for _, c := range []struct {
		scopes []policy.Scope
		want   []string
	}{
		{nil, nil},
		{[]policy.Scope{{}}, []string{"a", "b", "c", "d", "e", "f"}},
		{[]policy.Scope{{Unit: "corp/sales"}}, []string{"a", "b", "c"}},
		{[]policy.Scope{{Unit: "corp", Groups: []string{"field", "pilot"}}}, []string{"a", "c", "d"}},
		{[]policy.Scope{{Groups: []string{"office"}}, {Unit: "corp/sales2"}}, []string{"b", "d"}},
		{[]policy.Scope{{Unit: "corp/sales", Groups: []string{"office"}}, {Groups: []string{"pilot"}}, {Unit: "corp/sales/emea"}}, []string{"a", "b", "c"}},
		{[]policy.Scope{{Unit: "other"}}, nil},
	} {
		var got []string
		err := s.Devices(t.Context(), c.scopes, policy.Reading{}, func(devices []policy.Facts) error {
			for _, f := range devices {
				got = append(got, f.ID)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.scopes, got, c.want)
		}
		err = s.Devices(t.Context(), c.scopes, policy.Reading{}, func([]policy.Facts) error { return enough })
		if errors.Is(err, enough) != (len(c.want) > 0) {
			t.Errorf("%+v: ended by %v", c.scopes, err)
		}
	}
	for _, c := range []struct {
		reading policy.Reading
		want    string
	}{
		{policy.Reading{}, "any"},
		{policy.Reading{URIs: []string{"./DevInfo/Mod", "./Other"}}, "X1"},
		{policy.Everything, "X1"},
	} {
		err := s.Devices(t.Context(), []policy.Scope{{Groups: []string{"pilot"}}}, c.reading, func(devices []policy.Facts) error {
			if got := devices[0].Inventory["./DevInfo/Mod"]; got != c.want && c.want != "any" {
				t.Errorf("reading %+v: model %q", c.reading, got)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	d, err := s.Device(t.Context(), "a")
	want := policy.Facts{ID: "a", Unit: "corp/sales", User: "anna", Groups: []string{"field", "pilot"}, Inventory: map[string]string{"./DevInfo/Mod": "X1"}}
	if err != nil || d.Facts.ID != want.ID || d.Facts.Unit != want.Unit || d.Facts.User != want.User || !slices.Equal(d.Facts.Groups, want.Groups) || d.Facts.Inventory["./DevInfo/Mod"] != "X1" {
		t.Errorf("facts %+v, %v", d.Facts, err)
	}
	if _, err := s.Device(t.Context(), "nobody"); !errors.Is(err, policy.ErrNoDevice) {
		t.Errorf("device that isn't there: %v", err)
	}
}

func marked(t *testing.T, s Feeder, at time.Time, n int) []policy.Marked {
	t.Helper()
	all, err := s.Marked(t.Context(), at, n)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func markedIDs(t *testing.T, s Feeder) []string {
	t.Helper()
	var ids []string
	for _, m := range marked(t, s, noon, 100) {
		ids = append(ids, m.Facts.ID)
	}
	slices.Sort(ids)
	return ids
}

// settle takes all marks away.
func settle(t *testing.T, s Feeder) {
	t.Helper()
	for _, m := range marked(t, s, noon, 100) {
		putOne(t, s, m, m.State)
	}
}

// puts says whether it was put.
func puts(t *testing.T, s policy.Store, m policy.Marked, next policy.State) bool {
	t.Helper()
	put, err := s.Put(t.Context(), []policy.Computed{{Marked: m, Next: next}})
	if err != nil || len(put) != 1 {
		t.Fatal(put, err)
	}
	return put[0]
}

func putOne(t *testing.T, s policy.Store, m policy.Marked, next policy.State) {
	t.Helper()
	if !puts(t, s, m, next) {
		t.Fatalf("the state of %s wasn't put", m.Facts.ID)
	}
}

func testMarks(t *testing.T, s Feeder) {
	fleet(t, s)
	if got := markedIDs(t, s); len(got) != 6 {
		t.Errorf("new devices: %v are marked", got)
	}
	settle(t, s)
	if got := markedIDs(t, s); len(got) != 0 {
		t.Errorf("after all were put: %v", got)
	}
	save(t, s, 1, document("one"), policy.Scope{Unit: "corp/sales"}, policy.Scope{Unit: "corp", Groups: []string{"field"}})
	if got := markedIDs(t, s); !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("after a document: %v", got)
	}
	if err := s.Save(t.Context(), policy.Version{Number: 1, At: noon}, []policy.Scope{{}}); !errors.Is(err, policy.ErrChanged) {
		t.Fatal(err)
	}
	settle(t, s)
	if err := s.Mark(t.Context(), "f", "nobody"); err != nil {
		t.Fatal(err)
	}
	if err := s.Mark(t.Context(), "b", "f"); err != nil {
		t.Fatal(err)
	}
	if all := marked(t, s, noon, 1); len(all) != 1 || all[0].Facts.ID != "f" {
		t.Errorf("the oldest mark: %+v", all)
	}
}

func command(id, uri, data string) policy.Command {
	return policy.Command{ID: id, Changes: []policy.Change{{Verb: syncml.Replace, Setting: policy.Setting{URI: uri, Data: data}}}}
}

func one(t *testing.T, s Feeder, device string) policy.Marked {
	t.Helper()
	m, err := s.Device(t.Context(), device)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func put(t *testing.T, s Feeder, device string, commands ...policy.Command) {
	t.Helper()
	m := one(t, s, device)
	m.State.Commands = commands
	putOne(t, s, m, m.State)
}

func uris(tasks []session.Task) []string {
	var out []string
	for _, k := range tasks {
		out = append(out, k.Command.(*syncml.Op).Items[0].Target.URI)
	}
	return out
}

func testCommands(t *testing.T, s Feeder) {
	s.PutDevice(t, policy.Facts{ID: "a"})
	s.PutDevice(t, policy.Facts{ID: "b"})
	put(t, s, "b", command("p1", "./Other", "1"))
	put(t, s, "a", command("p1", "./A", "1"), command("p2", "./B", "2"), command("p3", "./C", "3"))
	before := s.Waiting(t, "a")
	if got := uris(before); !slices.Equal(got, []string{"./A", "./B", "./C"}) {
		t.Fatalf("%v wait", got)
	}
	s.Claim(t, "a", before[2].ID)
	put(t, s, "a", command("p4", "./D", "4"), command("p3", "./C", "3"), command("p1", "./A", "1"))
	after := s.Waiting(t, "a")
	got := uris(after)
	slices.Sort(got)
	if !slices.Equal(got, []string{"./A", "./C", "./D"}) {
		t.Errorf("then %v wait", got)
	}
	for _, k := range after {
		uri := k.Command.(*syncml.Op).Items[0].Target.URI
		if uri == "./C" && (k.ID != before[2].ID || k.Attempt != 1) || uri == "./A" && (k.ID != before[0].ID || k.Attempt != 0) {
			t.Errorf("%s is %s with attempt %d now", uri, k.ID, k.Attempt)
		}
	}
	if got := uris(s.Waiting(t, "b")); !slices.Equal(got, []string{"./Other"}) {
		t.Errorf("of another device %v wait", got)
	}
	if m := one(t, s, "a"); len(m.State.Commands) != 3 || !slices.Equal(m.Claimed, []string{"p3"}) {
		t.Errorf("state %+v, claimed %v", m.State, m.Claimed)
	}
}

// Of many that are put together each is put or isn't.
func testMany(t *testing.T, s Feeder) {
	var all []policy.Computed
	for i := range 5 {
		id := fmt.Sprint("d", i)
		s.PutDevice(t, policy.Facts{ID: id})
		m := one(t, s, id)
		next := m.State
		next.Commands = []policy.Command{command("p1", "./Same", "1"), command("p2", "./Own", id)}
		all = append(all, policy.Computed{Marked: m, Next: next})
	}
	if err := s.Mark(t.Context(), "d1"); err != nil {
		t.Fatal(err)
	}
	all[3].Facts.ID = "nobody"
	put, err := s.Put(t.Context(), all)
	if err != nil || !slices.Equal(put, []bool{true, false, true, false, true}) {
		t.Fatalf("put %v, %v", put, err)
	}
	for i, want := range []int{2, 0, 2, 0, 2} {
		id := fmt.Sprint("d", i)
		tasks := s.Waiting(t, id)
		if len(tasks) != want || want > 0 && string(tasks[1].Command.(*syncml.Op).Items[0].Data) != id {
			t.Errorf("%s: %+v wait", id, tasks)
		}
	}
	if put, err := s.Put(t.Context(), nil); err != nil || len(put) != 0 {
		t.Errorf("nothing: %v, %v", put, err)
	}
}

func testChanged(t *testing.T, s Feeder) {
	for what, happen := range map[string]func(id, task string){
		"a mark":          func(id, _ string) { s.Mark(t.Context(), id) },
		"a claim":         func(id, task string) { s.Claim(t, id, task) },
		"an answer":       func(id, task string) { s.Answer(t, id, noon, session.Outcome{Task: task, Code: 200}) },
		"another put":     func(id, _ string) { put(t, s, id) },
		"another version": func(string, string) { save(t, s, 1, document("one"), policy.Scope{}) },
	} {
		id := "during " + what
		s.PutDevice(t, policy.Facts{ID: id})
		put(t, s, id, command("p1", "./A", "1"))
		m := one(t, s, id)
		happen(id, s.Waiting(t, id)[0].ID)
		if puts(t, s, m, policy.State{}) {
			t.Errorf("put after %s", what)
		}
	}
}

func testOutcomes(t *testing.T, s Feeder) {
	s.PutDevice(t, policy.Facts{ID: "a"})
	put(t, s, "a", command("p1", "./A", "1"), command("p2", "./B", "2"))
	tasks := s.Waiting(t, "a")
	s.Claim(t, "a", tasks[0].ID, tasks[1].ID)
	o := session.Outcome{Task: tasks[0].ID, Code: 406}
	s.Answer(t, "a", noon, o)
	s.Answer(t, "a", noon.Add(time.Minute), o) // the same once more
	all := marked(t, s, noon, 10)
	if len(all) != 1 || len(all[0].Outcomes) != 1 || all[0].Outcomes[0].Task != "p1" || all[0].Outcomes[0].Code != 406 || !all[0].At.Equal(noon) {
		t.Fatalf("after an answer: %+v", all)
	}
	if !slices.Equal(all[0].Claimed, []string{"p2"}) {
		t.Errorf("claimed %v", all[0].Claimed)
	}
	putOne(t, s, all[0], all[0].State.Record(all[0].Outcomes, noon))
	if m := one(t, s, "a"); len(m.Outcomes) != 0 || m.State.Nodes["./A"].Code != 406 || len(m.State.Commands) != 1 {
		t.Errorf("after Put: %+v", m)
	}
	if got := markedIDs(t, s); len(got) != 0 {
		t.Errorf("%v are marked", got)
	}
}

func testDue(t *testing.T, s Feeder) {
	for i, due := range []time.Time{{}, noon, noon.Add(time.Hour)} {
		id := fmt.Sprint(i)
		s.PutDevice(t, policy.Facts{ID: id})
		m := one(t, s, id)
		m.State.Due = due
		putOne(t, s, m, m.State)
	}
	for after, want := range map[time.Duration]int{-time.Second: 0, 0: 1, time.Hour: 2} {
		if got := marked(t, s, noon.Add(after), 10); len(got) != want {
			t.Errorf("%v after noon %d are due, want %d", after, len(got), want)
		}
	}
}

func testStory(t *testing.T, s Feeder) {
	ctx := t.Context()
	e := policy.NewEngine(s, policy.Config{Now: func() time.Time { return noon }})
	fleet(t, s)
	refresh := func() {
		t.Helper()
		for {
			n, err := e.Refresh(ctx, 4)
			if err != nil {
				t.Fatal(err)
			}
			if n == 0 {
				return
			}
		}
	}
	// check in: every command that waits is done.
	checkIn := func(id string) []string {
		t.Helper()
		var did []string
		for _, k := range s.Waiting(t, id) {
			op := k.Command.(*syncml.Op)
			did = append(did, fmt.Sprintf("%s %s=%s", op.Verb, op.Items[0].Target.URI, op.Items[0].Data))
			s.Claim(t, id, k.ID)
			s.Answer(t, id, noon, session.Outcome{Task: k.ID, Code: 200})
		}
		return did
	}
	expect := func(id string, want ...string) {
		t.Helper()
		refresh()
		if did := checkIn(id); !slices.Equal(did, want) {
			t.Errorf("%s did %q, want %q", id, did, want)
		}
		refresh()
		if did := checkIn(id); len(did) != 0 {
			t.Errorf("%s did %q again", id, did)
		}
	}
	if _, err := e.Apply(ctx, document("one"), 0, "admin", ""); err != nil {
		t.Fatal(err)
	}
	expect("a", "Add ./A=field", "Add ./B/b=7")
	expect("b", "Add ./A=one", "Add ./B/b=7")
	expect("f")
	p, err := e.Plan(ctx, document("two"))
	if err != nil || p.Touched != 5 || p.Changed != 3 { // a and c have the value of their group
		t.Errorf("plan %+v, %v", p, err)
	}
	if _, err := e.Apply(ctx, document("two"), 0, "admin", ""); !errors.Is(err, policy.ErrChanged) {
		t.Errorf("with an old base: %v", err)
	}
	if _, err := e.Apply(ctx, document("two"), 1, "admin", ""); err != nil {
		t.Fatal(err)
	}
	expect("a")
	expect("b", "Replace ./A=two")
	s.PutDevice(t, policy.Facts{ID: "b"}) // moved to the top
	expect("b", "Delete ./A=", "Delete ./B/b=")
	if v, err := e.Version(ctx, 1); err != nil || v.By != "admin" || len(v.Document.Sets) != 2 {
		t.Errorf("the first version: %+v, %v", v, err)
	}
	x, err := e.Explain(ctx, "a")
	if err != nil || len(x.Result.Values) != 2 || x.Nodes["./A"].Progress != policy.Confirmed || x.Result.Values[0].Lost[0].Set != "base" {
		t.Errorf("explained: %+v, %v", x, err)
	}
}
