package integration

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/control/ike"
	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// another address of the device, on the same link.
var another = netip.MustParseAddr("10.1.0.3")

// A device moves between two addresses and two families, once more in the middle
// of each rekeying, and its SAs with it: the same ones, their sequence numbers
// going on, as the wire recorder checks. It goes to the address of the other
// family because the gateway told it.
//
//	dev1 (simulated) 10.1.0.2, 10.1.0.3, fd00:1::2 -- 10.1.0.1, fd00:1::1 gw (gatewayd) -- lan
func TestSimulatedDeviceRoams(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newScenario(t, options{ipv6: true})
	dev := s.top.Devices[0]
	if err := dev.AddAddress(netns.HostLink, netip.PrefixFrom(another, 24)); err != nil {
		t.Fatal(err)
	}
	recorded := s.record(t, 96)
	d, address := s.simulate(t, s.simulatedConfig(dev, s.root.device(t, "dev1", keyECDSA(t))))
	s.pingsThrough(t, d)
	before, info := s.sessions(t)[0], d.Info()
	if len(info.GatewayAddresses) != 1 || info.GatewayAddresses[0] != netns.GatewayOutside6 {
		t.Fatalf("the gateway told of %v, want %v", info.GatewayAddresses, netns.GatewayOutside6)
	}
	roam := func(what string, at, to netip.Addr, first func() error) {
		t.Helper()
		conn, err := dev.ListenPacket("udp", at)
		if err == nil && first != nil {
			err = first()
		}
		if err == nil {
			err = d.RoamTo(conn.(*net.UDPConn), netip.AddrPortFrom(to, 4500))
		}
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		began := time.Now()
		local := netip.MustParseAddrPort(conn.LocalAddr().String())
		var now []gateway.Session
		s.eventually(t, what, func() (bool, string) {
			now = s.sessions(t)
			return len(now) == 1 && now[0].Remote == local && d.Info().Children == 1, spell(now) + spell(d.Info())
		})
		t.Logf("%s: moved within %v", what, time.Since(began).Round(time.Millisecond))
		if now[0].ID != before.ID {
			t.Errorf("%s: session %s, before %s", what, now[0].ID, before.ID)
		}
		s.pingsThrough(t, d)
	}
	roam("to another address", another, netns.GatewayOutside, nil)
	roam("to IPv6", dev.Address6, info.GatewayAddresses[0], nil)
	roam("back to IPv4", dev.Address, netns.GatewayOutside, nil)
	if now := d.Info(); now.ChildSAs != 1 || now.IKESAs != 1 || now.Child != info.Child {
		t.Errorf("SAs were made for moves: %+v, before %+v", now, info)
	}
	roam("while the Child SA is rekeyed", another, netns.GatewayOutside, d.RekeyChild)
	time.Sleep(6 * time.Second) // an IKE SA isn't rekeyed younger, nor in the middle of another rekeying
	roam("while the IKE SA is rekeyed", dev.Address6, netns.GatewayOutside6, d.RekeyIKE)
	if now := d.Info(); now.ChildSAs != 2 || now.IKESAs != 2 {
		t.Errorf("%d Child SAs and %d IKE SAs, want 2 of each: %+v", now.ChildSAs, now.IKESAs, now)
	}
	if at := d.Info().Summary.VirtualIPs[0]; at != address {
		t.Errorf("virtual IP %v, before %v", at, address)
	}
	if lost := d.Counters().Lost; lost != 0 {
		t.Logf("%d packets for the device got lost on the way", lost)
	}
	recorded()
}

