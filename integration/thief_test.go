package integration

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/bench/device"
)

// tapped is a device's socket with somebody on the line: while steals is set,
// ESP goes out by the socket of a thief and the device's messages of IKE by its
// own.
type tapped struct {
	*net.UDPConn
	thief  *net.UDPConn
	steals atomic.Bool
	stolen atomic.Uint64
}

func (s *tapped) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	if s.steals.Load() && to.Port() == 4500 && isESP(b) {
		s.stolen.Add(1)
		return s.thief.WriteToUDPAddrPort(b, to)
	}
	return s.UDPConn.WriteToUDPAddrPort(b, to)
}

// isESP: neither IKE behind a non-ESP marker nor a keepalive (RFC 3948 section 2).
func isESP(b []byte) bool { return len(b) >= 8 && binary.BigEndian.Uint32(b) != 0 }

// Somebody on the way takes a device's packets and forwards them from an address
// of his own, before the gateway has seen them: they are authentic and new, just
// as after a NAT forgot its mapping. They are taken, and the gateway asks at that
// address. The thief can't answer that; so what is for the device goes where it
// went before, all the time, and the session lives on.
//
//	dev1 (simulated) 10.1.1.2 --IKE--- net --- 10.1.0.1 gw (gatewayd) -- lan
//	         \...ESP... dev2 (thief) 10.1.2.2 -/
func TestThiefDoesNotGetTheDownlink(t *testing.T) {
	for _, c := range []struct {
		name   string
		mobike bool
	}{{"with MOBIKE", true}, {"without MOBIKE", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			s := newScenario(t, options{devices: 2, configure: func(s *scenario) { s.conf.Idle, s.conf.NoMOBIKE = time.Second, !c.mobike }})
			own, err := listenUDP(s.top.Devices[0].Namespace, s.top.Devices[0].Address)
			if err != nil {
				t.Fatal(err)
			}
			line := &tapped{UDPConn: own}
			if line.thief, err = listenUDP(s.top.Devices[1].Namespace, s.top.Devices[1].Address); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = line.thief.Close() })
			var esp, asked atomic.Uint64 // what the thief got
			heard := make(chan struct{})
			go func() {
				defer close(heard)
				buffer := make([]byte, 2048)
				for {
					n, err := line.thief.Read(buffer)
					switch {
					case errors.Is(err, net.ErrClosed):
						return
					case err == nil && isESP(buffer[:n]):
						esp.Add(1)
					case err == nil:
						asked.Add(1)
					}
				}
			}()
			cfg := s.simulatedConfig(s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
			cfg.Listen = func() (device.Socket, error) { return line, nil }
			d, _ := s.simulate(t, cfg)
			s.pingsThrough(t, d)
			before := s.sessions(t)[0]

			// Two hints, each asked about at the thief's address first.
			line.steals.Store(true)
			s.eventually(t, "two hints that came to nothing", func() (bool, string) {
				s.pingsThrough(t, d)
				hints := s.metric(t, `dataplane_events_total{event="address_hint"}`)
				reverted := s.metric(t, `ike_notes_total{note="address_hint_reverted"}`)
				return hints >= 2 && reverted >= 2, fmt.Sprintf("%v hints, %v of them came to nothing", hints, reverted)
			})
			line.steals.Store(false)
			s.pingsThrough(t, d)

			sessions := s.sessions(t)
			if len(sessions) != 1 || sessions[0].ID != before.ID || sessions[0].Remote != before.Remote {
				t.Errorf("sessions %+v, want %s at %s still", sessions, before.ID, before.Remote)
			}
			if n := s.metric(t, `dataplane_events_total{event="address_hint_confirmed"}`); n != 0 {
				t.Errorf("%v hints were confirmed", n)
			}
			if lost := d.Counters().Lost; lost != 0 {
				t.Errorf("%d packets for the device got lost", lost)
			}
			if err := line.thief.Close(); err != nil {
				t.Fatal(err)
			}
			<-heard
			t.Logf("%d packets stolen; the thief was asked %d times and got %d packets of ESP", line.stolen.Load(), asked.Load(), esp.Load())
			if asked.Load() == 0 {
				t.Error("nobody asked at the thief's address: his packets weren't taken for a hint")
			}
			if esp.Load() != 0 {
				t.Errorf("%d packets of the downlink went to the thief", esp.Load())
			}
		})
	}
}

var _ device.Socket = (*tapped)(nil)
