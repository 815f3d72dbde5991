package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// say is a set that gives ./Who its own name.
func say(name string) Set {
	return Set{Name: name, Settings: []Setting{{URI: "./Who", Data: name}}}
}

func model(t *testing.T, d Document) *Model {
	t.Helper()
	m, err := Compile(d)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Each case is a sentence of the package comment.
func TestPrecedence(t *testing.T) {
	device := Facts{ID: "d", Unit: "corp/sales/emea", Groups: []string{"field", "pilot"}}
	top, corp, sales, emea := "", "corp", "corp/sales", "corp/sales/emea"
	block := func(paths ...string) (out []Unit) {
		for _, p := range paths {
			out = append(out, Unit{Path: p, Block: true})
		}
		return out
	}
	one, two, three := say("one"), say("two"), say("three")
	with := func(s Set, change func(*Set)) Set { change(&s); return s }
	for _, c := range []struct {
		name  string
		sets  []Set
		links []Link
		units []Unit
		want  string
		why   string // the first loss
	}{
		{name: "a set applies below its link", sets: []Set{one}, links: []Link{{Unit: top, Set: "one", Order: 1}}, want: "one"},
		{name: "not beside it", sets: []Set{one}, links: []Link{{Unit: "corp/sal", Set: "one", Order: 1}}, want: ""},
		{name: "not above it", sets: []Set{one}, links: []Link{{Unit: "corp/sales/emea/de", Set: "one", Order: 1}}, want: ""},
		{name: "the nearer link wins", sets: []Set{one, two}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 9}}, want: "two", why: "set two is linked nearer to the device, at unit corp/sales/emea"},
		{name: "at one unit the lower order wins", sets: []Set{one, two}, links: []Link{{Unit: corp, Set: "one", Order: 2}, {Unit: corp, Set: "two", Order: 1}}, want: "two", why: "set two has order 1, this one 2"},
		{name: "blocked inheritance", sets: []Set{one}, links: []Link{{Unit: corp, Set: "one", Order: 1}}, units: block(sales), want: ""},
		{name: "a unit that blocks has its own links", sets: []Set{one}, links: []Link{{Unit: sales, Set: "one", Order: 1}}, units: block(sales), want: "one"},
		{name: "an enforced link can't be blocked", sets: []Set{one}, links: []Link{{Unit: corp, Set: "one", Order: 1, Enforced: true}}, units: block(sales, emea), want: "one"},
		{name: "an enforced link wins over a nearer one", sets: []Set{one, two}, links: []Link{{Unit: corp, Set: "one", Order: 1, Enforced: true}, {Unit: emea, Set: "two", Order: 1}}, want: "one", why: "set one is enforced at unit corp"},
		{name: "of two enforced links the higher wins", sets: []Set{one, two}, links: []Link{{Unit: top, Set: "one", Order: 1, Enforced: true}, {Unit: emea, Set: "two", Order: 1, Enforced: true}}, want: "one", why: "set one is enforced higher up, at the top"},
		{name: "enforced at one unit by order", sets: []Set{one, two}, links: []Link{{Unit: corp, Set: "one", Order: 2, Enforced: true}, {Unit: corp, Set: "two", Order: 1, Enforced: true}}, want: "two", why: "set two has order 1, this one 2"},
		{name: "enforced wins at one unit, too", sets: []Set{one, two}, links: []Link{{Unit: corp, Set: "one", Order: 2, Enforced: true}, {Unit: corp, Set: "two", Order: 1}}, want: "one", why: "set one is enforced at unit corp"},
		{name: "a disabled link doesn't count", sets: []Set{one, two}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1, Disabled: true}}, want: "one"},
		{name: "nor does a disabled set", sets: []Set{one, with(two, func(s *Set) { s.Disabled = true })}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1}}, want: "one"},
		{name: "a set for a group", sets: []Set{one, with(two, func(s *Set) { s.Groups = []string{"office", "pilot"} })}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1}}, want: "two", why: "set two is linked nearer to the device, at unit corp/sales/emea"},
		{name: "a set for other groups", sets: []Set{one, with(two, func(s *Set) { s.Groups = []string{"office"} })}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1}}, want: "one"},
		{name: "an exception wins", sets: []Set{one, with(two, func(s *Set) { s.Groups, s.Except = []string{"pilot"}, []string{"field"} })}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1}}, want: "one"},
		{name: "a filter that is false", sets: []Set{one, with(two, func(s *Set) { s.Filter = `id == "x"` })}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1}}, want: "one"},
		{name: "a filter that fails", sets: []Set{one, with(two, func(s *Set) { s.Filter = `inventory["./X"] == ""` })}, links: []Link{{Unit: corp, Set: "one", Order: 1}, {Unit: emea, Set: "two", Order: 1}}, want: "one"},
		{name: "a set linked twice counts where it is strongest", sets: []Set{one, two}, links: []Link{{Unit: top, Set: "one", Order: 1}, {Unit: corp, Set: "two", Order: 1}, {Unit: emea, Set: "one", Order: 1}}, want: "one", why: "set one is linked nearer to the device, at unit corp/sales/emea"},
		{name: "three", sets: []Set{one, two, three}, links: []Link{{Unit: top, Set: "one", Order: 1}, {Unit: corp, Set: "two", Order: 1}, {Unit: sales, Set: "three", Order: 1}}, units: block(corp), want: "three", why: "set three is linked nearer to the device, at unit corp/sales"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := model(t, Document{Sets: c.sets, Links: c.links, Units: c.units}).Resolve(device)
			got, why := "", ""
			for _, v := range r.Values {
				got = v.Setting.Data
				if len(v.Lost) > 0 {
					why = v.Lost[0].Why
				}
			}
			if got != c.want || why != c.why {
				t.Errorf("%q wins because %q, want %q because %q\n%+v", got, why, c.want, c.why, r.Sets)
			}
		})
	}
}

