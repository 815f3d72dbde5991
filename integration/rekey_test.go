package integration

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

// rekeying is who rekeys what how often.
type rekeying struct {
	name      string
	configure func(*scenario)
	// pfs: a fresh key exchange for each Child SA but the first.
	pfs bool
	// ask is repeated until the SAs were rekeyed often enough.
	ask func(*scenario, *peer.Charon) error
	// ike and child: how often each is rekeyed, at least.
	ike, child int
}

// Whoever rekeys what, TCP streams in both directions go on, and all that
// arrives is what was sent. The session and its address stay, and no sequence
// number is used twice under a key.
//
//	dev1 (strongSwan) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestRekeyUnderTraffic(t *testing.T) {
	child := func(s *scenario, c *peer.Charon) error { return c.RekeyChild(s.ctx, peer.FirstChild) }
	ike := func(s *scenario, c *peer.Charon) error { return c.RekeyIKE(s.ctx) }
	octets := func(s *scenario) { s.conf.ESPSoft = 16 << 20 }
	for _, r := range []rekeying{
		{name: "client, Child SA", ask: child, child: 3},
		{name: "client, Child SA with PFS", ask: child, child: 3, pfs: true},
		{name: "client, IKE SA", ask: ike, ike: 2},
		{name: "gateway, Child SA by octets", configure: octets, child: 3},
		{name: "gateway, Child SA of a client that insists on PFS", configure: octets, child: 3, pfs: true},
		{
			name: "client and gateway", configure: octets, ike: 2, child: 3, pfs: true,
			ask: func(s *scenario, c *peer.Charon) error {
				if err := child(s, c); err != nil {
					return err
				}
				return ike(s, c)
			},
		},
	} {
		t.Run(r.name, r.run)
	}
}

// The gateway's own clock, with the shortest times that a configuration may
// have.
//
//	dev1 (strongSwan) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestGatewayRekeysInTime(t *testing.T) {
	t.Parallel() // it waits most of the time
	rekeying{ike: 1, child: 1, configure: func(s *scenario) {
		minute := gateway.Lifetime{Rekey: time.Minute, Hard: 10 * time.Minute}
		s.conf.ESPLifetime, s.conf.IKELifetime = minute, minute
	}}.run(t)
}

func (r rekeying) run(t *testing.T) {
	s := newScenario(t, options{configure: r.configure})
	recorded := s.record(t, 96)
	esp := "aes128gcm16"
	if r.pfs {
		esp += "-x25519"
	}
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)), proposals("aes128gcm16-prfsha256-x25519", esp))
	address := s.connect(t, client)
	session := s.sessions(t)[0].ID
	finish := s.streams(t, s.top.Devices[0].Namespace, address)

	ikes, children := map[string]bool{}, map[string]bool{}
	s.within(t, 2*time.Minute, "rekeyed SAs", func() (bool, string) {
		sas, err := client.SAs()
		for _, sa := range sas {
			ikes[sa.ResponderSPI] = true
			for _, child := range sa.Installed() {
				children[child.SPIIn] = true
			}
		}
		if len(ikes) > r.ike && len(children) > r.child {
			return true, ""
		}
		if r.ask != nil && err == nil {
			// Refused while one of the gateway's is under way.
			err = r.ask(s, client)
		}
		return false, fmt.Sprintf("IKE SAs %v, Child SAs %v, %v", ikes, children, err)
	})
	finish()
	if r.ike == 0 && len(ikes) != 1 {
		t.Errorf("IKE SAs %v, want one: nobody was to rekey it", ikes)
	}
	if now := s.sessions(t); len(now) != 1 || now[0].ID != session || len(now[0].VirtualIPs) != 1 || now[0].VirtualIPs[0] != address {
		t.Errorf("sessions %+v, want %s at %s", now, session, address)
	}
	s.ping(t, client, address)
	recorded()
	s.allKnown(t)
}

// A client that is told to rekey its Child SA again and again, and a gateway that
// does so by octets, meet in every way: they cross, one refuses, one deletes what
// the other replaces. After each burst packets flow in both directions. If not, what
// each side knows and what is on the wire then is in the test's artifacts (go test
// -artifacts).
//
//	dev1 (strongSwan) 10.1.0.2 ==ESP== 10.1.0.1 gw (gatewayd) 10.2.0.1 -- 10.2.0.2 lan
func TestRekeyStorm(t *testing.T) { stormRekeyings(t, 8) }

// TestSoakRekeyStorm is the same for as many bursts as ROAMGATE_SOAK_REKEY says,
// each some seconds long.
func TestSoakRekeyStorm(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") == "" {
		t.Skip("set ROAMGATE_SOAK=1; make soak does")
	}
	bursts := 200
	if text := os.Getenv("ROAMGATE_SOAK_REKEY"); text != "" {
		var err error
		if bursts, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	stormRekeyings(t, bursts)
}

