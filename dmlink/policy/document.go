package policy

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/dmlink/tree"
)

// Limits of a document.
const (
	maxSets     = 2000
	maxSettings = 500
	maxUnits    = 20_000
	maxLinks    = 20_000
	maxGroups   = 100
	maxName     = 200
	maxDepth    = 16
	maxValue    = 64 << 10
)

// ErrDocument is wrapped by each thing that is wrong with a document.
var ErrDocument = errors.New("policy")

// Document is all that administrators have said.
type Document struct {
	Sets  []Set  `yaml:"sets" json:"sets"`
	Units []Unit `yaml:"units,omitempty" json:"units,omitempty"`
	Links []Link `yaml:"links,omitempty" json:"links,omitempty"`
}

// Set is a named set of settings, and which devices under its links it is for.
type Set struct {
	Name        string `yaml:"name" json:"name"`
	Description string `yaml:"description,omitempty" json:"description,omitempty"`
	Disabled    bool   `yaml:"disabled,omitempty" json:"disabled,omitempty"`
	// Groups of which a device has to be in one; empty means all devices.
	Groups []string `yaml:"groups,omitempty" json:"groups,omitempty"`
	// Except: groups whose members it isn't for.
	Except []string `yaml:"except,omitempty" json:"except,omitempty"`
	// Filter is an expression as compileFilter reads it.
	Filter string `yaml:"filter,omitempty" json:"filter,omitempty"`
	// Atomic: what this set changes on a device is changed together or not at
	// all, in one message.
	Atomic   bool      `yaml:"atomic,omitempty" json:"atomic,omitempty"`
	Settings []Setting `yaml:"settings,omitempty" json:"settings,omitempty"`
}

// Setting is what one node shall be.
type Setting struct {
	// URI of the node, without property.
	URI string `yaml:"uri" json:"uri"`
	// Format as in Meta: chr (if empty), int, bool, float, date, time, xml, b64,
	// bin, null, or node for an interior node.
	Format string `yaml:"format,omitempty" json:"format,omitempty"`
	// Type is a media type, or the name of a management object.
	Type string `yaml:"type,omitempty" json:"type,omitempty"`
	// Data of the value: text, which for b64 and bin is base64.
	Data string `yaml:"data,omitempty" json:"data,omitempty"`
	// Absent: the node shall not be there, nor what is below it.
	Absent bool `yaml:"absent,omitempty" json:"absent,omitempty"`
	// After says what happens when no set wants the value any more.
	After After `yaml:"after,omitempty" json:"after,omitempty"`
	// Leave is the value that After: leave leaves, of the same format.
	Leave string `yaml:"leave,omitempty" json:"leave,omitempty"`
	// RemoveAt is a node above, which is removed in place of this one: for nodes
	// that come and go with their parent.
	RemoveAt string `yaml:"remove_at,omitempty" json:"remove_at,omitempty"`
	// There: devices have the node before anybody sets it, so the first command is
	// a Replace; an Add is tried where it isn't there after all.
	There bool `yaml:"there,omitempty" json:"there,omitempty"`
}

// After says what becomes of a value that no set wants any more.
type After string

const (
	// Remove the node; the default.
	Remove After = ""
	// Keep the value.
	Keep After = "keep"
	// Leave another value: for nodes that can't be removed.
	Leave After = "leave"
)

// Unit is a place of devices in the tree of units, such as corp/sales. Units
// needn't be listed to have devices or links, only to be blocked.
type Unit struct {
	Path string `yaml:"path" json:"path"`
	// Block inheritance from the units above.
	Block bool `yaml:"block,omitempty" json:"block,omitempty"`
}

// Link of a set to a unit. The unit "" is above all others.
type Link struct {
	Unit string `yaml:"unit" json:"unit"`
	Set  string `yaml:"set" json:"set"`
	// Order among the links of a unit, from 1, which has precedence, on.
	Order    int  `yaml:"order" json:"order"`
	Enforced bool `yaml:"enforced,omitempty" json:"enforced,omitempty"`
	Disabled bool `yaml:"disabled,omitempty" json:"disabled,omitempty"`
}