func TestExplanationsOfSets(t *testing.T) {
	set := func(name string, change func(*Set)) Set {
		s := say(name)
		change(&s)
		return s
	}
	d := Document{
		Sets: []Set{
			set("applies", func(*Set) {}),
			set("blocked", func(*Set) {}),
			set("disabled", func(s *Set) { s.Disabled = true }),
			set("excepted", func(s *Set) { s.Except = []string{"field"} }),
			set("fails", func(s *Set) { s.Filter = `inventory["./X"] == ""` }),
			set("false", func(s *Set) { s.Filter = `unit == ""` }),
			set("group", func(s *Set) { s.Groups = []string{"a", "b"} }),
			set("link", func(*Set) {}),
		},
		Units: []Unit{{Path: "corp", Block: true}},
	}
	for i, s := range d.Sets {
		l := Link{Unit: "corp", Set: s.Name, Order: i + 1, Disabled: s.Name == "link"}
		if s.Name == "blocked" {
			l.Unit = ""
		}
		d.Links = append(d.Links, l)
	}
	d.Links = append(d.Links, Link{Unit: "corp/sales", Set: "applies", Order: 1})
	var got strings.Builder
	for _, c := range model(t, d).Resolve(Facts{Unit: "corp/sales", Groups: []string{"field"}}).Sets {
		fmt.Fprintf(&got, "%s %s %d: %s (%s)\n", c.Set, unitName(c.Unit), c.Order, c.Verdict, c.Why)
	}
	want := `applies unit corp/sales 1: applies ()
applies unit corp 1: applies already ()
disabled unit corp 3: set disabled ()
excepted unit corp 4: excepted (group field)
fails unit corp 5: filter failed (filter: no such key: ./X)
false unit corp 6: filter is false (unit == "")
group unit corp 7: not in a group (a, b)
link unit corp 8: link disabled ()
blocked the top 2: blocked (unit corp)
`
	if got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &got, want)
	}
}

// Settings that can't both hold compete, whichever is above the other.
func TestSettingsAboveAndBelow(t *testing.T) {
	gone := Setting{URI: "./A/B", Absent: true}
	leaf := Setting{URI: "./A/B", Data: "1"}
	node := Setting{URI: "./A/B", Format: "node"}
	below := Setting{URI: "./A/B/C", Data: "2"}
	beside := Setting{URI: "./A/BC", Data: "3"}
	for _, c := range []struct {
		strong, weak, want []Setting
	}{
		{[]Setting{gone}, []Setting{below, beside}, []Setting{gone, beside}},
		{[]Setting{below}, []Setting{gone, beside}, []Setting{below, beside}},
		{[]Setting{leaf}, []Setting{below}, []Setting{leaf}},
		{[]Setting{below}, []Setting{leaf}, []Setting{below}},
		{[]Setting{below}, []Setting{node}, []Setting{node, below}},
		{[]Setting{node}, []Setting{below}, []Setting{node, below}},
		{[]Setting{gone}, []Setting{leaf}, []Setting{gone}},
	} {
		m := model(t, Document{
			Sets:  []Set{{Name: "strong", Settings: c.strong}, {Name: "weak", Settings: c.weak}},
			Links: []Link{{Set: "strong", Order: 1}, {Set: "weak", Order: 2}},
		})
		r := m.Resolve(Facts{})
		var got []Setting
		lost := 0
		for _, v := range r.Values {
			got = append(got, v.Setting)
			lost += len(v.Lost)
		}
		if !slices.Equal(got, c.want) || lost != len(c.strong)+len(c.weak)-len(c.want) {
			t.Errorf("%v before %v: %v (%d lost), want %v", c.strong, c.weak, got, lost, c.want)
		}
	}
}

