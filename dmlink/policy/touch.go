package policy

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// Scope is devices that a change may touch: those in a unit or below it that are
// in one of the groups, or in any if there are none.
type Scope struct {
	Unit   string
	Groups []string
}

// Covers a device.
func (s Scope) Covers(f Facts) bool {
	return under(f.Unit, s.Unit) &&
		(len(s.Groups) == 0 || slices.ContainsFunc(s.Groups, func(g string) bool { return slices.Contains(f.Groups, g) }))
}

// under reports whether a unit is another one, or below it.
func under(unit, top string) bool {
	return top == "" || unit == top || strings.HasPrefix(unit, top+"/")
}

func (s Scope) within(other Scope) bool {
	if !under(s.Unit, other.Unit) {
		return false
	}
	return len(other.Groups) == 0 || len(s.Groups) > 0 && !slices.ContainsFunc(s.Groups, func(g string) bool { return !slices.Contains(other.Groups, g) })
}

// Touched says for which devices old and m can have different results. Devices
// outside need no second look.
func (m *Model) Touched(old *Model) []Scope {
	var all []Scope
	add := func(unit, set string) {
		s := Scope{Unit: unit}
		before, after := old.sets[set], m.sets[set]
		switch {
		case idle(before) && idle(after):
			return
		case idle(before):
			s.Groups = after.Groups
		case idle(after):
			s.Groups = before.Groups
		case len(before.Groups) > 0 && len(after.Groups) > 0:
			s.Groups = sortedNames(slices.Concat(before.Groups, after.Groups))
		}
		all = append(all, s)
	}
	links, before := linkTable(m), linkTable(old)
	for key, l := range links {
		if l != before[key] || !sameSet(old.sets[l.Set], m.sets[l.Set]) {
			add(l.Unit, l.Set)
		}
	}
	for key, l := range before {
		if _, ok := links[key]; !ok {
			add(l.Unit, l.Set)
		}
	}
	for _, models := range [][2]*Model{{m, old}, {old, m}} {
		for unit, block := range models[0].blocked {
			if block != models[1].blocked[unit] {
				all = append(all, Scope{Unit: unit})
			}
		}
	}
	return widest(all)
}

// idle sets change nothing.
func idle(s *Set) bool { return s == nil || s.Disabled }

func linkTable(m *Model) map[[2]string]Link {
	out := map[[2]string]Link{}
	for _, l := range m.doc.Links {
		out[[2]string{l.Unit, l.Set}] = l
	}
	return out
}

func sameSet(a, b *Set) bool {
	if idle(a) || idle(b) {
		return idle(a) == idle(b)
	}
	x, y := *a, *b
	x.Description, y.Description = "", ""
	return reflect.DeepEqual(x, y)
}

// widest drops scopes that lie in others, and sorts.
func widest(all []Scope) []Scope {
	slices.SortFunc(all, func(a, b Scope) int {
		if c := strings.Compare(a.Unit, b.Unit); c != 0 {
			return c
		}
		return slices.Compare(a.Groups, b.Groups)
	})
	all = slices.CompactFunc(all, func(a, b Scope) bool { return a.Unit == b.Unit && slices.Equal(a.Groups, b.Groups) })
	var out []Scope
	for i, s := range all {
		if !slices.ContainsFunc(slices.Concat(all[:i], all[i+1:]), s.within) {
			out = append(out, s)
		}
	}
	return out
}

// Reading says which nodes of the inventory filters read, or SoftwareFact: a
// change of those can change results. All means any node.
func (m *Model) Reading() (uris []string, all bool) {
	found := map[string]bool{}
	for name, f := range m.filters {
		if m.sets[name].Disabled {
			continue
		}
		all = all || f.all
		for _, uri := range f.reads {
			found[uri] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), all
}

func (m *Model) reads() bool {
	uris, all := m.Reading()
	return all || len(uris) > 0
}

// Reads reports whether a change of these nodes of the inventory (or of
// SoftwareFact) can change the result of any device.
func (m *Model) Reads(uris ...string) bool {
	for name, f := range m.filters {
		if !m.sets[name].Disabled && f.Reads(uris...) {
			return true
		}
	}
	return false
}
