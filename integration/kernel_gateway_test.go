package integration

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// inKernel makes a scenario's gateway and clients use the kernel's IPsec.
func inKernel(t *testing.T, o options) *scenario {
	t.Helper()
	netns.NeedKernelIPsec(t)
	t.Setenv(clientEnv, "kernel")
	t.Setenv(backendEnv, "xfrm")
	return newScenario(t, o)
}

// allKnown fails where the kernel of a gateway that forwards by it got or had a
// packet without an SA.
func (s *scenario) allKnown(t *testing.T) {
	t.Helper()
	status, err := s.gw.Status(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if status.Backend != "xfrm" {
		return
	}
	failures, err := s.top.Gateway.IPsecErrors()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("counted by the gateway's kernel: %v", failures)
	for _, name := range []string{"XfrmInNoStates", "XfrmOutNoStates"} {
		if failures[name] > 0 {
			t.Errorf("%s is %d, want 0", name, failures[name])
		}
	}
}

// doctor and status name the kernel, and why.
//
//	gw (gatewayd, kernel ESP)
func TestXFRMDoctor(t *testing.T) {
	netns.NeedKernelIPsec(t)
	for backend, want := range map[string]string{
		"auto": "kernel data plane (xfrm)", "xfrm": "kernel data plane (xfrm)", "userspace": "because gateway.backend says so",
	} {
		t.Run(backend, func(t *testing.T) {
			t.Setenv(backendEnv, backend)
			s := newScenario(t, options{})
			s.doctorSays(t, want)
			status, err := s.gw.Status(s.ctx)
			if name := map[string]string{"auto": "xfrm", "xfrm": "xfrm", "userspace": "userspace"}[backend]; err != nil || status.Backend != name {
				t.Errorf("the gateway forwards with %q (%v), want %q", status.Backend, err, name)
			}
		})
	}
}

// A device moves to where a NAT is between it and the gateway, and back, in
// mid-stream: ESP goes in UDP, and then directly over IP again. The SAs stay, and
// the kernel knows them all the time.
//
//	dev1 (strongSwan, kernel ESP) 10.1.1.2, then .3 -- net (router, then NAT, then router) -- 10.1.0.1 gw (gatewayd, kernel ESP) -- lan
func TestXFRMNATAppearsAndVanishes(t *testing.T) {
	s := inKernel(t, options{router: true})
	dev := s.top.Devices[0]
	if _, err := dev.Sysctl("net.ipv4.conf."+netns.HostLink+".promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	recorded := s.record(t, 96)
	client := s.client(t, dev, s.root.device(t, "dev1", keyECDSA(t)), func(c *peer.Connection) { c.Local = netip.Addr{} })
	address := s.connect(t, client)
	before := s.sessions(t)[0]
	s.ping(t, client, address)
	s.inUDP(t, false)
	finish := s.streams(t, dev.Namespace, address)
	move := func(from, to, at netip.Addr) {
		t.Helper()
		if err := errors.Join(
			dev.AddAddress(netns.HostLink, netip.PrefixFrom(to, 24)), dev.DelAddress(netns.HostLink, netip.PrefixFrom(from, 24)),
		); err != nil {
			t.Fatal(err)
		}
		s.eventually(t, "the session at "+at.String(), func() (bool, string) {
			now := s.sessions(t)
			return len(now) == 1 && now[0].ID == before.ID && now[0].Remote.Addr() == at, spell(now)
		})
	}
	if err := s.top.Router.Masquerade(s.ctx, natPorts, natPorts+999); err != nil {
		t.Fatal(err)
	}
	move(dev.Address, dev.Address.Next(), netns.RouterOutside)
	s.inUDP(t, true)
	if _, err := traffic.TCP(s.ctx, dev.Namespace, s.top.LAN, netns.LANHost, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := s.top.Router.Unmasquerade(s.ctx); err != nil {
		t.Fatal(err)
	}
	move(dev.Address.Next(), dev.Address, dev.Address)
	s.inUDP(t, false)
	finish()
	if now := s.sessions(t)[0]; len(now.Children) != 1 || now.Children[0] != before.Children[0] {
		t.Errorf("session %+v, before %+v", now, before)
	}
	recorded()
	s.allKnown(t)
}

// inUDP waits until all SAs of the gateway's kernel have ESP in UDP, or none.
func (s *scenario) inUDP(t *testing.T, want bool) {
	t.Helper()
	s.eventually(t, fmt.Sprint("ESP in UDP: ", want), func() (bool, string) {
		said, err := s.top.Gateway.Run(s.ctx, s.command("ip", "xfrm", "state"))
		all, udp := strings.Count(string(said), "proto esp"), strings.Count(string(said), "espinudp")
		return err == nil && all == 2 && (udp == all) == want && (udp == 0) != want, string(said)
	})
}

// A device that sends with another's address, of either family, gets nothing
// through, and what it sends with its own goes on.
//
//	dev1 (strongSwan, kernel ESP, sends as dev2) -- net -- gw (gatewayd, kernel ESP) -- lan: udp 7000
//	dev2 (strongSwan, kernel ESP)                -/
func TestXFRMSpoofedSource(t *testing.T) {
	for _, c := range []struct {
		name string
		ipv6 bool
		// extra of the configuration
		extra         string
		layer, reason string
	}{
		{"by SPI", false, "", "access", "wrong_sa_in"},
		{"by SPI, both families", true, "", "access", "wrong_sa_in"},
		{"by SA", false, "  access: {enforce: nftables}\n", "dataplane", "selector_in"},
		{"by policies, both families", true, "  access: {enforce: nftables}\n", "dataplane", "selector_in"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := inKernel(t, options{devices: 2, ipv6: c.ipv6, configure: func(s *scenario) { s.conf.Extra = c.extra }})
			s.services(t)
			var clients []*peer.Charon
			var own [][]netip.Addr
			for i, dev := range s.top.Devices {
				client := s.client(t, dev, s.root.device(t, fmt.Sprintf("dev%d", i+1), keyECDSA(t)), func(conn *peer.Connection) {
					if c.ipv6 {
						conn.Remote = append(conn.Remote, netns.Inside6)
						conn.VirtualIPs = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
					}
				})
				if err := client.Connect(s.ctx, 20*time.Second); err != nil {
					t.Fatal(err)
				}
				sa, err := client.SA()
				if err != nil {
					t.Fatal(err)
				}
				if c.ipv6 != (len(sa.VirtualIPs) == 2) {
					t.Fatalf("virtual IPs %v", sa.VirtualIPs)
				}
				clients, own = append(clients, client), append(own, sa.VirtualIPs)
			}
			for family, stolen := range own[1] {
				s.spoofs(t, clients[0].Namespace(), own[0][family], stolen, c.layer, c.reason)
			}
			for i, client := range clients {
				s.ping(t, client, own[i][0])
			}
		})
	}
}

// spoofs makes a device's own SA carry another's address, and sends.
func (s *scenario) spoofs(t *testing.T, dev *netns.Namespace, own, stolen netip.Addr, layer, reason string) {
	t.Helper()
	target := netns.LANHost
	family := "-4"
	if stolen.Is6() {
		target, family = netns.LANHost6, "-6"
	}
	// The policies of the device let only its own address through; this one takes
	// the same SA.
	said, err := dev.Run(s.ctx, s.command("ip", family, "xfrm", "policy", "list", "dir", "out"))
	if err != nil {
		t.Fatal(err)
	}
	template := templateOf(string(said), own)
	if template == nil {
		t.Fatalf("no policy of %s in:\n%s", own, said)
	}
	if err := dev.AddAddress("lo", netip.PrefixFrom(stolen, stolen.BitLen())); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"ip", family, "xfrm", "policy", "add", "src", stolen.String(), "dst", target.String(), "dir", "out", "priority", "1", "tmpl"}, template...)
	if said, err := dev.Run(s.ctx, s.command(args[0], args[1:]...)); err != nil {
		t.Fatalf("%v: %v, %s", args, err, said)
	}
	before, err := s.gw.Dropped(s.ctx, layer, reason)
	if err != nil {
		t.Fatal(err)
	}
	conn := udp(t, dev, netip.AddrPortFrom(stolen, 6000))
	s.eventually(t, "packets as "+stolen.String()+" to be dropped", func() (bool, string) {
		if _, err := conn.WriteToUDPAddrPort([]byte("hello"), netip.AddrPortFrom(target, openPort)); err != nil {
			t.Fatal(err)
		}
		now, err := s.gw.Dropped(s.ctx, layer, reason)
		return err == nil && now > before+3, fmt.Sprint(now, err)
	})
	buf := make([]byte, 64)
	if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, from, err := conn.ReadFromUDPAddrPort(buf); err == nil {
		t.Errorf("%s answered %q", from, buf[:n])
	}
}

// templateOf a policy for packets from an address, as `ip xfrm policy` takes it.
func templateOf(policies string, from netip.Addr) []string {
	_, policy, ok := strings.Cut(policies, fmt.Sprintf("src %s/%d ", from, from.BitLen()))
	if !ok {
		return nil
	}
	_, template, ok := strings.Cut(policy, "tmpl ")
	if !ok {
		return nil
	}
	fields := strings.Fields(template)
	end := 0
	for end < len(fields) && fields[end] != "mode" {
		end++
	}
	if end+2 > len(fields) {
		return nil
	}
	return fields[:end+2]
}