// Equal compares all that a device would see.
func (s Setting) Equal(other Setting) bool {
	s.After, s.Leave, s.RemoveAt, s.There = "", "", "", false
	other.After, other.Leave, other.RemoveAt, other.There = "", "", "", false
	return s == other
}

// formats that a setting may have. Binary ones carry base64.
var formats = []string{"", "chr", "int", "bool", "float", "date", "time", "xml", "b64", "bin", "null", "node"}

// normal returns the document in the order in which it is written, with URIs
// and formats in one form. The document stays as it is.
func (d Document) normal() Document {
	out := Document{Sets: slices.Clone(d.Sets), Units: slices.Clone(d.Units), Links: slices.Clone(d.Links)}
	for i := range out.Sets {
		s := &out.Sets[i]
		s.Groups, s.Except = sortedNames(s.Groups), sortedNames(s.Except)
		s.Settings = slices.Clone(s.Settings)
		for j := range s.Settings {
			if u, err := tree.ParseURI(s.Settings[j].URI); err == nil {
				s.Settings[j].URI = u.String()
			}
			if u, err := tree.ParseURI(s.Settings[j].RemoveAt); err == nil {
				s.Settings[j].RemoveAt = u.String()
			}
			if s.Settings[j].Format == "chr" {
				s.Settings[j].Format = ""
			}
		}
		slices.SortFunc(s.Settings, func(a, b Setting) int { return cmp.Compare(a.URI, b.URI) })
	}
	slices.SortFunc(out.Sets, func(a, b Set) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(out.Units, func(a, b Unit) int { return cmp.Compare(a.Path, b.Path) })
	slices.SortFunc(out.Links, func(a, b Link) int {
		return cmp.Or(cmp.Compare(a.Unit, b.Unit), cmp.Compare(a.Order, b.Order), cmp.Compare(a.Set, b.Set))
	})
	return out
}

func sortedNames(names []string) []string {
	out := slices.Clone(names)
	slices.Sort(out)
	return slices.Compact(out)
}

// validate a normal document; all that is wrong is in the error.
func (d Document) validate() error {
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrDocument}, args...)...))
	}
	if len(d.Sets) > maxSets || len(d.Units) > maxUnits || len(d.Links) > maxLinks {
		wrong("%d sets, %d units, %d links: at most %d, %d, %d", len(d.Sets), len(d.Units), len(d.Links), maxSets, maxUnits, maxLinks)
		return errors.Join(errs...)
	}
	names := map[string]bool{}
	for _, s := range d.Sets {
		if err := checkName(s.Name); err != nil {
			wrong("set %.64q: %w", s.Name, err)
		}
		if names[s.Name] {
			wrong("set %q is there twice", s.Name)
		}
		names[s.Name] = true
		for _, err := range s.validate() {
			wrong("set %q: %w", s.Name, err)
		}
	}
	units := map[string]bool{}
	for _, u := range d.Units {
		if err := checkUnit(u.Path); err != nil {
			wrong("unit %.64q: %w", u.Path, err)
		}
		if units[u.Path] {
			wrong("unit %q is there twice", u.Path)
		}
		units[u.Path] = true
	}
	type place struct {
		unit  string
		order int
	}
	orders, pairs := map[place]string{}, map[[2]string]bool{}
	for _, l := range d.Links {
		where := fmt.Sprintf("link of set %q to unit %q", l.Set, l.Unit)
		if err := checkUnit(l.Unit); err != nil {
			wrong("%s: %w", where, err)
		}
		if !names[l.Set] {
			wrong("%s: there is no such set", where)
		}
		if l.Order < 1 {
			wrong("%s: order %d, expected 1 or more", where, l.Order)
		}
		if other, ok := orders[place{l.Unit, l.Order}]; ok {
			wrong("%s: has order %d, which set %q has", where, l.Order, other)
		}
		orders[place{l.Unit, l.Order}] = l.Set
		if pairs[[2]string{l.Unit, l.Set}] {
			wrong("%s is there twice", where)
		}
		pairs[[2]string{l.Unit, l.Set}] = true
	}
	return errors.Join(errs...)
}

