package policy

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const retry = time.Hour

func wanted(settings ...Setting) Result {
	r := Result{}
	for _, s := range settings {
		r.Values = append(r.Values, Value{Setting: s, Set: "s"})
	}
	slices.SortFunc(r.Values, func(a, b Value) int {
		if a.Setting.URI < b.Setting.URI {
			return -1
		}
		return 1
	})
	return r
}

func told(s State) []string {
	var out []string
	for _, c := range s.Commands {
		for _, change := range c.Changes {
			out = append(out, fmt.Sprintf("%s %s %s=%s", c.ID, change.Verb, change.Setting.URI, change.Setting.Data))
		}
	}
	return out
}

func answered(s State, at time.Time, codes ...int) State {
	var outcomes []session.Outcome
	for i, code := range codes {
		outcomes = append(outcomes, session.Outcome{Task: s.Commands[i].ID, Code: code})
	}
	return s.Record(outcomes, at)
}

// step of a story: what is wanted, what then waits, what the device answers.
type step struct {
	want    []Setting
	claimed []string
	after   time.Duration
	waits   []string
	codes   []int
}

func TestWhatIsSent(t *testing.T) {
	a := Setting{URI: "./A", Data: "1"}
	a2 := Setting{URI: "./A", Data: "2"}
	for name, story := range map[string][]step{
		"a value is added, replaced, removed": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{200}},
			{want: []Setting{a}},
			{want: []Setting{a2}, waits: []string{"p2 Replace ./A=2"}, codes: []int{200}},
			{waits: []string{"p3 Delete ./A="}, codes: []int{200}},
			{},
		},
		"a node that devices have is replaced at once": {
			{want: []Setting{{URI: "./A", Data: "1", There: true}}, waits: []string{"p1 Replace ./A=1"}, codes: []int{200}},
			{want: []Setting{{URI: "./A", Data: "1", There: true}}},
		},
		"and added where it isn't there after all": {
			{want: []Setting{{URI: "./A", Data: "1", There: true}}, waits: []string{"p1 Replace ./A=1"}, codes: []int{404}},
			{want: []Setting{{URI: "./A", Data: "1", There: true}}, waits: []string{"p2 Add ./A=1"}, codes: []int{200}},
			{want: []Setting{{URI: "./A", Data: "1", There: true}}},
		},
		"a command that waits keeps its name": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}},
			{want: []Setting{a, {URI: "./B", Data: "1"}}, waits: []string{"p1 Add ./A=1", "p2 Add ./B=1"}},
			{want: []Setting{{URI: "./B", Data: "1"}}, waits: []string{"p2 Add ./B=1"}},
		},
		"a node that is there already": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{418}},
			{want: []Setting{a}, waits: []string{"p2 Replace ./A=1"}, codes: []int{200}},
			{want: []Setting{a}},
		},
		"a node that somebody has removed": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{200}},
			{want: []Setting{a2}, waits: []string{"p2 Replace ./A=2"}, codes: []int{404}},
			{want: []Setting{a2}, waits: []string{"p3 Add ./A=2"}, codes: []int{200}},
			{waits: []string{"p4 Delete ./A="}, codes: []int{404}},
			{},
		},
		"a refused value is tried again later, another one at once": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{500}},
			{want: []Setting{a}},
			{want: []Setting{a2}, waits: []string{"p2 Add ./A=2"}, codes: []int{500}},
			{want: []Setting{a2}, after: retry, waits: []string{"p3 Add ./A=2"}, codes: []int{200}},
		},
		"a device that says yes and no": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{418}},
			{want: []Setting{a}, waits: []string{"p2 Replace ./A=1"}, codes: []int{404}},
			{want: []Setting{a}, waits: []string{"p3 Add ./A=1"}, codes: []int{418}},
			{want: []Setting{a}, waits: []string{"p4 Replace ./A=1"}, codes: []int{404}},
			{want: []Setting{a}, waits: []string{"p5 Add ./A=1"}, codes: []int{418}},
			{want: []Setting{a}},
		},
		"a value that is kept": {
			{want: []Setting{{URI: "./A", Data: "1", After: Keep}}, waits: []string{"p1 Add ./A=1"}, codes: []int{200}},
			{},
		},
		"a value that leaves another": {
			{want: []Setting{{URI: "./A", Data: "1", After: Leave, Leave: "0"}}, waits: []string{"p1 Add ./A=1"}, codes: []int{200}},
			{waits: []string{"p2 Replace ./A=0"}, codes: []int{200}},
			{},
		},
		"what happens afterwards can change without a command": {
			{want: []Setting{{URI: "./A", Data: "1", After: Keep}}, waits: []string{"p1 Add ./A=1"}, codes: []int{200}},
			{want: []Setting{a}},
			{waits: []string{"p2 Delete ./A="}, codes: []int{200}},
		},
		"a node that shall be absent": {
			{want: []Setting{{URI: "./A", Absent: true}}, waits: []string{"p1 Delete ./A="}, codes: []int{404}},
			{want: []Setting{{URI: "./A", Absent: true}}},
			{},
			{want: []Setting{a}, waits: []string{"p2 Add ./A=1"}, codes: []int{200}},
			{want: []Setting{{URI: "./A", Absent: true}}, waits: []string{"p3 Delete ./A="}, codes: []int{200}},
		},
		"what was never sent isn't removed": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}},
			{},
		},
		"what was sent without an answer is": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}},
			{claimed: []string{"p1"}, waits: []string{"p2 Delete ./A="}, codes: []int{200}},
			{},
		},
		"a subtree that may be gone with its root": {
			{want: []Setting{{URI: "./N", Format: "node"}, {URI: "./N/A", Data: "1"}}, waits: []string{"p1 Add ./N=", "p2 Add ./N/A=1"}, codes: []int{200, 200}},
			{waits: []string{"p3 Delete ./N="}},
			{claimed: []string{"p3"}, want: []Setting{{URI: "./N", Format: "node"}, {URI: "./N/A", Data: "1"}}, waits: []string{"p4 Add ./N=", "p5 Add ./N/A=1"}, codes: []int{200, 418}},
			{want: []Setting{{URI: "./N", Format: "node"}, {URI: "./N/A", Data: "1"}}, waits: []string{"p6 Replace ./N/A=1"}, codes: []int{200}},
			{waits: []string{"p7 Delete ./N="}, codes: []int{200}},
			{},
		},
		"a subtree goes with its root": {
			{want: []Setting{{URI: "./N", Format: "node"}, {URI: "./N/A", Data: "1"}}, waits: []string{"p1 Add ./N=", "p2 Add ./N/A=1"}, codes: []int{200, 200}},
			{waits: []string{"p3 Delete ./N="}, codes: []int{200}},
			{},
		},
		"but not while something in it is wanted": {
			{want: []Setting{{URI: "./N", Format: "node"}, {URI: "./N/A", Data: "1"}}, waits: []string{"p1 Add ./N=", "p2 Add ./N/A=1"}, codes: []int{200, 200}},
			{want: []Setting{{URI: "./N/A", Data: "1"}}},
			{waits: []string{"p3 Delete ./N="}, codes: []int{200}},
		},
		"an interior node that was there stays": {
			{want: []Setting{{URI: "./N", Format: "node"}}, waits: []string{"p1 Add ./N="}, codes: []int{418}},
			{want: []Setting{{URI: "./N", Format: "node"}}},
			{want: []Setting{{URI: "./N", Format: "node"}}},
			{},
		},
		"a permanent node": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{405}},
			{want: []Setting{a}, waits: []string{"p2 Replace ./A=1"}, codes: []int{405}},
			{want: []Setting{a}},
		},
		"a node that goes with its parent": {
			{want: []Setting{{URI: "./C/H/E", Data: "1", RemoveAt: "./C/H"}}, waits: []string{"p1 Add ./C/H/E=1"}, codes: []int{200}},
			{waits: []string{"p2 Delete ./C/H="}, codes: []int{500}},
			{},
			{after: retry, waits: []string{"p3 Delete ./C/H="}, codes: []int{200}},
			{},
		},
		"two nodes that go with one parent": {
			{want: []Setting{{URI: "./C/H/E", Data: "1", RemoveAt: "./C/H"}, {URI: "./C/H/F", Data: "2", RemoveAt: "./C/H"}}, waits: []string{"p1 Add ./C/H/E=1", "p2 Add ./C/H/F=2"}, codes: []int{200, 200}},
			{want: []Setting{{URI: "./C/H/F", Data: "2", RemoveAt: "./C/H"}}},
			{waits: []string{"p3 Delete ./C/H="}, codes: []int{200}},
			{},
		},
		"a leaf becomes an interior node": {
			{want: []Setting{a}, waits: []string{"p1 Add ./A=1"}, codes: []int{200}},
			{want: []Setting{{URI: "./A", Format: "node"}}, waits: []string{"p2 Delete ./A="}, codes: []int{200}},
			{want: []Setting{{URI: "./A", Format: "node"}}, waits: []string{"p3 Add ./A="}, codes: []int{200}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var s State
			for i, st := range story {
				now := noon.Add(st.after)
				s = s.Next(wanted(st.want...), int64(i), st.claimed, now, retry)
				if got := told(s); !slices.Equal(got, st.waits) {
					t.Fatalf("step %d: %q wait, want %q\n%+v", i, got, st.waits, s)
				}
				s = answered(s, now, st.codes...)
			}
		})
	}
}

