package lease

import (
	"net/netip"
	"testing"
	"time"
)

// Two gateways hand out a half each. A device that brings its address along
// keeps it, at either, and nobody else gets it there.
func TestAnAddressTravels(t *testing.T) {
	half := func(own, neighbour string) *table {
		return testTable(t, Config{
			Pools: []netip.Prefix{netip.MustParsePrefix(own)}, Neighbours: []netip.Prefix{netip.MustParsePrefix(neighbour)},
			Exclude: []netip.Addr{netip.MustParseAddr("10.9.0.2")},
		})
	}
	a, b := half("10.9.0.0/29", "10.9.0.8/29"), half("10.9.0.8/29", "10.9.0.0/29")
	now := time.Now().UnixNano()
	session := SessionID(0)
	connect := func(tab *table, device, want string, entitled bool) netip.Addr {
		t.Helper()
		session++
		req := Request{Device: device, Session: session, Entitled: entitled}
		if want != "" {
			req.Want = netip.MustParseAddr(want)
		}
		tab.begin()
		g, err := tab.acquire(req, now, false)
		if err != nil {
			t.Fatalf("%s wants %s: %v", device, want, err)
		}
		return g.Address
	}
	is := func(got netip.Addr, want string) {
		t.Helper()
		if got != netip.MustParseAddr(want) {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	leave := func(tab *table, device string) { tab.end(device, tab.devices[device].session, now) }

	is(connect(a, "phone", "", false), "10.9.0.1")
	is(connect(b, "phone", "10.9.0.1", true), "10.9.0.1")
	if b.outside != 1 {
		t.Errorf("%d leases outside the pools of the second gateway", b.outside)
	}
	// It connects there once more, by its ticket: over the live session, and
	// after it.
	is(connect(b, "phone", "10.9.0.1", true), "10.9.0.1")
	leave(b, "phone")
	is(connect(b, "phone", "10.9.0.1", true), "10.9.0.1")
	// Another device can't have that one, nor any of the first gateway's by
	// asking; nor what is excluded or no host's by a ticket.
	is(connect(b, "thief", "10.9.0.1", true), "10.9.0.9")
	is(connect(b, "asker", "10.9.0.3", false), "10.9.0.10")
	is(connect(b, "confused", "10.9.0.2", true), "10.9.0.11")
	is(connect(b, "network", "10.9.0.0", true), "10.9.0.12")
	// Without its ticket it is a device of the second gateway.
	leave(b, "phone")
	is(connect(b, "phone", "", false), "10.9.0.13")
	if b.outside != 0 || b.leases[keyOf(netip.MustParseAddr("10.9.0.1"))] != nil {
		t.Error("the neighbour's address is still held")
	}
	// While a session lives its address stays, whatever a ticket says.
	is(connect(b, "phone", "10.9.0.1", true), "10.9.0.13")
	leave(b, "phone")
	is(connect(b, "phone", "10.9.0.1", true), "10.9.0.1")
	// Twice within the hour: a ticket is no wish.
	leave(b, "phone")
	is(connect(b, "phone", "10.9.0.13", true), "10.9.0.13")
}

func TestNeighboursAreChecked(t *testing.T) {
	pools := []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}
	for _, n := range []string{"10.9.0.128/25", "10.8.0.0/15", "224.0.0.0/24"} {
		if err := (Config{Pools: pools, Neighbours: []netip.Prefix{netip.MustParsePrefix(n)}}).Validate(); err == nil {
			t.Errorf("%s is taken for a neighbour's pool", n)
		}
	}
}
