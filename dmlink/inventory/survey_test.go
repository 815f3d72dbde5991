package inventory

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
	"github.com/roamgate/roamgate/dmlink/syncml"
	"github.com/roamgate/roamgate/dmlink/tree"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// phone is a device's tree with these leaves.
func phone(leaves map[string]string) *tree.Tree {
	p := tree.New(tree.Limits{})
	for uri, data := range leaves {
		p.Put(uri, tree.Node{Value: tree.Value{Data: []byte(data)}}, noon)
	}
	return p
}

var leaves = map[string]string{
	"./DevInfo/DevId": "urn:uuid:1", "./DevInfo/Man": "Contoso", "./DevInfo/Mod": "X1", "./DevInfo/DmV": "1.2", "./DevInfo/Lang": "en",
	"./DevDetail/FwV": "7", "./DevDetail/URI/MaxDepth": "0", "./DevDetail/Ext/Microsoft/OSPlatform": "Windows",
	"./SCM/Inventory/Deployed/c1/Name": "Mail", "./SCM/Inventory/Deployed/c1/Version": "2.4", "./SCM/Inventory/Deployed/c1/State": "20",
	"./SCM/Inventory/Deployed/c2/Version": "1.0",
	"./Secret/Key":                        "not asked for",
}

// ask a device a few nodes a round, with the survey stored in between.
func ask(t *testing.T, p *tree.Tree, s *Survey) (rounds int) {
	t.Helper()
	for {
		uris := s.Next(3)
		if len(uris) == 0 {
			return rounds
		}
		rounds++
		for _, uri := range uris {
			u, err := tree.ParseURI(Command(uri).Items[0].Target.URI)
			if err != nil {
				t.Fatal(err)
			}
			entries, code := p.Get("s", u, noon)
			var results []session.Value
			for _, e := range entries {
				results = append(results, session.Value{URI: e.URI, Format: e.Value.Format, Type: e.Value.Type, Data: e.Value.Data})
			}
			s.Answer(uri, code, results)
			s.Answer(uri, syncml.StatusNotFound, nil) // once more changes nothing
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		*s = Survey{}
		if err := json.Unmarshal(text, s); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSurvey(t *testing.T) {
	s := NewSurvey(append(slices.Clone(Roots), Root{"./Vendor/Nothing", 3})...)
	p := phone(leaves)
	if rounds := ask(t, p, s); rounds < 5 {
		t.Errorf("%d rounds", rounds)
	}
	u := s.Update(noon)
	if want := []string{"./DevInfo", "./DevDetail", "./SCM/Inventory/Deployed", "./Vendor/Nothing"}; !slices.Equal(u.Complete, want) || !slices.Equal(u.Gone, want[3:]) {
		t.Errorf("complete %v, gone %v", u.Complete, u.Gone)
	}
	snapshot, changes := Snapshot{}.Apply(u)
	if len(changes) != len(leaves)-1 || snapshot.Version != 1 {
		t.Errorf("%d changes, version %d", len(changes), snapshot.Version)
	}
	nodes, software := snapshot.Facts()
	for uri, data := range leaves {
		if got, ok := nodes[uri]; ok == (uri == "./Secret/Key") || ok && got != data {
			t.Errorf("%s = %q, %v", uri, got, ok)
		}
	}
	if want := map[string]string{"Mail": "2.4", "c2": "1.0"}; !reflect.DeepEqual(software, want) {
		t.Errorf("software %v", software)
	}

	// Later a program is gone, another one is new, and the firmware, too.
	p.Delete("s", tree.URI{Path: strings.Split("SCM/Inventory/Deployed/c1", "/")}, noon)
	p.Put("./SCM/Inventory/Deployed/c3/Name", tree.Node{Value: tree.Value{Data: []byte("Maps")}}, noon)
	p.Put("./DevDetail/FwV", tree.Node{Value: tree.Value{Data: []byte("8")}}, noon)
	s = NewSurvey(Roots...)
	ask(t, p, s)
	later, changes := snapshot.Apply(s.Update(noon.Add(time.Hour)))
	var got []string
	for _, c := range changes {
		got = append(got, fmt.Sprint(c.URI, " ", c.Before != nil, " ", c.After != nil))
	}
	want := []string{
		"./DevDetail/FwV true true",
		"./SCM/Inventory/Deployed/c1/Name true false", "./SCM/Inventory/Deployed/c1/State true false", "./SCM/Inventory/Deployed/c1/Version true false",
		"./SCM/Inventory/Deployed/c3/Name false true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("changes %q", got)
	}
	if v := later.Nodes["./DevInfo/Mod"]; !v.Since.Equal(noon) || !later.Nodes["./DevDetail/FwV"].Since.Equal(noon.Add(time.Hour)) {
		t.Errorf("since %v", v.Since)
	}
}

// What a device doesn't tell completely isn't taken for gone.
func TestAnswersThatFail(t *testing.T) {
	s := NewSurvey(Root{"./A", 2}, Root{"./B", 0}, Root{"./C", 1})
	s.Answer("./A", 200, []session.Value{{URI: "./A", Format: "node", Data: []byte("x/y")}})
	s.Answer("./A/x", 500, nil)
	s.Answer("./A/y", 200, []session.Value{{URI: "./A/y", Data: []byte("1")}})
	s.Answer("./B", 200, []session.Value{{URI: "./B", Format: "node", Data: []byte("deeper")}})
	s.Answer("./C", 200, []session.Value{{URI: "./Elsewhere", Data: []byte("1")}})
	s.Answer("./Not/Asked", 200, []session.Value{{URI: "./Not/Asked", Data: []byte("1")}})
	if left := s.Next(10); len(left) != 0 {
		t.Errorf("still asks %v", left)
	}
	u := s.Update(noon)
	if len(u.Complete) != 0 || len(u.Values) != 1 {
		t.Errorf("%+v", u)
	}
	before := Snapshot{Nodes: map[string]Value{"./A/x": {Data: []byte("old")}, "./A/y": {Data: []byte("old")}, "./B/z": {}, "./C/c": {}}}
	after, changes := before.Apply(u)
	if len(changes) != 1 || len(after.Nodes) != 4 || string(before.Nodes["./A/y"].Data) != "old" {
		t.Errorf("%+v, %+v", after, changes)
	}
}

func TestBoundsOfAnInventory(t *testing.T) {
	s := NewSurvey(Root{"./A", 100}, Root{"./A?prop=ACL", 1}, Root{".", 1})
	if got := s.Next(10); !slices.Equal(got, []string{"./A"}) || s.Asked["./A"].Depth != maxDepth {
		t.Errorf("asks %v", got)
	}
	for open := s.Next(1000); len(open) > 0; open = s.Next(1000) { // a tree without an end
		for _, uri := range open {
			s.Answer(uri, 200, []session.Value{{URI: uri, Format: "node", Data: []byte(strings.Repeat("a/b/c/d/e/f/", 100))}})
		}
	}
	if len(s.Asked) > maxAsked || len(s.Update(noon).Complete) != 0 {
		t.Errorf("asked %d", len(s.Asked))
	}
	var u Update
	for i := range maxNodes + 10 {
		u.Values = append(u.Values, session.Value{URI: fmt.Sprint("./N/", i)})
	}
	long := func(last string) Update {
		return Update{At: noon, Values: []session.Value{{URI: "./Long", Data: []byte(strings.Repeat("x", 2*maxData) + last)}}}
	}
	full, _ := Snapshot{}.Apply(u)
	if len(full.Nodes) != maxNodes {
		t.Errorf("%d nodes", len(full.Nodes))
	}
	one, _ := Snapshot{}.Apply(long("1"))
	if v := one.Nodes["./Long"]; len(v.Data) != maxData || v.Size != 2*maxData+1 {
		t.Errorf("%d of %d octets are kept", len(v.Data), v.Size)
	}
	if _, same := one.Apply(long("1")); len(same) != 0 {
		t.Error("the same long value is a change")
	}
	if _, other := one.Apply(long("2")); len(other) != 1 {
		t.Error("a long value that differs at its end is no change")
	}
}

// Whatever a device answers: what is kept stays within bounds and is about nodes
// that were asked for.
func FuzzSurvey(f *testing.F) {
	f.Add("./A", "node", []byte("x/y"), 200)
	f.Add("./A/x", "", []byte("1"), 200)
	f.Add("./A", "node", []byte("../../etc//?prop=ACL/*"), 200)
	f.Add(".", "node", []byte("A"), 404)
	f.Fuzz(func(t *testing.T, uri, format string, data []byte, code int) {
		s := NewSurvey(Root{"./A", 3})
		for range 4 {
			for _, asked := range s.Next(50) {
				s.Answer(asked, code, []session.Value{{URI: uri, Format: format, Data: data}, {URI: asked, Format: format, Data: data}})
			}
		}
		snapshot, changes := Snapshot{}.Apply(s.Update(noon))
		if len(s.Asked) > maxAsked || len(snapshot.Nodes) != len(changes) {
			t.Fatalf("%d asked, %d nodes, %d changes", len(s.Asked), len(snapshot.Nodes), len(changes))
		}
		for uri := range snapshot.Nodes {
			if !under(uri, []string{"./A"}) {
				t.Errorf("%q was not asked for", uri)
			}
		}
		snapshot.Facts()
	})
}