func TestAtomicSets(t *testing.T) {
	r := wanted(Setting{URI: "./A", Data: "1"}, Setting{URI: "./B", Data: "2"}, Setting{URI: "./C", Data: "3"})
	r.Values[1].Set = "other"
	r.atomic = map[string]bool{"s": true}
	s := State{}.Next(r, 1, nil, noon, retry)
	if len(s.Commands) != 2 || !s.Commands[0].Atomic || len(s.Commands[0].Changes) != 2 {
		t.Fatalf("%+v", s.Commands)
	}
	g, ok := s.Commands[0].Task().Command.(*syncml.Group)
	if !ok || !g.Atomic || len(g.Commands) != 2 {
		t.Fatalf("%+v", s.Commands[0].Task())
	}
	part := func(codes ...int) session.Outcome {
		o := session.Outcome{Task: s.Commands[0].ID, Code: syncml.StatusAtomicFailed}
		for _, c := range codes {
			o.Parts = append(o.Parts, session.Part{Code: c})
		}
		return o
	}
	// The second is there: only that is known now, and both come again.
	next := s.Record([]session.Outcome{part(216, 418)}, noon).Next(r, 1, nil, noon, retry)
	if c := next.Commands[0]; !c.Atomic || c.Changes[0].Verb != syncml.Add || c.Changes[1].Verb != syncml.Replace {
		t.Errorf("after 216, 418: %+v", c)
	}
	// The second is refused: the first has no part in it and waits for the retry with it.
	next = s.Record([]session.Outcome{part(216, 500)}, noon)
	if n := next.Nodes["./C"]; n.Code != 500 || next.Nodes["./A"].Code != 0 {
		t.Errorf("after 216, 500: %+v", next.Nodes)
	}
	// No part is to blame: all are.
	next = s.Record([]session.Outcome{part(215, 216)}, noon)
	if next.Nodes["./A"].Code != 507 || next.Nodes["./C"].Code != 507 {
		t.Errorf("after 215, 216: %+v", next.Nodes)
	}
}

