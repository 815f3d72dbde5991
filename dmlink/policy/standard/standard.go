package standard

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/roamgate/roamgate/dmlink/policy"
)

// Platform says which nodes a device has.
type Platform string

// Platforms.
const (
	// Windows 10 and 11.
	Windows Platform = "windows"
	// WindowsMobile 6.1 and 6.5.
	WindowsMobile Platform = "windows-mobile"
)

var (
	// ErrNoNode: the platform has no documented node for a wish.
	ErrNoNode = errors.New("no node for it")
	// ErrWish: a wish that makes no sense anywhere.
	ErrWish = errors.New("setting")
)

// Builder is a wish.
type Builder interface {
	// Settings on a platform, and whether they have to change together.
	Settings(p Platform) (settings []policy.Setting, atomic bool, err error)
}

// Set of all wishes. It is for all devices until Groups or a Filter say
// otherwise.
func Set(name string, p Platform, wishes ...Builder) (policy.Set, error) {
	s := policy.Set{Name: name}
	for _, w := range wishes {
		settings, atomic, err := w.Settings(p)
		if err != nil {
			return policy.Set{}, fmt.Errorf("set %q: %w", name, err)
		}
		s.Settings = append(s.Settings, settings...)
		s.Atomic = s.Atomic || atomic
	}
	if _, err := policy.Compile(policy.Document{Sets: []policy.Set{s}}); err != nil {
		return policy.Set{}, err
	}
	return s, nil
}

func wish(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrWish}, args...)...)
}

func noNode(what string, p Platform) error { return fmt.Errorf("%s on %s: %w", what, p, ErrNoNode) }

func text(uri, data string) policy.Setting { return policy.Setting{URI: uri, Data: data} }

func number(uri string, n int) policy.Setting {
	return policy.Setting{URI: uri, Format: "int", Data: strconv.Itoa(n)}
}

func node(uri string) policy.Setting { return policy.Setting{URI: uri, Format: "node"} }

// there: devices have these nodes and want them replaced, not added.
func there(settings []policy.Setting) []policy.Setting {
	for i := range settings {
		settings[i].There = true
	}
	return settings
}

// leaving a value in a node that can't be removed.
func leaving(s policy.Setting, value string) policy.Setting {
	s.After, s.Leave = policy.Leave, value
	return s
}

// segment is a name as it stands in a URI (RFC 2396: what isn't unreserved is
// escaped; device clients want blanks as %20).
func segment(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("-_.~", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
