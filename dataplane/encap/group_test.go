package encap

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A group shares one port, which is drawn once; what comes goes to one of them
// each. A group of one shares it with nobody.
func TestGroup(t *testing.T) {
	const n = 4
	group, err := ListenGroup(netip.MustParseAddrPort(families[0]), "", n)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range group {
		defer s.Close()
		if s.Local() != group[0].Local() || s.Local().Port() == 0 {
			t.Errorf("bound to %v and %v", s.Local(), group[0].Local())
		}
	}
	if _, err := Listen(group[0].Local(), ""); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a stranger at the port: %v", err)
	}
	receiver := NewReceiver(4)
	for range 50 {
		from := listen(t, families[0])
		if err := from.Send([][]byte{{1}}, group[0].Local()); err != nil {
			t.Fatal(err)
		}
		came := 0
		for _, s := range group {
			came += receiver.Receive(s)
		}
		if came != 1 {
			t.Fatalf("one datagram came %d times", came)
		}
	}
	alone, err := ListenGroup(netip.MustParseAddrPort(families[0]), "", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer alone[0].Close()
	if g, err := ListenGroup(alone[0].Local(), "", 2); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("shares the port of one: %v, %v", g, err)
	}
}

// TestGroupsHaveTheirPorts: a port that is drawn for a group is nobody else's, or
// the kernel would give the other one part of what comes.
func TestGroupsHaveTheirPorts(t *testing.T) {
	const groups = 800
	drawn := map[uint16]int{}
	for n := range groups {
		group, err := ListenGroup(netip.MustParseAddrPort(families[0]), "", 2)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { group[0].Close() })
		group[1].Close() // descriptors are few
		port := group[0].Local().Port()
		if other, taken := drawn[port]; taken {
			t.Errorf("groups %d and %d have port %d", other, n, port)
		}
		if drawn[port] = n; group[1].Local() != group[0].Local() {
			t.Errorf("a group at %v and %v", group[0].Local(), group[1].Local())
		}
	}
}