func (s Set) validate() (errs []error) {
	if len(s.Settings) > maxSettings {
		return []error{fmt.Errorf("%d settings, at most %d", len(s.Settings), maxSettings)}
	}
	if len(s.Groups) > maxGroups || len(s.Except) > maxGroups {
		errs = append(errs, fmt.Errorf("more than %d groups", maxGroups))
	}
	for _, g := range slices.Concat(s.Groups, s.Except) {
		if err := checkName(g); err != nil {
			errs = append(errs, fmt.Errorf("group %.64q: %w", g, err))
		}
	}
	var chosen chosen
	for _, v := range s.Settings {
		if err := v.validate(); err != nil {
			errs = append(errs, fmt.Errorf("%.128s: %w", v.URI, err))
			continue
		}
		if other := chosen.add(v.URI, holder{setting: v}); other != nil {
			errs = append(errs, fmt.Errorf("%s can't hold together with %s", v.URI, other.setting.URI))
		}
	}
	return errs
}

func (v Setting) validate() error {
	u, err := tree.ParseURI(v.URI)
	switch {
	case err != nil:
		return err
	case len(u.Path) == 0 || u.Prop != "" || u.List != "":
		return errors.New("expected the URI of a node below the root")
	case !slices.Contains(formats, v.Format):
		return fmt.Errorf("format %.32q, expected one of %s", v.Format, strings.Join(formats[1:], ", "))
	case v.Absent && (v.Format != "" || v.Type != "" || v.Data != "" || v.After != Remove || v.Leave != "" || v.RemoveAt != "" || v.There):
		return errors.New("a node that shall be absent has no value")
	case (v.Format == "node" || v.Format == "null") && (v.Data != "" || v.Leave != ""):
		return fmt.Errorf("format %s has no data", v.Format)
	case v.After != Remove && v.After != Keep && v.After != Leave:
		return fmt.Errorf("after %.32q, expected nothing, keep or leave", string(v.After))
	case v.RemoveAt != "" && (v.After != Remove || len(v.RemoveAt) <= len("./") || !strings.HasPrefix(v.URI, v.RemoveAt+"/")):
		return fmt.Errorf("remove_at %.128q, expected a node above, and that the value is removed", v.RemoveAt)
	case v.Leave != "" && v.After != Leave:
		return errors.New("leave has a value, but after isn't leave")
	}
	for _, data := range []string{v.Data, v.Leave} {
		if len(data) > maxValue {
			return fmt.Errorf("%d octets, at most %d", len(data), maxValue)
		}
		if err := checkData(v.Format, data); err != nil {
			return err
		}
	}
	if v.Format == "int" || v.Format == "bool" {
		if v.Data == "" || v.After == Leave && v.Leave == "" {
			return fmt.Errorf("format %s without a value", v.Format)
		}
	}
	return nil
}

func checkData(format, data string) error {
	if data == "" {
		return nil
	}
	switch format {
	case "int":
		digits := strings.TrimPrefix(data, "-")
		if digits == "" || len(digits) > 20 || strings.ContainsFunc(digits, func(r rune) bool { return r < '0' || r > '9' }) {
			return fmt.Errorf("%.32q is no whole number", data)
		}
	case "bool":
		if data != "true" && data != "false" {
			return fmt.Errorf("%.32q is neither true nor false", data)
		}
	case "b64", "bin":
		if _, err := base64.StdEncoding.DecodeString(data); err != nil {
			return fmt.Errorf("base64: %w", err)
		}
	}
	return nil
}

func checkName(name string) error {
	switch {
	case name == "" || len(name) > maxName:
		return fmt.Errorf("%d octets, expected 1 to %d", len(name), maxName)
	case strings.TrimSpace(name) != name, strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7F || r == '\uFFFD' }):
		return errors.New("a name has no control characters, nor blanks around it")
	}
	return nil
}

// CheckUnit says what is wrong with the path of a unit. ErrDocument.
func CheckUnit(path string) error {
	if err := checkUnit(path); err != nil {
		return fmt.Errorf("%w: unit %.64q: %w", ErrDocument, path, err)
	}
	return nil
}

// checkUnit: names with a slash between them; nothing is the top.
func checkUnit(path string) error {
	if path == "" {
		return nil
	}
	names := strings.Split(path, "/")
	if len(names) > maxDepth {
		return fmt.Errorf("%d levels, at most %d", len(names), maxDepth)
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return err
		}
	}
	return nil
}