func TestDataOfCommands(t *testing.T) {
	for _, c := range []struct {
		s      Setting
		format string
		data   string
		markup bool
	}{
		{Setting{Data: "x"}, "chr", "x", false},
		{Setting{Format: "int", Data: "7"}, "int", "7", false},
		{Setting{Format: "b64", Data: "AAE="}, "b64", "AAE=", false},
		{Setting{Format: "bin", Data: "AAE="}, "bin", "\x00\x01", false},
		{Setting{Format: "xml", Data: "<a/>"}, "xml", "<a/>", true},
		{Setting{Format: "node"}, "node", "", false},
	} {
		c.s.URI = "./A"
		op := (Change{Verb: syncml.Add, Setting: c.s}).op()
		i := op.Items[0]
		if i.Meta.Format != c.format || string(i.Data) != c.data || i.Markup != c.markup || i.HasData != (c.format != "node") {
			t.Errorf("%+v: %+v", c.s, i)
		}
	}
}

// handset is a device with a tree.
type handset struct{ tree *tree.Tree }

func newHandset() *handset {
	p := &handset{tree.New(tree.Limits{})}
	p.tree.ImplicitAdd = true
	p.tree.Put("./P", tree.Node{Value: tree.Value{Format: "node"}}, noon)
	p.tree.Put("./P/b", tree.Node{Value: tree.Value{Data: []byte("its own")}}, noon)
	return p
}

func (p *handset) do(c syncml.Command) int {
	op := c.(*syncml.Op)
	i := op.Items[0]
	u, err := tree.ParseURI(i.Target.URI)
	if err != nil {
		return syncml.StatusBadRequest
	}
	v := tree.Value{Format: i.Meta.Format, Data: i.Data}
	switch op.Verb {
	case syncml.Add:
		return p.tree.Add("s", u, v, noon)
	case syncml.Replace:
		return p.tree.Replace("s", u, v, noon)
	case syncml.Delete:
		return p.tree.Delete("s", u, noon)
	case syncml.Copy, syncml.Exec, syncml.Get:
	}
	return syncml.StatusNotImplemented
}

func (p *handset) execute(k session.Task) session.Outcome {
	g, ok := k.Command.(*syncml.Group)
	if !ok {
		return session.Outcome{Task: k.ID, Code: p.do(k.Command)}
	}
	o := session.Outcome{Task: k.ID, Code: syncml.StatusOK}
	p.tree.Begin()
	for i, c := range g.Commands {
		code := syncml.StatusNotExecuted
		if o.Code == syncml.StatusOK {
			code = p.do(c)
		}
		o.Parts = append(o.Parts, session.Part{Code: code})
		if code != syncml.StatusOK && o.Code == syncml.StatusOK {
			o.Code = syncml.StatusAtomicFailed
			for j := range i {
				o.Parts[j].Code = syncml.StatusRolledBack
			}
		}
	}
	if o.Code == syncml.StatusOK {
		p.tree.Commit()
	} else {
		p.tree.Rollback()
	}
	return o
}

