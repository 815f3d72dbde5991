package integration

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
)

// A client of the kernel's IPsec, with extended sequence numbers, loses its
// address in mid-stream and goes on from another: MOBIKE moves its SAs in
// place (RFC 4555). All that arrives is what was sent, no sequence number is
// used twice under a key, and the kernel knows the SA of whatever comes.
//
//	dev1 (strongSwan, kernel ESP) 10.1.0.2, then 10.1.0.3 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestXFRMClientMoves(t *testing.T) {
	netns.NeedKernelIPsec(t)
	t.Setenv(clientEnv, "kernel")
	s := newScenario(t, options{})
	dev := s.top.Devices[0]
	recorded := s.record(t, 96)
	client := s.client(t, dev, s.root.device(t, "dev1", keyECDSA(t)), proposals("aes128gcm16-prfsha256-x25519", "aes128gcm16-esn"), func(c *peer.Connection) {
		c.Local = netip.Addr{} // whichever it has
	})
	address := s.connect(t, client)
	if n, err := dev.SAs(); err != nil || n != 2 {
		t.Fatalf("the device's kernel has %d SAs, %v; want one each way", n, err)
	}
	before, err := client.SA()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(before.Children[0].Algorithms, "ESN") {
		t.Fatalf("no extended sequence numbers: %s", before.Children[0].Algorithms)
	}
	// The kernel takes all addresses of a network with the first one otherwise.
	if _, err := dev.Sysctl("net.ipv4.conf."+netns.HostLink+".promote_secondaries", "1"); err != nil {
		t.Fatal(err)
	}
	finish := s.streams(t, dev.Namespace, address)
	for _, way := range []struct{ from, to netip.Addr }{
		{dev.Address, dev.Address.Next()}, {dev.Address.Next(), dev.Address},
	} {
		if err := dev.AddAddress(netns.HostLink, netip.PrefixFrom(way.to, 24)); err != nil {
			t.Fatal(err)
		}
		if err := dev.DelAddress(netns.HostLink, netip.PrefixFrom(way.from, 24)); err != nil {
			t.Fatal(err)
		}
		s.eventually(t, "the session to be at "+way.to.String(), func() (bool, string) {
			now := s.sessions(t)
			return len(now) == 1 && now[0].Remote.Addr() == way.to, fmt.Sprint(now)
		})
	}
	finish()
	after, err := client.SA()
	if err != nil {
		t.Fatal(err)
	}
	if after.ResponderSPI != before.ResponderSPI || after.Children[0].SPIIn != before.Children[0].SPIIn || after.Children[0].SPIOut != before.Children[0].SPIOut {
		t.Errorf("SAs %+v, want %+v moved", after, before)
	}
	recorded()
	failures, err := dev.IPsecErrors()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("counted by the device's kernel: %v", failures)
	if failures["XfrmInNoStates"] > 0 {
		t.Errorf("the device's kernel got ESP of unknown SAs: %v", failures)
	}
	s.allKnown(t)
}