// A gateway that was killed tells a device that asks; the device needn't wait
// for its liveness check to fail (RFC 6290).
//
//	dev1 (simulated) 10.1.0.2 -- 10.1.0.1 gw (gatewayd, killed and started) -- lan
func TestCrashIsTold(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newScenario(t, options{})
	cfg := s.simulatedConfig(s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	d, address := s.simulate(t, cfg)
	s.pingsThrough(t, d)
	s.gw.Kill()
	s.start()
	began := time.Now()
	if err := d.Probe(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	info, err := d.Await(ctx, func(i device.Info) bool { return i.State == device.Ended })
	if err != nil || info.Closed == nil || info.Closed.Reason != ike.ClosePeerCrashed {
		t.Fatalf("after the crash %+v, %v; want it closed as %s", info, err, ike.ClosePeerCrashed)
	}
	t.Logf("told %v after it asked", time.Since(began).Round(time.Millisecond))
	// A question that is repeated is answered again.
	if n := s.metric(t, `dataplane_events_total{event="crash_token_shown"}`); n == 0 {
		t.Error("no token was shown")
	}
	back, now := s.simulate(t, cfg)
	if now != address {
		t.Errorf("virtual IP %v, before the crash %v", now, address)
	}
	s.pingsThrough(t, back)
}

// pauses measures how long a stream stands still at most.
func pauses(ctx context.Context, stream *traffic.Stream) (longest func() time.Duration) {
	ctx, stop := context.WithCancel(ctx)
	result := make(chan time.Duration, 1)
	go func() {
		var most time.Duration
		at, since := stream.Sent(), time.Now()
		for ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
			if now := stream.Sent(); now != at {
				at, since = now, time.Now()
			}
			most = max(most, time.Since(since))
		}
		result <- most
	}()
	return func() time.Duration { stop(); return <-result }
}

// strongSwan loses its address and gets another, of the same family and of the
// other, under a TCP transfer. Its content is intact. The natively installed one
// answers a move with a rekeying, because its ESP in user space can't move.
//
// A device that lost its address asks over all the paths that it has, and takes
// the one that answers first. So that it is known where it goes, it has no other
// address than the one that it is to go to.
//
//	dev1 (strongSwan) 10.1.0.2, then 10.1.0.3, then fd00:1::2 -- 10.1.0.1, fd00:1::1 gw (gatewayd) -- lan
func TestStrongSwanRoams(t *testing.T) {
	t.Parallel() // it waits most of the time
	s := newScenario(t, options{ipv6: true})
	dev := s.top.Devices[0]
	if _, err := dev.Sysctl("net.ipv4.conf."+netns.HostLink+".promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	v4, other4, v6 := netip.PrefixFrom(dev.Address, 24), netip.PrefixFrom(another, 24), netip.PrefixFrom(dev.Address6, 64)
	if err := dev.DelAddress(netns.HostLink, v6); err != nil {
		t.Fatal(err)
	}
	client := s.client(t, dev, s.root.device(t, "dev1", keyECDSA(t)))
	address := s.connect(t, client)
	s.ping(t, client, address)
	before := s.sessions(t)[0]
	stream, err := traffic.StartTCP(s.ctx, dev.Namespace, s.top.LAN, netns.LANHost)
	if err != nil {
		t.Fatal(err)
	}
	roam := func(what string, from, to netip.Prefix) {
		t.Helper()
		longest := pauses(s.ctx, stream)
		if err := errors.Join(dev.AddAddress(netns.HostLink, to), dev.DelAddress(netns.HostLink, from)); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		var sent int64
		s.eventually(t, what, func() (bool, string) {
			now := s.sessions(t)
			moved := len(now) == 1 && now[0].Remote.Addr() == to.Addr() && now[0].ID == before.ID
			if moved && sent == 0 {
				sent = stream.Sent()
			}
			return moved && stream.Sent() > sent+(1<<20), spell(now) + fmt.Sprint(stream.Sent())
		})
		t.Logf("%s: the stream stood still for %v at most", what, longest().Round(time.Millisecond))
	}
	roam("to another address", v4, other4)
	roam("to IPv6", other4, v6)
	roam("back to IPv4", v6, v4)
	transfer, err := stream.Stop()
	if err != nil {
		t.Fatal(err)
	}
	if transfer.From != address {
		t.Errorf("the stream came from %v, want %v", transfer.From, address)
	}
	s.hasAddress(t, client, address)
}

// hasAddress waits until a client has nothing but what is new, and its address.
func (s *scenario) hasAddress(t *testing.T, client *peer.Charon, address netip.Addr) {
	t.Helper()
	s.eventually(t, fmt.Sprintf("one Child SA, and the address %s", address), func() (bool, string) {
		sa, err := client.SA()
		return err == nil && len(sa.VirtualIPs) == 1 && sa.VirtualIPs[0] == address, fmt.Sprint(sa, err)
	})
}

// strongSwan sleeps, and wakes up at another address: its session is there.
//
//	dev1 (strongSwan, frozen, moved and thawed) 10.1.0.2, 10.1.0.3 -- 10.1.0.1 gw (gatewayd) -- lan
func TestFrozenClientReturnsElsewhere(t *testing.T) {
	t.Parallel() // it waits most of the time
	frozenElsewhere(t, 5*time.Second)
}

// soakFrozenEnv is how long strongSwan sleeps, where ten minutes are too long.
const soakFrozenEnv = "ROAMGATE_SOAK_FROZEN"

// The same after ten minutes of real time: several times what strongSwan and the
// gateway take to give up a peer that doesn't answer.
func TestSoakFrozenClientReturnsElsewhere(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("takes minutes: run `make soak`")
	}
	t.Parallel() // it waits most of the time
	asleep := 10 * time.Minute
	if text := os.Getenv(soakFrozenEnv); text != "" {
		var err error
		if asleep, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", soakFrozenEnv, err)
		}
	}
	frozenElsewhere(t, asleep)
}

func frozenElsewhere(t *testing.T, asleep time.Duration) {
	s := newScenario(t, options{patience: asleep + 4*time.Minute, configure: func(s *scenario) { s.conf.Idle = time.Second }})
	dev := s.top.Devices[0]
	if _, err := dev.Sysctl("net.ipv4.conf."+netns.HostLink+".promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	client := s.client(t, dev, s.root.device(t, "dev1", keyECDSA(t)))
	address := s.connect(t, client)
	s.ping(t, client, address)
	session := s.sessions(t)[0].ID
	if err := client.Freeze(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(asleep)
	if now := s.sessions(t); len(now) != 1 || now[0].ID != session || now[0].Remote.Addr() != dev.Address {
		t.Errorf("sessions while it sleeps %s, want %s", spell(now), session)
	}
	err := errors.Join(dev.AddAddress(netns.HostLink, netip.PrefixFrom(another, 24)),
		dev.DelAddress(netns.HostLink, netip.PrefixFrom(dev.Address, 24)), client.Thaw())
	if err != nil {
		t.Fatal(err)
	}
	woke := time.Now()
	s.eventually(t, "the session at the other address", func() (bool, string) {
		now := s.sessions(t)
		return len(now) == 1 && now[0].ID == session && now[0].Remote.Addr() == another, spell(now)
	})
	t.Logf("asleep for %v; the session was at the other address %v after it woke up", asleep, time.Since(woke).Round(time.Millisecond))
	s.ping(t, client, address)
	s.hasAddress(t, client, address)
}
