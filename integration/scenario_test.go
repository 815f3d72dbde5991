package integration

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/integration/gateway"
	"github.com/roamgate/roamgate/integration/netns"
	"github.com/roamgate/roamgate/integration/peer"
	"github.com/roamgate/roamgate/integration/traffic"
)

const gatewayID = "gw.example"

var (
	pool  = netip.MustParsePrefix("10.9.0.0/24")
	pool6 = netip.MustParsePrefix("fd00:9::/112")
)

// clientEnv says whose ESP strongSwan clients use: "kernel", or where it isn't
// set their own.
const clientEnv = "ROAMGATE_CLIENT"

// backendEnv names the backend of gateways, as gateway.backend does.
const backendEnv = "ROAMGATE_BACKEND"

func clientOptions() []peer.Option {
	if os.Getenv(clientEnv) == "kernel" {
		return []peer.Option{peer.KernelIPsec}
	}
	return nil
}

// transferSize is n octets, and less where everything is emulated.
func transferSize(n int64) int64 {
	if os.Getenv(netns.VMEnv) != "" {
		return n / 25
	}
	return n
}

// scenario is a topology with a gateway in it and a CA around it.
type scenario struct {
	t    *testing.T
	ctx  context.Context
	top  *netns.Topology
	root authority
	dir  string
	conf gateway.Config
	gw   *gateway.Gateway
}

// options of a scenario; the zero value is one device and an ECDSA gateway.
type options struct {
	devices   int
	router    bool // between the devices and the gateway, where there is one device
	ipv6      bool // outside and inside; the gateway is told of it
	rsa       bool
	configure func(s *scenario)
	// patience with the whole scenario; 4 minutes where zero.
	patience time.Duration
}

// newScenario lays the topology and starts a gateway; all ends with the test.
func newScenario(t *testing.T, o options) *scenario {
	t.Helper()
	s := &scenario{t: t, top: netns.ForTest(t, netns.Options{
		Devices: max(1, o.devices), Router: o.router, IPv6: o.ipv6,
	})}
	if err := peer.Available(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(o.patience, 4*time.Minute))
	t.Cleanup(cancel)
	s.ctx = ctx
	s.dir = shortDir(t)
	s.root = newAuthority(t, "scenario root")
	key := keyECDSA(t)
	if o.rsa {
		key = keyRSA(t)
	}
	own := s.root.gateway(t, key)
	s.credential("gw", own)
	s.write("root.crt", certPEM(s.root.cert))
	s.conf = gateway.Config{
		ID: gatewayID, Backend: os.Getenv(backendEnv), Certificate: "gw.crt", Key: "gw.key", Roots: []string{"root.crt"},
		InstanceOIDs: []string{instanceOID.String()},
		Pools:        []netip.Prefix{pool}, Networks: []netip.Prefix{netns.Inside},
	}
	if o.ipv6 {
		s.conf.IPv6 = true
		s.conf.Pools = append(s.conf.Pools, pool6)
		s.conf.Networks = append(s.conf.Networks, netns.Inside6)
	}
	if o.configure != nil {
		o.configure(s)
	}
	s.configure()
	s.gw = gateway.New(s.top.Gateway, program(t, gatewayd), filepath.Join(s.dir, "gatewayd.yaml"), gateway.MetricsAt)
	s.start()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gatewayd:\n%s", s.gw.LogTail(80))
			s.tellKernel(t)
		}
		s.gw.Kill()
	})
	return s
}

// tellKernel logs what the gateway's kernel forwards by.
func (s *scenario) tellKernel(t *testing.T) {
	t.Helper()
	const questions = "ip -s xfrm state; ip -s xfrm policy; ip -s -d link; ip rule; ip route; ip -6 route; grep -v ' 0$' /proc/thread-self/net/xfrm_stat; nft list ruleset"
	// The test's own time may be over.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
	defer cancel()
	said, err := s.top.Gateway.Run(ctx, exec.CommandContext(ctx, "sh", "-c", questions))
	t.Logf("the gateway's kernel (%v):\n%s", err, said)
}

// start starts the gateway, for the first time or after it ended.
func (s *scenario) start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 20*time.Second)
	defer cancel()
	if err := s.gw.Start(ctx); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes the file anew.
func (s *scenario) configure() {
	s.t.Helper()
	s.write("gatewayd.yaml", []byte(s.conf.YAML()))
}

// reload has the gateway read the configuration as it is now.
func (s *scenario) reload(t *testing.T) {
	t.Helper()
	s.configure()
	if _, err := s.gw.Command(s.ctx, "reload"); err != nil {
		t.Fatal(err)
	}
}

func (s *scenario) write(name string, content []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), content, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// credential writes NAME.crt and NAME.key.
func (s *scenario) credential(name string, i identity) {
	s.t.Helper()
	s.write(name+".crt", i.chainPEM())
	s.write(name+".key", keyPEM(s.t, i.key))
}

// client starts a strongSwan on a device, with its connection loaded.
func (s *scenario) client(t *testing.T, dev netns.Device, id identity, change ...func(*peer.Connection)) *peer.Charon {
	t.Helper()
	c, err := peer.Start(s.ctx, dev.Namespace, shortDir(t), clientOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("charon in %s:\n%s", dev.Name(), c.LogTail(60))
		}
		c.Vanish()
	})
	s.load(t, c, id, change...)
	return c
}

