package integration

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// gatewayd is killed while its kernel forwards for a device. What is in the kernel
// goes on, access lists included, until the next gatewayd takes it away, and
// nothing of anybody else's. The device finds out by itself that its gateway knows
// it no more, comes back and has its address; no sequence number is used twice
// under a key. After an orderly end only what is somebody else's is left.
//
//	dev1 (strongSwan, kernel ESP) -- gw (gatewayd, killed, kernel ESP with an SA of another program) -- lan
func TestXFRMKillAndRestart(t *testing.T) {
	s := inKernel(t, options{})
	s.foreignIPsec(t)
	recorded := s.record(t, 96)
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)), func(c *peer.Connection) { c.DPD, c.Return = "2s", true })
	before := s.connect(t, client)
	s.ping(t, client, before)
	session := s.sessions(t)[0]

	s.gw.Kill()
	if ours, foreign := s.gatewaySAs(t); ours != 2 || foreign != 1 {
		t.Errorf("%d SAs of the gateway and %d of another program after the kill, want 2 and 1", ours, foreign)
	}
	s.ping(t, client, before)
	if _, err := traffic.TCP(s.ctx, client.Namespace(), s.top.LAN, netns.LANHost, 1<<16); err != nil {
		t.Errorf("with nobody at home: %v", err)
	}

	s.start()
	// Two SAs, the policy out, and those in and on that all devices share.
	if log := s.gw.LogTail(200); !strings.Contains(log, "left_by_earlier_run=5") {
		t.Error("the second gateway doesn't tell what the first one left")
	}
	if ours, foreign := s.gatewaySAs(t); ours != 0 || foreign != 1 {
		t.Errorf("%d SAs of the gateway and %d of another program after the start, want 0 and 1", ours, foreign)
	}
	s.within(t, time.Minute, "the device to come back by itself", func() (bool, string) {
		now := s.sessions(t)
		return len(now) == 1 && now[0].ID != session.ID, spell(now)
	})
	s.eventually(t, "the address it had", func() (bool, string) {
		after, err := client.VirtualIP()
		return err == nil && after == before, spell(after)
	})
	s.ping(t, client, before)
	recorded()

	if err := s.gw.Terminate(15 * time.Second); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	s.noTraces(t)
	if ours, foreign := s.gatewaySAs(t); ours != 0 || foreign != 1 {
		t.Errorf("%d SAs of the gateway and %d of another program after the end, want 0 and 1", ours, foreign)
	}
	policies, err := s.top.Gateway.Run(s.ctx, s.command("ip", "xfrm", "policy", "list", "dir", "out"))
	if err != nil || strings.Count(string(policies), "dir out") != 1 || !strings.Contains(string(policies), foreignNet.String()) {
		t.Errorf("out policies after the end (%v), want that of another program:\n%s", err, policies)
	}
}

// foreignNet is where the policy of another program leads to.
var foreignNet = netip.MustParsePrefix("198.51.100.0/24")

// foreignIPsec is what another program has in the gateway's kernel.
func (s *scenario) foreignIPsec(t *testing.T) {
	t.Helper()
	for _, c := range []string{
		"ip xfrm state add src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x1234 reqid 5 mode tunnel aead rfc4106(gcm(aes)) 0x000102030405060708090a0b0c0d0e0f10111213 128",
		"ip xfrm policy add src 192.0.2.0/24 dst " + foreignNet.String() + " dir out tmpl src 192.0.2.1 dst 192.0.2.2 proto esp reqid 5 mode tunnel",
	} {
		words := strings.Fields(c)
		if said, err := s.top.Gateway.Run(s.ctx, s.command(words[0], words[1:]...)); err != nil {
			t.Fatalf("%s: %v, %s", c, err, said)
		}
	}
}

// gatewaySAs counts those of gatewayd, which have an interface, and others.
func (s *scenario) gatewaySAs(t *testing.T) (ours, foreign int) {
	t.Helper()
	said, err := s.top.Gateway.Run(s.ctx, s.command("ip", "xfrm", "state"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Count(string(said), "proto esp")
	ours = strings.Count(string(said), "if_id")
	return ours, all - ours
}

// A host inside that hears no ICMP, because something on its way drops it, still
// sends segments that fit: the gateway lowers the MSS in both SYNs.
//
//	dev1 (strongSwan, kernel ESP) -- gw (gatewayd, kernel ESP, nftables) -- lan, deaf to ICMP
func TestXFRMMSSIsClamped(t *testing.T) {
	s := inKernel(t, options{})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)))
	s.connect(t, client)
	for _, ns := range []*netns.Namespace{s.top.LAN, client.Namespace()} {
		said, err := ns.Run(s.ctx, s.command("nft", "add table inet deaf; add chain inet deaf in { type filter hook input priority 0; }; add rule inet deaf in icmp type destination-unreachable drop"))
		if err != nil {
			t.Fatalf("%v: %s", err, said)
		}
	}
	for _, way := range [][2]*netns.Namespace{{client.Namespace(), s.top.LAN}, {s.top.LAN, client.Namespace()}} {
		to := netns.LANHost
		if way[1] != s.top.LAN {
			var err error
			if to, err = client.VirtualIP(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := traffic.TCP(s.ctx, way[0], way[1], to, 1<<20); err != nil {
			t.Errorf("a transfer to %s: %v", to, err)
		}
	}
	status, err := s.gw.Status(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	if said, err := s.top.Gateway.Run(s.ctx, s.command("nft", "delete", "table", "inet", "gatewayd-mss-"+status.Interface)); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	address, err := client.VirtualIP()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
	defer cancel()
	if _, err := traffic.TCP(ctx, s.top.LAN, client.Namespace(), address, 1<<20); err == nil {
		t.Error("segments fit without the clamp, too: this test shows nothing")
	}
	if err := s.gw.Terminate(15 * time.Second); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if said, err := s.top.Gateway.Run(s.ctx, s.command("nft", "list", "tables")); err != nil || strings.Contains(string(said), "gatewayd") {
		t.Errorf("tables after the end (%v): %s", err, said)
	}
}
