package integration

import (
	"net/netip"
	"testing"

	"github.com/roamgate/roamgate/integration/peer"
)

func askFor(a netip.Addr) func(*peer.Connection) {
	return func(c *peer.Connection) { c.VirtualIPs = []netip.Addr{a} }
}

// A device gets the address that it had, whether it asks for it or not, and
// never one that another device lives at.
//
//	dev1 (strongSwan) 10.1.1.2 -- net -- 10.1.0.1 gw (gatewayd) -- lan
//	dev2 (strongSwan) 10.1.2.2 -/
func TestAddressStaysWithTheDevice(t *testing.T) {
	s := newScenario(t, options{devices: 2})
	one, two := s.root.device(t, "dev1", keyECDSA(t)), s.root.device(t, "dev2", keyECDSA(t))
	client1 := s.client(t, s.top.Devices[0], one)
	first := s.connect(t, client1)
	if err := client1.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}

	client2 := s.client(t, s.top.Devices[1], two)
	other := s.connect(t, client2)
	if other == first {
		t.Fatalf("dev2 was given %s, which is of dev1, while others are free", first)
	}

	if again := s.connect(t, client1); again != first {
		t.Errorf("dev1 came back to %s, had %s", again, first)
	}
	if err := client1.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.load(t, client1, one, askFor(first))
	if again := s.connect(t, client1); again != first {
		t.Errorf("dev1 asked for %s and got %s", first, again)
	}
	if err := client1.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}
	s.load(t, client1, one, askFor(other))
	if got := s.connect(t, client1); got == other {
		t.Errorf("dev1 was given %s, at which dev2 lives", other)
	} else {
		s.ping(t, client1, got)
	}
	s.ping(t, client2, other)
}

// The same device logs in again from elsewhere: the new session has the
// address, and the old one is gone.
//
//	dev1 (strongSwan, certificate A) -- net -- gw (gatewayd) -- lan
//	dev2 (strongSwan, certificate A) -/
func TestSecondLoginReplacesTheFirst(t *testing.T) {
	s := newScenario(t, options{devices: 2})
	id := s.root.device(t, "dev1", keyECDSA(t))
	old := s.client(t, s.top.Devices[0], id)
	first := s.connect(t, old)
	s.ping(t, old, first)

	current := s.client(t, s.top.Devices[1], id)
	if second := s.connect(t, current); second != first {
		t.Errorf("the second login was given %s, the first had %s", second, first)
	}
	s.eventually(t, "one session, from the second place", func() (bool, string) {
		sessions := s.sessions(t)
		return len(sessions) == 1 && sessions[0].Remote.Addr() == s.top.Devices[1].Address, spell(sessions)
	})
	s.ping(t, current, first)
	s.eventually(t, "the old client to be told", func() (bool, string) {
		sas, err := old.SAs()
		return err == nil && len(sas) == 0, spell(sas)
	})
	leases, err := s.gw.Leases(s.ctx)
	if err != nil || len(leases) != 1 || leases[0].Address != first || leases[0].State != "live" {
		t.Errorf("leases %+v (%v), want one live at %s", leases, err, first)
	}
}