func TestEverythingWrongIsToldAtOnce(t *testing.T) {
	_, err := Compile(Document{
		Sets: []Set{
			{Name: "a", Filter: "unit +", Settings: []Setting{
				{URI: "/x"}, {URI: "./A?prop=ACL"}, {URI: ".", Data: "1"}, {URI: "./N", Format: "int", Data: "1.5"}, {URI: "./F", Format: "float32"},
				{URI: "./B", Format: "b64", Data: "!"}, {URI: "./C", Data: "1"}, {URI: "./C/D", Data: "1"}, {URI: "./E", Absent: true, Data: "1"}, {URI: "./G", Leave: "1"},
			}},
			{Name: "a"}, {Name: " b"}, {Name: "c", Groups: []string{""}},
		},
		Units: []Unit{{Path: "x"}, {Path: "x"}, {Path: "x//y"}},
		Links: []Link{{Unit: "u", Set: "nobody", Order: 1}, {Unit: "u", Set: "c", Order: 1}, {Unit: "v", Set: "c"}, {Unit: "/", Set: "c", Order: 1}},
	})
	if !errors.Is(err, ErrDocument) || !errors.Is(err, ErrFilter) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"/x: not a URI", "./A?prop=ACL: expected the URI of a node", ".: expected the URI", `"1.5" is no whole number`, `format "float32"`, "./B: base64", "./C/D can't hold together with ./C",
		"./E: a node that shall be absent has no value", "./G: leave has a value", `set "a" is there twice`, `set " b": a name has`, `group ""`,
		`unit "x" is there twice`, `unit "x//y"`, "there is no such set", `has order 1, which set "`, "order 0, expected 1 or more", `to unit "/"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in\n%v", want, err)
		}
	}
}

// randomDocument of few names, so that much meets.
func randomDocument(r *rand.Rand) Document {
	units := []string{"", "a", "a/b", "a/b/c", "d"}
	groups := []string{"g", "h", "i"}
	filters := []string{"", `id == "x"`, `inventory.value("./M") == "1"`, `unit.startsWith("a")`}
	some := func(from []string, odds float64) (out []string) {
		for _, s := range from {
			if r.Float64() < odds {
				out = append(out, s)
			}
		}
		return out
	}
	var d Document
	for i := range 5 {
		s := Set{Name: fmt.Sprint("s", i), Disabled: r.IntN(5) == 0, Filter: filters[r.IntN(len(filters))], Groups: some(groups, .2), Except: some(groups, .1)}
		for _, uri := range []string{"./A", "./B", "./C"} {
			if r.IntN(2) == 0 {
				s.Settings = append(s.Settings, Setting{URI: uri, Data: fmt.Sprint(r.IntN(3))})
			}
		}
		d.Sets = append(d.Sets, s)
	}
	for _, u := range units {
		if u != "" && r.IntN(4) == 0 {
			d.Units = append(d.Units, Unit{Path: u, Block: true})
		}
		for order, i := range r.Perm(5)[:r.IntN(3)] {
			d.Links = append(d.Links, Link{Unit: u, Set: fmt.Sprint("s", i), Order: order + 1, Enforced: r.IntN(4) == 0, Disabled: r.IntN(6) == 0})
		}
	}
	return d
}

func randomFleet(r *rand.Rand) []Facts {
	var all []Facts
	for i := range 60 {
		f := Facts{ID: []string{"x", "y"}[i%2], Unit: []string{"", "a", "a/b", "a/b/c", "a/e", "d", "f"}[r.IntN(7)], Inventory: map[string]string{"./M": fmt.Sprint(r.IntN(2))}}
		for _, g := range []string{"g", "h", "i"} {
			if r.IntN(3) == 0 {
				f.Groups = append(f.Groups, g)
			}
		}
		all = append(all, f)
	}
	return all
}

// Whoever isn't in a scope of Touched has the same result as before; and small
// changes don't touch everybody.
func TestOnlyTouchedDevicesChange(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	outside := 0
	for range 300 {
		before := randomDocument(r)
		after := before
		after.Sets, after.Links, after.Units = slices.Clone(before.Sets), slices.Clone(before.Links), slices.Clone(before.Units)
		other := randomDocument(r)
		for range 1 + r.IntN(2) {
			switch r.IntN(4) {
			case 0:
				i := r.IntN(5)
				after.Sets[i] = other.Sets[i]
			case 1:
				after.Units = other.Units
			case 2:
				after.Links = slices.DeleteFunc(after.Links, func(Link) bool { return r.IntN(4) == 0 })
			case 3:
				after.Sets[r.IntN(5)].Description = "other words"
			}
		}
		old, m := model(t, before), model(t, after)
		scopes := m.Touched(old)
		for _, f := range randomFleet(r) {
			touched := slices.ContainsFunc(scopes, func(s Scope) bool { return s.Covers(f) })
			if d := Differences(old.Resolve(f), m.Resolve(f)); len(d) > 0 && !touched {
				t.Fatalf("%+v isn't in %+v, but differs: %+v\n%+v\n%+v", f, scopes, d, before, after)
			}
			if !touched {
				outside++
			}
		}
	}
	if outside == 0 {
		t.Error("every change has touched everybody")
	}
}

func TestOtherWordsTouchNobody(t *testing.T) {
	d := Document{Sets: []Set{say("a")}, Links: []Link{{Unit: "u", Set: "a", Order: 1}}}
	e := d
	e.Sets = []Set{say("a"), say("linked nowhere")}
	e.Sets[0].Description = "words"
	if s := model(t, e).Touched(model(t, d)); len(s) != 0 {
		t.Errorf("touched: %+v", s)
	}
}