// randomWish of nodes that meet each other: ./P/c now has nodes below it, now
// isn't to be there.
func randomWish(r *rand.Rand) Result {
	var all []Setting
	for _, uri := range []string{"./P/a", "./P/b", "./P/d"} {
		switch r.IntN(4) {
		case 0, 1:
			all = append(all, Setting{URI: uri, Data: fmt.Sprint(r.IntN(3))})
		case 2:
			all = append(all, Setting{URI: uri, Absent: true})
		}
	}
	switch r.IntN(3) {
	case 0:
		all = append(all, Setting{URI: "./P/c", Absent: true})
	case 1:
		all = append(all, Setting{URI: "./P/c", Format: "node"})
		for _, uri := range []string{"./P/c/x", "./P/c/y"} {
			if r.IntN(2) == 0 {
				all = append(all, Setting{URI: uri, Data: fmt.Sprint(r.IntN(3))})
			}
		}
	}
	w := wanted(all...)
	for i := range w.Values {
		w.Values[i].Set = []string{"s", "t"}[r.IntN(2)]
	}
	w.atomic = map[string]bool{"t": r.IntN(2) == 0}
	return w
}

// Wishes change while sessions break off before and after a command is executed.
// When the line holds at last, the device has what is wanted last, and when
// nothing is wanted any more, nothing of ours is left.
func TestDevicesGetThereInTheEnd(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := newHandset()
		var s State
		var claimed []string
		session1 := func(lossy bool) {
			claimed = slices.DeleteFunc(claimed, func(id string) bool {
				return !slices.ContainsFunc(s.Commands, func(c Command) bool { return c.ID == id })
			})
			var outcomes []session.Outcome
			for _, c := range s.Commands {
				if lossy && r.IntN(3) == 0 {
					break // it hangs up
				}
				claimed = append(claimed, c.ID)
				if lossy && r.IntN(4) == 0 {
					continue // the command is lost
				}
				o := p.execute(c.Task())
				if lossy && r.IntN(4) == 0 {
					continue // the status is lost
				}
				outcomes = append(outcomes, o)
				claimed = slices.DeleteFunc(claimed, func(id string) bool { return id == c.ID })
			}
			s = s.Record(outcomes, noon)
			// As in a database.
			text, err := json.Marshal(s)
			if err != nil {
				t.Fatal(err)
			}
			s = State{}
			if err := json.Unmarshal(text, &s); err != nil {
				t.Fatal(err)
			}
		}
		settle := func(w Result) {
			for range 12 {
				if s = s.Next(w, 1, claimed, noon, retry); len(s.Commands) == 0 {
					return
				}
				session1(false)
			}
			t.Fatalf("seed %d: still %q\n%+v", seed, told(s), s)
		}
		var w Result
		for range 1 + r.IntN(8) {
			w = randomWish(r)
			s = s.Next(w, 1, claimed, noon, retry)
			session1(true)
		}
		settle(w)
		for _, v := range w.Values {
			u, _ := tree.ParseURI(v.Setting.URI)
			entries, code := p.tree.Get("s", u, noon)
			switch {
			case v.Setting.Absent && code != syncml.StatusNotFound,
				!v.Setting.Absent && code != syncml.StatusOK,
				v.Setting.Format == "" && !v.Setting.Absent && string(entries[0].Value.Data) != v.Setting.Data:
				t.Fatalf("seed %d: %+v, the device has %+v, %d\n%+v", seed, v.Setting, entries, code, s)
			}
		}
		settle(Result{})
		entries, _ := p.tree.Get("s", tree.URI{Path: []string{"P"}, List: "StructData"}, noon)
		for _, e := range entries {
			if e.Value.Format != "node" && string(e.Value.Data) != "its own" {
				t.Fatalf("seed %d: %s=%s is left", seed, e.URI, e.Value.Data)
			}
		}
		if len(s.Nodes) != 0 {
			t.Fatalf("seed %d: %+v is left", seed, s.Nodes)
		}
	}
}

func TestStateStaysAsItIs(t *testing.T) {
	s := State{}.Next(wanted(Setting{URI: "./A", Data: "1"}), 1, nil, noon, retry)
	s = answered(s, noon, 200)
	before := fmt.Sprintf("%+v", s)
	s.Next(wanted(), 2, nil, noon, retry).Record(nil, noon)
	next := s.Next(wanted(Setting{URI: "./A", Data: "2"}), 2, nil, noon, retry)
	answered(next, noon, 404)
	if after := fmt.Sprintf("%+v", s); after != before || !reflect.DeepEqual(next.Commands, s.Next(wanted(Setting{URI: "./A", Data: "2"}), 2, nil, noon, retry).Commands) {
		t.Errorf("was %s, is %s", before, after)
	}
}
