package policy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Model is a document that was checked, with its filters compiled. It is safe
// for concurrent use.
type Model struct {
	doc     Document
	filters map[string]Filter
	sets    map[string]*Set
	links   map[string][]Link // by unit, by order
	blocked map[string]bool
}

// Compile checks a document. The error names everything that is wrong with it.
func Compile(d Document) (*Model, error) {
	m := &Model{doc: d.normal(), filters: map[string]Filter{}, sets: map[string]*Set{}, links: map[string][]Link{}, blocked: map[string]bool{}}
	errs := []error{m.doc.validate()}
	for i := range m.doc.Sets {
		s := &m.doc.Sets[i]
		f, err := compileFilter(s.Filter)
		if err != nil {
			errs = append(errs, fmt.Errorf("%w: set %q: %w", ErrDocument, s.Name, err))
		}
		m.filters[s.Name], m.sets[s.Name] = f, s
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, l := range m.doc.Links { // in order
		m.links[l.Unit] = append(m.links[l.Unit], l)
	}
	for _, u := range m.doc.Units {
		m.blocked[u.Path] = u.Block
	}
	return m, nil
}

// Document is what the model was made of, in the order in which it is written.
// It is shared: don't change it.
func (m *Model) Document() Document { return m.doc }

// Verdict on a set that is linked above a device.
type Verdict string

// Verdicts, in the order in which they are asked for.
const (
	LinkDisabled Verdict = "link disabled"
	SetDisabled  Verdict = "set disabled"
	Blocked      Verdict = "blocked"
	Repeated     Verdict = "applies already" // another link of it has precedence
	NotInGroup   Verdict = "not in a group"
	Excepted     Verdict = "excepted"
	FilterFalse  Verdict = "filter is false"
	FilterFailed Verdict = "filter failed"
	Applies      Verdict = "applies"
)

// Considered is a set that is linked at or above the unit of a device.
type Considered struct {
	Set      string  `json:"set" yaml:"set"`
	Unit     string  `json:"unit" yaml:"unit"`
	Order    int     `json:"order" yaml:"order"`
	Enforced bool    `json:"enforced,omitempty" yaml:"enforced,omitempty"`
	Verdict  Verdict `json:"verdict" yaml:"verdict"`
	// Why names the unit that blocks, the group, or the filter's error.
	Why string `json:"why,omitempty" yaml:"why,omitempty"`
}

// Value is what a node shall be, who says so, and who said otherwise.
type Value struct {
	Setting Setting `json:"setting" yaml:"setting"`
	Set     string  `json:"set" yaml:"set"`
	Unit    string  `json:"unit" yaml:"unit"`
	Lost    []Loss  `json:"lost,omitempty" yaml:"lost,omitempty"`
}

// Loss is a setting that another one has taken the place of.
type Loss struct {
	Setting Setting `json:"setting" yaml:"setting"`
	Set     string  `json:"set" yaml:"set"`
	Unit    string  `json:"unit" yaml:"unit"`
	Why     string  `json:"why" yaml:"why"`
}

// Result is the resulting set of a device, and how it came about.
type Result struct {
	// Sets in order of precedence, the first has most.
	Sets []Considered `json:"sets" yaml:"sets"`
	// Values by URI.
	Values []Value `json:"values" yaml:"values"`
	atomic map[string]bool
}

// Resolve says what a device shall have. Its Unit and Groups are in the facts.
func (m *Model) Resolve(facts Facts) Result {
	r := Result{Sets: m.precedence(facts.Unit), atomic: map[string]bool{}}
	applied := map[string]bool{}
	for i := range r.Sets {
		c := &r.Sets[i]
		if c.Verdict == "" {
			c.Verdict, c.Why = m.judge(c.Set, facts, applied[c.Set])
			applied[c.Set] = applied[c.Set] || c.Verdict == Applies
		}
	}
	var taken chosen
	lost := map[string][]Loss{}
	for i, c := range r.Sets {
		if c.Verdict != Applies {
			continue
		}
		r.atomic[c.Set] = m.sets[c.Set].Atomic
		for _, s := range m.sets[c.Set].Settings {
			if winner := taken.add(s.URI, holder{setting: s, set: i}); winner != nil {
				lost[winner.setting.URI] = append(lost[winner.setting.URI], Loss{Setting: s, Set: c.Set, Unit: c.Unit, Why: why(r.Sets[winner.set], c)})
			}
		}
	}
	for _, uri := range slices.Sorted(maps.Keys(taken.nodes)) {
		h := taken.nodes[uri]
		c := r.Sets[h.set]
		r.Values = append(r.Values, Value{Setting: h.setting, Set: c.Set, Unit: c.Unit, Lost: lost[uri]})
	}
	return r
}

// precedence lists the links at and above a unit, the strongest first, with a
// verdict where the link itself decides.
func (m *Model) precedence(unit string) []Considered {
	type ranked struct {
		Considered
		depth int
	}
	var all []ranked
	blockedBy, blocked := "", false
	for depth, u := range slices.Backward(unitsAbove(unit)) { // the device's own first
		for _, l := range m.links[u] {
			c := Considered{Set: l.Set, Unit: u, Order: l.Order, Enforced: l.Enforced}
			switch {
			case l.Disabled:
				c.Verdict = LinkDisabled
			case m.sets[l.Set].Disabled:
				c.Verdict = SetDisabled
			case blocked && !l.Enforced:
				c.Verdict, c.Why = Blocked, "unit "+blockedBy
			}
			all = append(all, ranked{c, depth})
		}
		if m.blocked[u] && !blocked {
			blockedBy, blocked = u, true
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		if a.Enforced != b.Enforced {
			if a.Enforced {
				return -1
			}
			return 1
		}
		if a.Enforced {
			return cmp.Or(cmp.Compare(a.depth, b.depth), cmp.Compare(a.Order, b.Order))
		}
		return cmp.Or(cmp.Compare(b.depth, a.depth), cmp.Compare(a.Order, b.Order))
	})
	out := make([]Considered, len(all))
	for i, r := range all {
		out[i] = r.Considered
	}
	return out
}

// unitsAbove a unit, the top first, itself last.
func unitsAbove(unit string) []string {
	out := []string{""}
	for i := range len(unit) {
		if unit[i] == '/' {
			out = append(out, unit[:i])
		}
	}
	if unit != "" {
		out = append(out, unit)
	}
	return out
}

func (m *Model) judge(set string, facts Facts, before bool) (Verdict, string) {
	s := m.sets[set]
	in := func(groups []string) string {
		for _, g := range groups {
			if slices.Contains(facts.Groups, g) {
				return g
			}
		}
		return ""
	}
	if before {
		return Repeated, ""
	}
	if g := in(s.Except); g != "" {
		return Excepted, "group " + g
	}
	if len(s.Groups) > 0 && in(s.Groups) == "" {
		return NotInGroup, strings.Join(s.Groups, ", ")
	}
	switch matched, err := m.filters[set].Match(facts); {
	case err != nil:
		return FilterFailed, err.Error()
	case !matched:
		return FilterFalse, s.Filter
	}
	return Applies, ""
}

// why a set that applies has lost to another one.
func why(winner, loser Considered) string {
	switch {
	case winner.Enforced && !loser.Enforced:
		return fmt.Sprintf("set %s is enforced at %s", winner.Set, unitName(winner.Unit))
	case winner.Unit == loser.Unit:
		return fmt.Sprintf("set %s has order %d, this one %d", winner.Set, winner.Order, loser.Order)
	case winner.Enforced:
		return fmt.Sprintf("set %s is enforced higher up, at %s", winner.Set, unitName(winner.Unit))
	}
	return fmt.Sprintf("set %s is linked nearer to the device, at %s", winner.Set, unitName(winner.Unit))
}

func unitName(unit string) string {
	if unit == "" {
		return "the top"
	}
	return "unit " + unit
}
