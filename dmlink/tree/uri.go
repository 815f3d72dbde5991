package tree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrURI is wrapped by all errors of ParseURI.
var ErrURI = errors.New("not a URI of a management tree")

// Bounds of a URI in octets, without "./", and segments. Devices tell smaller ones of their
// own in DevDetail/URI.
const (
	maxURI      = 1024
	maxSegments = 32
)

// URI addresses a node, or with Prop one of its properties, or with List what
// lies below it (OMA-TS-DM_TND-V1_2_1 section 6).
type URI struct {
	// Path is names from the root on; empty is the root.
	Path []string
	// Prop is the name of a property, such as ACL.
	Prop string
	// List is Struct, StructData or TNDS.
	List string
}

// ParseURI reads "./A/B", which "A/B" is the same as, ".", "./A?prop=ACL" and
// "./A?list=Struct". A leading or closing slash, empty names, and "." or ".."
// as a name are errors. Names are kept as they are: escapes in them belong to
// the name.
func ParseURI(s string) (URI, error) {
	fail := func(why string) (URI, error) { return URI{}, fmt.Errorf("%w: %.64q: %s", ErrURI, s, why) }
	if n := len(strings.TrimPrefix(s, "./")); s == "" || n > maxURI {
		return fail(fmt.Sprintf("length %d, expected 1 to %d", n, maxURI))
	}
	path, query, asked := strings.Cut(s, "?")
	var u URI
	if asked {
		name, value, _ := strings.Cut(query, "=")
		if value == "" || strings.ContainsAny(value, "?&=/") {
			return fail("expected ?prop=NAME or ?list=NAME")
		}
		switch name {
		case "prop":
			u.Prop = value
		case "list":
			u.List = value
		default:
			return fail("expected ?prop=NAME or ?list=NAME")
		}
	}
	if path == "." {
		return u, nil
	}
	path = strings.TrimPrefix(path, "./")
	if strings.Count(path, "/") >= maxSegments {
		return fail(fmt.Sprintf("more than %d names", maxSegments))
	}
	u.Path = strings.Split(path, "/")
	for _, name := range u.Path {
		if err := checkName(name); err != nil {
			return fail(err.Error())
		}
	}
	return u, nil
}

func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("an empty name")
	case name == ".", name == "..":
		return errors.New("a relative name")
	case name == "*":
		return errors.New("an asterisk alone is no name")
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7F || r == '/' || r == '?' || r == '\uFFFD' }):
		return errors.New("a character that no name has")
	}
	return nil
}

// String begins with "./", except for the root.
func (u URI) String() string {
	s := "."
	if len(u.Path) > 0 {
		s = "./" + strings.Join(u.Path, "/")
	}
	switch {
	case u.Prop != "":
		return s + "?prop=" + u.Prop
	case u.List != "":
		return s + "?list=" + u.List
	}
	return s
}

// Below reports whether u is root, or lies below it. Properties don't matter.
func (u URI) Below(root URI) bool {
	return len(u.Path) >= len(root.Path) && slices.Equal(u.Path[:len(root.Path)], root.Path)
}
