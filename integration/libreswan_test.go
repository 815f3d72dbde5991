package integration

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// libreswan starts a second stack that we didn't write on a device and
// connects it.
func (s *scenario) libreswan(t *testing.T, dev netns.Device, id identity, change func(*peer.LibreswanConnection)) (*peer.Pluto, netip.Addr) {
	t.Helper()
	conn := peer.LibreswanConnection{
		Files: id.files(t, s.root), Local: dev.Address, Gateway: netns.GatewayOutside,
		RemoteID: gatewayID, Remote: netns.Inside,
	}
	if change != nil {
		change(&conn)
	}
	client, err := peer.StartLibreswan(s.ctx, dev.Namespace, shortDir(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("pluto in %s:\n%s", dev.Name(), client.LogTail(60))
		}
		client.Vanish()
	})
	if err := client.Connect(s.ctx, 30*time.Second); err != nil {
		t.Fatalf("%v\ngatewayd:\n%s", err, s.gw.LogTail(30))
	}
	address, err := client.VirtualIP(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return client, address
}

// libreswan with its own defaults, and with what else it offers, moves TCP each
// way and what arrives is what was sent.
//
//	dev1 (libreswan, kernel ESP) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestXFRMLibreswanContent(t *testing.T) {
	netns.NeedKernelIPsec(t)
	for _, c := range []struct {
		name string
		rsa  bool
		conn peer.LibreswanConnection // IKE and ESP of it
	}{
		{name: "its defaults"},
		{name: "GCM-128, x25519", conn: peer.LibreswanConnection{IKE: "aes_gcm128-sha2_256-dh31", ESP: "aes_gcm128"}},
		{name: "RSA, CBC, ecp256", rsa: true, conn: peer.LibreswanConnection{IKE: "aes128-sha2_256-dh19", ESP: "aes128-sha2_256"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScenario(t, options{rsa: c.rsa})
			key := keyECDSA(t)
			if c.rsa {
				key = keyRSA(t)
			}
			dev := s.top.Devices[0]
			recorded := s.record(t, 96)
			client, address := s.libreswan(t, dev, s.root.device(t, "dev1", key), func(conn *peer.LibreswanConnection) {
				conn.IKE, conn.ESP = c.conn.IKE, c.conn.ESP
			})
			const size = 4 << 20
			up, err := traffic.TCP(s.ctx, dev.Namespace, s.top.LAN, netns.LANHost, size)
			if err != nil {
				t.Fatalf("up: %v", err)
			}
			if up.From != address {
				t.Errorf("the host inside saw %s, want the virtual IP %s", up.From, address)
			}
			if _, err := traffic.TCP(s.ctx, s.top.LAN, dev.Namespace, address, size); err != nil {
				t.Fatalf("down: %v", err)
			}
			recorded()
			sessions := s.sessions(t)
			if len(sessions) != 1 || sessions[0].Device != "dev1" || sessions[0].BytesIn < size || sessions[0].BytesOut < size {
				t.Errorf("sessions %+v, want one of dev1 with %d octets each way", sessions, size)
			}
			t.Logf("%s with %s", sessions[0].IKE, sessions[0].Children)
			if err := client.Disconnect(s.ctx); err != nil {
				t.Fatal(err)
			}
			s.eventually(t, "no session", func() (bool, string) {
				now := s.sessions(t)
				return len(now) == 0, fmt.Sprint(now)
			})
		})
	}
}

// Whoever rekeys what, streams in both directions go on, and the session and
// its address stay.
//
//	dev1 (libreswan, kernel ESP) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestXFRMLibreswanRekeys(t *testing.T) {
	netns.NeedKernelIPsec(t)
	for _, r := range []struct {
		name       string
		pfs        bool
		configure  func(*scenario)
		ask        func(*scenario, *peer.Pluto) error
		ike, child int // how often each is rekeyed, at least
		// pause between the client's own: the gateway refuses to rekey an IKE SA
		// within 5 s of the last time, and pluto 4.10 never tries that one again.
		pause time.Duration
	}{
		{name: "client, Child SA", child: 2, ask: func(s *scenario, c *peer.Pluto) error { return c.RekeyChild(s.ctx) }},
		{name: "client, Child SA with PFS", pfs: true, child: 2, ask: func(s *scenario, c *peer.Pluto) error { return c.RekeyChild(s.ctx) }},
		{name: "client, IKE SA", ike: 2, pause: 8 * time.Second, ask: func(s *scenario, c *peer.Pluto) error { return c.RekeyIKE(s.ctx) }},
		{name: "gateway, Child SA by octets", child: 1, configure: func(s *scenario) { s.conf.ESPSoft = 1 << 20 }},
	} {
		t.Run(r.name, func(t *testing.T) {
			s := newScenario(t, options{configure: r.configure})
			dev := s.top.Devices[0]
			recorded := s.record(t, 96)
			client, address := s.libreswan(t, dev, s.root.device(t, "dev1", keyECDSA(t)), func(c *peer.LibreswanConnection) { c.PFS = r.pfs })
			session := s.sessions(t)[0].ID
			finish := s.streams(t, dev.Namespace, address)
			ikes, children := map[int]bool{}, map[int]bool{}
			var asked time.Time
			s.within(t, 2*time.Minute, "rekeyed SAs", func() (bool, string) {
				sas, err := client.SAs(s.ctx)
				for _, sa := range sas {
					if sa.Child {
						children[sa.Number] = true
					} else {
						ikes[sa.Number] = true
					}
				}
				if len(ikes) > r.ike && len(children) > r.child {
					return true, ""
				}
				if r.ask != nil && err == nil && time.Since(asked) > r.pause {
					err = r.ask(s, client)
					asked = time.Now()
				}
				return false, fmt.Sprintf("IKE SAs %v, Child SAs %v, %v", ikes, children, err)
			})
			finish()
			if now := s.sessions(t); len(now) != 1 || now[0].ID != session || len(now[0].VirtualIPs) != 1 || now[0].VirtualIPs[0] != address {
				t.Errorf("sessions %+v, want %s at %s", now, session, address)
			}
			recorded()
			s.allKnown(t)
		})
	}
}
