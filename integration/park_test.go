package integration

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// datagrams sends one to a device now and then, which it takes and doesn't
// answer, until the test ends.
func (s *scenario) datagrams(t *testing.T, dev *netns.Namespace, to netip.Addr) {
	t.Helper()
	sink, err := dev.ListenPacket("udp4", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	source, err := s.top.LAN.ListenPacket("udp4", netns.LANHost)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	go func() {
		for s.ctx.Err() == nil {
			if _, err := source.WriteTo([]byte("anybody there?"), sink.LocalAddr().(*net.UDPAddr)); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
}

// A device that packets go to and nothing comes from is asked. One that lives
// answers and stays; one that vanished without a word loses its session, while
// its address waits for it.
//
//	dev1 (strongSwan, killed) 10.1.0.2 -- 10.1.0.1 gw (gatewayd, liveness after 1 s) -- lan
func TestLivenessRemovesAVanishedClient(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newScenario(t, options{configure: func(s *scenario) { s.conf.Idle = time.Second }})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	address := s.connect(t, client)
	s.datagrams(t, client.Namespace(), address)
	// After more questions than a dead one would be asked it is still there.
	said := len(client.Log())
	s.eventually(t, "four answers to liveness", func() (bool, string) {
		n := strings.Count(client.Log()[said:], "parsed INFORMATIONAL request")
		return n >= 4, fmt.Sprint(n)
	})
	if n := len(s.sessions(t)); n != 1 {
		t.Fatalf("%d sessions of a client that answers, want 1", n)
	}

	client.Vanish()
	s.eventually(t, "the session to end", func() (bool, string) {
		sessions := s.sessions(t)
		return len(sessions) == 0, spell(sessions)
	})
	leases, err := s.gw.Leases(s.ctx)
	if err != nil || len(leases) != 1 || leases[0].Address != address || leases[0].State != "idle" {
		t.Errorf("leases %+v (%v), want %s idle", leases, err, address)
	}
}

// A device that sleeps longer than it takes to give up a dead one, while
// nothing is sent to it, is parked: it wakes up in the session that it had.
//
//	dev1 (strongSwan, frozen and thawed) 10.1.0.2 -- 10.1.0.1 gw (gatewayd, liveness after 1 s) -- lan
func TestFrozenClientReturns(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newScenario(t, options{configure: func(s *scenario) { s.conf.Idle = time.Second }})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	address := s.connect(t, client)
	s.ping(t, client, address)
	session := s.sessions(t)[0].ID
	if err := client.Freeze(); err != nil {
		t.Fatal(err)
	}
	// The test beside this one shows that a dead one is given up by then: 1 s
	// until it is asked, a quarter more, and 0.5 s, 1 s and 2 s for three tries.
	time.Sleep(8 * time.Second)
	if sessions := s.sessions(t); len(sessions) != 1 || sessions[0].ID != session {
		t.Errorf("sessions while it sleeps %+v, want %s", sessions, session)
	}
	said := len(client.Log())
	if err := client.Thaw(); err != nil {
		t.Fatal(err)
	}
	s.ping(t, client, address)
	if sa, err := client.SA(); err != nil || len(sa.VirtualIPs) != 1 || sa.VirtualIPs[0] != address {
		t.Errorf("after it woke up: %+v, %v; want the address %s", sa, err, address)
	}
	if sessions := s.sessions(t); len(sessions) != 1 || sessions[0].ID != session {
		t.Errorf("sessions %+v, want %s", sessions, session)
	}
	if asked := strings.Count(client.Log()[said:], "parsed INFORMATIONAL request"); asked != 0 {
		t.Errorf("it was asked %d times while it slept", asked)
	}
}

// A parked device does lose its session in the end.
//
//	dev1 (strongSwan, frozen) 10.1.0.2 -- 10.1.0.1 gw (gatewayd, parking for a minute) -- lan
func TestParkingEnds(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newScenario(t, options{configure: func(s *scenario) { s.conf.Parking, s.conf.Idle = time.Minute, time.Second }})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	s.connect(t, client)
	if err := client.Freeze(); err != nil {
		t.Fatal(err)
	}
	s.within(t, 2*time.Minute, "the session to end", func() (bool, string) {
		sessions := s.sessions(t)
		return len(sessions) == 0, spell(sessions)
	})
	// It is closed when the DELETE, which nobody answers, was given up.
	s.within(t, 2*time.Minute, "one session closed as idle", func() (bool, string) {
		n, err := s.gw.Dropped(s.ctx, "close", "idle")
		return n == 1, fmt.Sprint(n, err)
	})
}
