package target

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		target  string
		vouched bool
		ok      bool
	}{
		{"127.0.0.1", false, true},
		{"127.9.9.9", false, true},
		{"::1", false, true},
		{"203.0.113.1", true, true},
		{"203.0.113.1", false, false},
		{"10.0.0.1", false, false},
		{"2001:db8::1", false, false},
		{"0.0.0.0", false, false},
	} {
		if err := Check(netip.MustParseAddr(c.target), c.vouched); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrNotOwn) {
			t.Errorf("%s, vouched %t: %v", c.target, c.vouched, err)
		}
	}
}

// Within a namespace of its own a generator can reach only what was put there.
func TestInNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	top := netns.ForTest(t, netns.Options{})
	err := top.Gateway.Do(func() error { return Check(netip.MustParseAddr("10.1.0.2"), false) })
	if err != nil {
		t.Error(err)
	}
}
