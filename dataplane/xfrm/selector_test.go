package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/roamgate/roamgate/dataplane"
)

func TestPrefixesOfRanges(t *testing.T) {
	for _, c := range []struct{ first, last, want string }{
		{"10.2.0.0", "10.2.255.255", "[10.2.0.0/16]"},
		{"10.2.0.7", "10.2.0.7", "[10.2.0.7/32]"},
		{"0.0.0.0", "255.255.255.255", "[0.0.0.0/0]"},
		{"10.2.0.1", "10.2.0.6", "[10.2.0.1/32 10.2.0.2/31 10.2.0.4/31 10.2.0.6/32]"},
		{"255.255.255.254", "255.255.255.255", "[255.255.255.254/31]"},
		{"fd00::", "fd00::ffff", "[fd00::/112]"},
		{"::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "[::/0]"},
		{"::1", "::3", "[::1/128 ::2/127]"},
	} {
		if got := fmt.Sprint(prefixesOf(netip.MustParseAddr(c.first), netip.MustParseAddr(c.last))); got != c.want {
			t.Errorf("%s-%s: %s, want %s", c.first, c.last, got, c.want)
		}
	}
}

// Masks hold exactly the ports of their range.
func TestMasksOfRanges(t *testing.T) {
	for _, c := range []struct {
		first, last uint16
		masks       int
	}{{0, 65535, 1}, {7, 7, 1}, {4000, 4999, 6}, {1, 65534, 30}, {65535, 65535, 1}, {0, 0, 1}, {1024, 65535, 6}} {
		masks := masksOf(c.first, c.last)
		if len(masks) != c.masks {
			t.Errorf("%d-%d: %d masks, want %d", c.first, c.last, len(masks), c.masks)
		}
		for port := range 1 << 16 {
			hits := 0
			for _, m := range masks {
				if uint16(port)&m.mask == m.value {
					hits++
				}
			}
			if within := uint16(port) >= c.first && uint16(port) <= c.last; hits > 1 || hits == 1 != within {
				t.Fatalf("%d-%d: port %d is in %d masks", c.first, c.last, port, hits)
			}
		}
	}
}

// Selectors of two sides become those of packets, and no more than are bearable.
func TestCross(t *testing.T) {
	a := netip.MustParseAddr
	virtual := []netip.Addr{a("10.9.0.7"), a("fd00:9::7")}
	everything := dataplane.Selector{First: a("10.0.0.0"), Last: a("10.255.255.255"), LastPort: 0xFFFF}
	echo := dataplane.Selector{Protocol: 1, First: a("10.2.0.0"), Last: a("10.2.0.255"), FirstPort: 8 << 8, LastPort: 8 << 8}
	dns := dataplane.Selector{Protocol: 17, First: a("10.2.0.53"), Last: a("10.2.0.53"), FirstPort: 53, LastPort: 53}

	local, err := localSides([]dataplane.Selector{echo, dns})
	if err != nil {
		t.Fatal(err)
	}
	got, err := cross(remoteSides([]dataplane.Selector{everything}, virtual), local)
	want := []selector{
		{src: netip.MustParsePrefix("10.9.0.7/32"), dst: netip.MustParsePrefix("10.2.0.0/24"), proto: 1, sport: 8, smask: 0xFF, dport: 0, dmask: 0xFF},
		{src: netip.MustParsePrefix("10.9.0.7/32"), dst: netip.MustParsePrefix("10.2.0.53/32"), proto: 17, dport: 53, dmask: 0xFFFF},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	if out := got[1].reversed(); out.src != want[1].dst || out.sport != 53 || out.dmask != 0 {
		t.Errorf("reversed %+v", out)
	}
	if out := got[0].reversed(); out.sport != 8 || out.dmask != 0xFF {
		t.Errorf("type and code changed places: %+v", out)
	}

	// Ports that have to be cut into many masks on both sides.
	odd := dataplane.Selector{Protocol: 6, First: a("10.0.0.1"), Last: a("10.255.255.254"), FirstPort: 1, LastPort: 65534}
	local, err = localSides([]dataplane.Selector{odd})
	if err == nil {
		_, err = cross(remoteSides([]dataplane.Selector{odd}, virtual), local)
	}
	if !errors.Is(err, dataplane.ErrInvalid) {
		t.Errorf("%v, want ErrInvalid", err)
	}
}

func TestStatistics(t *testing.T) {
	s := parseStatistics("XfrmInError             \t0\nXfrmInNoStates          \t3\nXfrmInStateSeqError     \t7\nXfrmInNoPols            \t2\nXfrmInPolBlock\t1\nXfrmOutNoStates 9\nnonsense\n")
	var want dataplane.Drops
	want[dataplane.ReasonUnknownSPI], want[dataplane.ReasonSelectorIn] = 3, 3
	if s.drops != want || s.sequence != 7 {
		t.Errorf("read %+v, want %v and 7", s, want)
	}
}