func (s *scenario) load(t *testing.T, c *peer.Charon, id identity, change ...func(*peer.Connection)) {
	t.Helper()
	conn := peer.Connection{
		Files:    id.files(t, s.root),
		Gateway:  netns.GatewayOutside,
		RemoteID: gatewayID,
		Remote:   []netip.Prefix{netns.Inside},
	}
	for _, f := range change {
		f(&conn)
	}
	if err := c.Load(s.ctx, conn); err != nil {
		t.Fatal(err)
	}
}

// proposals that the client offers.
func proposals(ike, esp string) func(*peer.Connection) {
	return func(c *peer.Connection) { c.IKEProposals, c.ESPProposals = []string{ike}, []string{esp} }
}

// connect brings a client up and returns its virtual IP.
func (s *scenario) connect(t *testing.T, c *peer.Charon) netip.Addr {
	t.Helper()
	if err := c.Connect(s.ctx, 20*time.Second); err != nil {
		t.Fatalf("%v\ngatewayd:\n%s", err, s.gw.LogTail(30))
	}
	address, err := c.VirtualIP()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// ping goes from a device through its tunnel to the host inside.
func (s *scenario) ping(t *testing.T, c *peer.Charon, from netip.Addr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second)
	defer cancel()
	if _, err := traffic.Ping(ctx, c.Namespace(), from, netns.LANHost, 56); err != nil {
		t.Fatal(err)
	}
}

// record captures the outside until the returned function is called, which
// returns the file. The wire recorder reads each of them.
func (s *scenario) record(t *testing.T, snap int) func() string {
	t.Helper()
	pcap := filepath.Join(shortDir(t), "outside.pcap")
	capture, err := traffic.StartCapture(s.top.Gateway, netns.OutsideLink, pcap, snap)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = capture.Stop() })
	return func() string {
		t.Helper()
		if err := capture.Stop(); err != nil {
			t.Fatal(err)
		}
		rec, err := traffic.CheckSequences(pcap)
		if err != nil {
			t.Fatal(err)
		}
		if rec.Packets[netns.GatewayOutside] == 0 || len(rec.Packets) < 2 {
			t.Errorf("the wire recorder saw no ESP both ways: %+v", rec)
		}
		t.Logf("the wire recorder saw %d SAs, packets by sender %v", rec.SAs, rec.Packets)
		return pcap
	}
}

// eventually asks until the answer is yes; what says what was waited for.
func (s *scenario) eventually(t *testing.T, what string, yes func() (bool, string)) {
	t.Helper()
	s.within(t, 30*time.Second, what, yes)
}

func (s *scenario) within(t *testing.T, patience time.Duration, what string, yes func() (bool, string)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ok, seen := yes()
		if ok {
			return
		}
		if s.ctx.Err() != nil {
			t.Fatalf("the scenario's time was over while it waited for %s; last seen: %s", what, seen)
		}
		if time.Now().After(deadline) {
			t.Fatalf("waited for %s; last seen: %s", what, seen)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// sessions of the gateway; an error fails.
func (s *scenario) sessions(t *testing.T) []gateway.Session {
	t.Helper()
	sessions, err := s.gw.Sessions(s.ctx)
	if err != nil {
		t.Fatal(err)
	}
	return sessions
}

// noTraces fails where the gateway left an interface or a route behind.
func (s *scenario) noTraces(t *testing.T) {
	t.Helper()
	links, err := s.top.Gateway.Links()
	if err != nil {
		t.Fatal(err)
	}
	routes, err := s.top.Gateway.Routes()
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if link != "lo" && link != netns.OutsideLink && link != netns.InsideLink {
			t.Errorf("interface %s was left behind", link)
		}
	}
	for _, route := range routes {
		dst, err := netip.ParsePrefix(strings.Fields(route)[0])
		if err == nil && dst.Bits() > 0 && (dst.Overlaps(pool) || dst.Overlaps(pool6)) {
			t.Errorf("route %s was left behind", route)
		}
	}
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if forwarding, err := s.top.Gateway.Sysctl(key, ""); err != nil || forwarding != "0" {
			t.Errorf("%s is %q (%v), before the gateway it was 0", key, forwarding, err)
		}
	}
}

// shortDir is a temporary folder with a short name: the path of a unix socket
// has at most 107 octets, and a test's own folder bears the test's name.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rg") //nolint:usetesting // its path is too long, see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// built returns a function that names a program: the one that an environment
// variable says, otherwise one built now, into the place of the Makefile's.
func built(env, out, source string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if path := os.Getenv(env); path != "" {
			return filepath.Abs(path)
		}
		path, err := filepath.Abs(filepath.Join("..", out))
		if err != nil {
			return "", err
		}
		cmd := exec.Command("go", "build", "-o", path, source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", source, err, said)
		}
		return path, nil
	})
}

var (
	gatewayd    = built("ROAMGATE_GATEWAYD", "bin/gatewayd", "../gatewayd")
	demoProgram = built("ROAMGATE_DEMO", ".cache/bin/demo", "./demo")
)

func program(t *testing.T, which func() (string, error)) string {
	t.Helper()
	path, err := which()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