func stormRekeyings(t *testing.T, bursts int) {
	s := newScenario(t, options{
		configure: func(s *scenario) { s.conf.ESPSoft = 4 << 20 },
		patience:  4*time.Minute + time.Duration(bursts)*5*time.Second,
	})
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)),
		proposals("aes128gcm16-prfsha256-x25519", "aes128gcm16-x25519"))
	if err := client.Set(s.ctx, peer.Settings{Detailed: true}); err != nil {
		t.Fatal(err)
	}
	address := s.connect(t, client)
	up, err := traffic.StartTCP(s.ctx, client.Namespace(), s.top.LAN, netns.LANHost)
	if err != nil {
		t.Fatal(err)
	}
	down, err := traffic.StartTCP(s.ctx, s.top.LAN, client.Namespace(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.keepStalled(t, client)
		}
	})
	longest, children := time.Duration(0), map[string]bool{}
	for burst := range bursts {
		for range 12 {
			// An error is that there is nothing to rekey at this moment.
			_ = client.RekeyChild(s.ctx, peer.FirstChild)
			time.Sleep(20 * time.Millisecond)
		}
		began := time.Now()
		for _, stream := range []*traffic.Stream{up, down} {
			before := stream.Sent()
			s.eventually(t, "packets to flow", func() (bool, string) {
				now := stream.Sent()
				return now > before+1<<20, fmt.Sprintf("%d octets, %d before, in burst %d of %d", now, before, burst+1, bursts)
			})
		}
		longest = max(longest, time.Since(began))
		sas, err := client.SAs()
		if err != nil {
			t.Fatal(err)
		}
		for _, sa := range sas {
			for _, child := range sa.Installed() {
				children[child.SPIIn] = true
			}
		}
	}
	for _, stream := range []*traffic.Stream{up, down} {
		if _, err := stream.Stop(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d bursts, at most %v until both streams had moved a MiB; %d Child SAs were seen between them", bursts, longest, len(children))
}

// keepStalled keeps logs and SAs of both sides, and two seconds of what they send.
func (s *scenario) keepStalled(t *testing.T, client *peer.Charon) {
	t.Helper()
	keep := func(name, text string) {
		if err := os.WriteFile(filepath.Join(t.ArtifactDir(), name), []byte(text), 0o600); err != nil {
			t.Error(err)
		}
	}
	keep("charon.log", client.Log())
	keep("gatewayd.log", s.gw.Log())
	sas, err := client.SAs()
	keep("charon.sas", fmt.Sprintf("%+v %v", sas, err))
	capture, err := traffic.StartCapture(s.top.Gateway, netns.OutsideLink, filepath.Join(t.ArtifactDir(), "stalled.pcap"), 96)
	if err != nil {
		t.Error(err)
		return
	}
	time.Sleep(2 * time.Second)
	if err := capture.Stop(); err != nil {
		t.Error(err)
	}
}

// streams runs TCP in both directions between a device and the host inside,
// until the returned function is called, which compares the content.
func (s *scenario) streams(t *testing.T, dev *netns.Namespace, address netip.Addr) (finish func()) {
	t.Helper()
	inside := netns.LANHost
	if address.Is6() {
		inside = netns.LANHost6
	}
	up, err := traffic.StartTCP(s.ctx, dev, s.top.LAN, inside)
	if err != nil {
		t.Fatalf("up: %v", err)
	}
	down, err := traffic.StartTCP(s.ctx, s.top.LAN, dev, address)
	if err != nil {
		t.Fatalf("down: %v", err)
	}
	return func() {
		t.Helper()
		for _, direction := range []struct {
			name   string
			stream *traffic.Stream
		}{{"up", up}, {"down", down}} {
			before := direction.stream.Sent()
			s.eventually(t, "the stream "+direction.name+" to go on", func() (bool, string) {
				now := direction.stream.Sent()
				return now > before+1<<20, fmt.Sprintf("%d octets, %d before", now, before)
			})
			moved, err := direction.stream.Stop()
			if err != nil {
				t.Fatalf("%s: %v", direction.name, err)
			}
			if direction.name == "up" && moved.From != address {
				t.Errorf("the host inside saw %s, want %s", moved.From, address)
			}
			t.Logf("%s %d MB at %.0f Mb/s", direction.name, moved.Bytes/1e6, moved.BitsPerSecond()/1e6)
		}
	}
}

// One IKE SA carries several Child SAs, each for a network of its own.
//
//	dev1 (strongSwan) ==ESP== gw (gatewayd) -- 10.2.0.2, 10.2.0.130 lan
//	                  ==ESP==
func TestSeveralChildSAs(t *testing.T) {
	s := newScenario(t, options{})
	far := netip.MustParseAddr("10.2.0.130")
	if err := s.top.LAN.AddAddress(netns.HostLink, netip.PrefixFrom(far, 24)); err != nil {
		t.Fatal(err)
	}
	client := s.client(t, s.top.Devices[0], s.root.device(t, "dev1", keyECDSA(t)), func(c *peer.Connection) {
		c.Remote = []netip.Prefix{netip.MustParsePrefix("10.2.0.0/25")}
		c.MoreChildren = [][]netip.Prefix{{netip.MustParsePrefix("10.2.0.128/25")}}
	})
	address := s.connect(t, client)
	if err := client.Initiate(s.ctx, peer.FirstChild+"2", patience); err != nil {
		t.Fatal(err)
	}
	for _, to := range []netip.Addr{netns.LANHost, far} {
		if _, err := traffic.Ping(s.ctx, client.Namespace(), address, to, 1000); err != nil {
			t.Fatal(err)
		}
		if _, err := traffic.TCP(s.ctx, client.Namespace(), s.top.LAN, to, 4<<20); err != nil {
			t.Fatal(err)
		}
	}
	sas, err := client.SAs()
	if err != nil || len(sas) != 1 || len(sas[0].Installed()) != 2 {
		t.Fatalf("SAs %+v, %v; want one with two Child SAs", sas, err)
	}
	for _, child := range sas[0].Installed() {
		if child.BytesOut < 4<<20 || child.BytesIn == 0 {
			t.Errorf("Child SA %s for %v carried %d octets up and %d down", child.Name, child.Remote, child.BytesOut, child.BytesIn)
		}
	}
	if sessions := s.sessions(t); len(sessions) != 1 || len(sessions[0].Children) != 2 {
		t.Errorf("sessions %+v, want one with two Child SAs", sessions)
	}
}
