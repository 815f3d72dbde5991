package integration

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// On a way that loses 1 % of all packets and lets others overtake every tenth,
// a device connects, its SAs are rekeyed, and what arrives is what was sent.
//
//	dev1 (strongSwan) 10.1.1.2 -- net (loss, reordering) -- 10.1.0.1 gw (gatewayd) -- lan
func TestLossAndReordering(t *testing.T) {
	const size = 20e6
	s := newScenario(t, options{router: true, patience: 10 * time.Minute}) // they are slow ways
	if err := s.top.Router.Lose(s.ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.top.Router.Reorder(s.ctx, 10, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	dev := s.top.Devices[0]
	pcap := filepath.Join(shortDir(t), "outside.pcap")
	capture, err := traffic.StartCapture(s.top.Gateway, netns.OutsideLink, pcap, 96)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Stop() })
	client := s.client(t, dev, s.root.device(t, "dev1", keyECDSA(t)))
	address := s.connect(t, client)
	session := s.sessions(t)[0].ID
	for _, rekey := range []func() error{
		func() error { return nil },
		func() error { return client.RekeyChild(s.ctx, peer.FirstChild) },
		func() error { return client.RekeyIKE(s.ctx) },
	} {
		if err := rekey(); err != nil {
			t.Fatal(err)
		}
		if _, err := traffic.TCP(s.ctx, dev.Namespace, s.top.LAN, netns.LANHost, size); err != nil {
			t.Fatalf("up: %v", err)
		}
		if _, err := traffic.TCP(s.ctx, s.top.LAN, dev.Namespace, address, size); err != nil {
			t.Fatalf("down: %v", err)
		}
	}
	if sessions := s.sessions(t); len(sessions) != 1 || sessions[0].ID != session {
		t.Errorf("sessions %+v, want %s", sessions, session)
	}
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	rec, err := traffic.CheckSequences(pcap)
	if err != nil {
		t.Fatal(err)
	}
	lost, err := s.top.Router.Lost(s.ctx)
	if err != nil || lost == 0 || rec.Overtaken == 0 {
		t.Errorf("%d packets lost and %d overtaken (%v): the way was too good", lost, rec.Overtaken, err)
	}
	t.Logf("%d packets lost, %d of %v arrived after a later one", lost, rec.Overtaken, rec.Packets)
}

// Certificates that fill several datagrams, over a network that lets no IP
// fragment through: only fragments of IKE itself arrive (RFC 7383), in both
// directions.
//
//	dev1 (strongSwan, RSA-4096, 2 intermediates) -- net (no fragments) -- gw (gatewayd, the same) -- lan
func TestLargeChainsInFragments(t *testing.T) {
	var root authority
	var device identity
	s := newScenario(t, options{router: true, configure: func(s *scenario) {
		// Keys are slow to make: one for all of the CAs and one for both ends.
		key := keyRSAOf(t, 4096)
		root = newRoot(t, "large root", keyRSAOf(t, 4096))
		issuer := root.below(t, "large policy CA", key).below(t, "large issuing CA", key)
		s.credential("large", issuer.gateway(t, key))
		device = issuer.device(t, "dev1", key)
		s.write("large.root.crt", certPEM(root.cert))
		s.conf.Certificate, s.conf.Key, s.conf.Roots = "large.crt", "large.key", []string{"large.root.crt"}
	}})
	if err := s.top.Router.LoseFragments(s.ctx); err != nil {
		t.Fatal(err)
	}
	with := func(fragmentation string) func(*peer.Connection) {
		return func(c *peer.Connection) { c.Files, c.Fragmentation = device.files(t, root), fragmentation }
	}
	pcap := filepath.Join(shortDir(t), "outside.pcap")
	capture, err := traffic.StartCapture(s.top.Gateway, netns.OutsideLink, pcap, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Stop() })
	client := s.client(t, s.top.Devices[0], device, with("yes"))
	s.ping(t, client, s.connect(t, client))
	if err := client.Disconnect(s.ctx); err != nil {
		t.Fatal(err)
	}
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	// Next payload of the header: Encrypted and Authenticated Fragment.
	const skf = 53
	fragments := map[bool]int{}
	err = traffic.ReadDatagrams(pcap, func(d traffic.Datagram) error {
		if m, ok := d.IKE(); ok && m[16] == skf {
			fragments[d.From.Addr() == netns.GatewayOutside]++
		}
		return nil
	})
	if err != nil || fragments[false] < 2 || fragments[true] < 2 {
		t.Errorf("fragments of IKE: %d from the client and %d from the gateway, %v; want several of each", fragments[false], fragments[true], err)
	}
	if lost, err := s.top.Router.Lost(s.ctx); err != nil || lost != 0 {
		t.Errorf("%d IP fragments were sent (%v), want none", lost, err)
	}

	// The same without fragments of IKE: the network is as bad as it is said.
	s.load(t, client, device, with("no"))
	if err := client.Connect(s.ctx, 3*time.Second); err == nil {
		t.Error("connected without fragmentation of IKE")
	}
	if lost, err := s.top.Router.Lost(s.ctx); err != nil || lost == 0 {
		t.Errorf("%d IP fragments were lost (%v), want some", lost, err)
	}
	if log := client.Log(); !strings.Contains(log, "RSA_EMSA_PKCS1_SHA2") {
		t.Errorf("no RSA signature in the client's log:\n%s", tail(log, 40))
	}
}
