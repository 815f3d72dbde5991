package integration

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// Two devices behind one address are two sessions, at different ports, and
// neither's traffic reaches the other.
//
//	dev1 (strongSwan) 10.1.1.2 -- net (NAT) 10.1.0.254 -- 10.1.0.1 gw (gatewayd) -- lan
//	dev2 (strongSwan) 10.1.2.2 -/
func TestTwoDevicesBehindOneNAT(t *testing.T) {
	s := newScenario(t, options{devices: 2})
	if err := s.top.Router.Masquerade(s.ctx, natPorts, natPorts+999); err != nil {
		t.Fatal(err)
	}
	recorded := s.record(t, 96)
	var finish []func()
	for i, dev := range s.top.Devices {
		client := s.client(t, dev, s.root.device(t, fmt.Sprintf("dev%d", i+1), keyECDSA(t)))
		address := s.connect(t, client)
		s.ping(t, client, address)
		finish = append(finish, s.streams(t, dev.Namespace, address))
	}
	for _, f := range finish {
		f()
	}
	sessions := s.sessions(t)
	if len(sessions) != 2 || sessions[0].Remote.Addr() != netns.RouterOutside || sessions[1].Remote.Addr() != netns.RouterOutside ||
		sessions[0].Remote.Port() == sessions[1].Remote.Port() {
		t.Errorf("sessions %+v, want two at different ports of %s", sessions, netns.RouterOutside)
	}
	recorded()
}

// A NAT that forgets its mappings gives a device another port in mid-stream.
// The device doesn't notice. Its packets from there are a hint, an answer from
// there confirms it, and both streams go on; with MOBIKE the answer has to
// return what was sent there.
//
//	dev1 (strongSwan) 10.1.1.2 -- net (NAT, forgets) -- 10.1.0.1 gw (gatewayd) -- lan
func TestPortRemapInMidStream(t *testing.T) {
	for _, c := range []struct{ family, mobike string }{{"IPv4", "without"}, {"IPv6", "without"}, {"IPv4", "with"}} {
		family := c.family
		t.Run(family+" "+c.mobike+" MOBIKE", func(t *testing.T) {
			s := newScenario(t, options{router: true, ipv6: true})
			dev := s.top.Devices[0]
			at, own := netns.GatewayOutside, dev.Address
			if family == "IPv6" {
				at, own = netns.GatewayOutside6, dev.Address6
			}
			if err := s.top.Router.Masquerade(s.ctx, natPorts, natPorts+999); err != nil {
				t.Fatal(err)
			}
			pcap := filepath.Join(shortDir(t), "outside.pcap")
			capture, err := traffic.StartCapture(s.top.Gateway, netns.OutsideLink, pcap, 96)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = capture.Stop() })
			client := s.client(t, dev, s.root.device(t, "dev1", keyECDSA(t)), func(conn *peer.Connection) {
				conn.NoMOBIKE, conn.Gateway, conn.Local = c.mobike == "without", at, own
			})
			address := s.connect(t, client)
			before := s.sessions(t)[0]
			finish := s.streams(t, dev.Namespace, address)

			var after gateway.Session
			const others = natPorts + 10000
			if err := s.top.Router.Masquerade(s.ctx, others, others+999); err != nil {
				t.Fatal(err)
			}
			s.eventually(t, "the session at another port", func() (bool, string) {
				sessions := s.sessions(t)
				if len(sessions) != 1 {
					return false, spell(sessions)
				}
				after = sessions[0]
				return after.Remote.Port() >= others, spell(sessions)
			})
			finish()
			if after.ID != before.ID || after.Remote.Addr() != before.Remote.Addr() {
				t.Errorf("session %+v, before %+v", after, before)
			}
			s.ping(t, client, address)
			if err := capture.Stop(); err != nil {
				t.Fatal(err)
			}
			astray, err := sentAstray(pcap, before.Remote, after.Remote)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s became %s; the gateway sent %d packets to the old port after the first one from the new port", before.Remote, after.Remote, astray)
		})
	}
}

// sentAstray counts ESP that was sent to the old address after something had
// come from the new one.
func sentAstray(pcap string, old, now netip.AddrPort) (astray int, err error) {
	seen := false
	err = traffic.ReadDatagrams(pcap, func(d traffic.Datagram) error {
		seen = seen || d.From == now
		if _, _, ok := d.ESP(); ok && seen && d.To == old {
			astray++
		}
		return nil
	})
	return astray, err
}
