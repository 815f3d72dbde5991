package xfrm

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/integration/netns"
)

var (
	pools = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24"), netip.MustParsePrefix("fd00:9::/64")}

	namespaces atomic.Int64
)

const testIfID = 0x47

func newNamespace(t testing.TB, role string) *netns.Namespace {
	t.Helper()
	n, err := netns.New(fmt.Sprintf("rgxfrm-%s-%d-%d", role, os.Getpid(), namespaces.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Errorf("namespace: %v", err)
		}
	})
	return n
}

// field is the outside: one namespace in which all devices live, and to which
// every gateway of a test has a link of its own.
type field struct {
	*netns.Namespace
	links int
}

func newField(t testing.TB) *field {
	t.Helper()
	return &field{Namespace: newNamespace(t, "dev")}
}

// ground is what one backend, or one after the other, stands on: a namespace with
// a link to the field, an xfrm interface, and the inside behind a TUN device.
type ground struct {
	*netns.Namespace
	field          *field
	number         int
	raws           int
	here4, here6   netip.Addr // the gateway
	there4, there6 netip.Addr // the devices
	tun            *tun.Device
	clock          *fakeClock
	config         Config
	backend        *Backend
}

// fakeClock stands still between calls of advance.
type fakeClock struct {
	start   time.Time
	elapsed atomic.Int64
}

func (c *fakeClock) now() time.Time          { return c.start.Add(time.Duration(c.elapsed.Load())) }
func (c *fakeClock) advance(d time.Duration) { c.elapsed.Add(int64(d)) }

func check(t testing.TB, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newGround(t testing.TB, f *field) *ground {
	t.Helper()
	f.links++
	k := f.links
	g := &ground{
		Namespace: newNamespace(t, "gw"), field: f, number: k, clock: &fakeClock{start: time.Now()},
		here4: netip.AddrFrom4([4]byte{10, 1, byte(k), 1}), there4: netip.AddrFrom4([4]byte{10, 1, byte(k), 2}),
		here6: netip.MustParseAddr(fmt.Sprintf("fd00:1:%x::1", k)), there6: netip.MustParseAddr(fmt.Sprintf("fd00:1:%x::2", k)),
	}
	link := fmt.Sprintf("gw%d", k)
	check(t,
		netns.Connect(f.Namespace, link, netip.PrefixFrom(g.there4, 24), g.Namespace, "outer", netip.PrefixFrom(g.here4, 24)),
		f.AddAddress(link, netip.PrefixFrom(g.there6, 64)), g.AddAddress("outer", netip.PrefixFrom(g.here6, 64)),
		g.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), g.there4), g.AddRoute(netip.MustParsePrefix("::/0"), g.there6))
	for key, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/outer/rp_filter": "0",
	} {
		_, err := g.Sysctl(key, value)
		check(t, err)
	}
	check(t, g.Do(g.lay))
	t.Cleanup(func() { g.tun.Close() })
	g.config = Config{
		Locals: []Local{g.local(g.here4)}, Outside: "outer", Inside: "inner", IfID: testIfID, Pools: pools, MaxChildren: 64,
		Now: g.clock.now, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	return g
}

// lay makes the interfaces; it runs inside the namespace.
func (g *ground) lay() (err error) {
	if _, err = CreateInterface("inner", testIfID, 1400); err != nil {
		return err
	}
	if g.tun, err = tun.Create(tun.Config{Name: "lan"}); err != nil {
		return err
	}
	for name, prefixes := range map[string][]string{"inner": {"10.9.0.0/24", "fd00:9::/64"}, "lan": {"10.2.0.0/16", "fd00:2::/32"}} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/addr_gen_mode", []byte("1"), 0); err != nil {
			return err
		}
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		for _, p := range prefixes {
			_, dst, _ := net.ParseCIDR(p)
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}); err != nil {
				return fmt.Errorf("route %s to %s: %w", p, name, err)
			}
		}
	}
	return nil
}

func (g *ground) local(a netip.Addr) Local {
	return Local{IKE: netip.AddrPortFrom(a, 500), Encap: netip.AddrPortFrom(a, 4500)}
}

// start builds a backend and what the suite wants to know of it.
func (g *ground) start(t testing.TB, events chan<- dataplane.Event) *dptest.Harness {
	t.Helper()
	var b *Backend
	check(t, g.Do(func() (err error) {
		b, err = New(g.config, events)
		return err
	}))
	g.backend = b
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	h := &dptest.Harness{Backend: b, Local: g.reached(g.config.Locals[0]), Inside: g, Advance: g.clock.advance}
	if len(g.config.Locals) > 1 {
		second := g.reached(g.config.Locals[1])
		h.Second = &second
	}
	h.Crash = func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		t.Helper()
		b.crash(t)
		return g.start(t, events)
	}
	return h
}

// crash does what the kernel does with a process that is killed: it closes what
// was open.
func (b *Backend) crash(t testing.TB) {
	t.Helper()
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	check(t, b.release())
}

// reached is a local address as devices see it.
func (g *ground) reached(at Local) dptest.Local {
	addr := g.there4
	if at.Encap.Addr().Is6() {
		addr = g.there6
	}
	open := func(t *testing.T, network string, addr netip.Addr) net.PacketConn {
		t.Helper()
		conn, err := g.field.ListenPacket(network, addr)
		check(t, err)
		return conn
	}
	return dptest.Local{
		IKE: at.IKE, Encap: at.Encap,
		Outside: func(t *testing.T) net.PacketConn { t.Helper(); return open(t, "udp", addr) },
		Raw: func(t *testing.T) (net.PacketConn, net.PacketConn) {
			t.Helper()
			g.raws++
			own := g.there4
			for range 9 + g.raws {
				own = own.Next()
			}
			bits, network := 24, "ip4:50"
			if addr.Is6() {
				own, bits, network = g.there6, 64, "ip6:50"
				for range 9 + g.raws {
					own = own.Next()
				}
			}
			check(t, g.field.AddAddress(fmt.Sprintf("gw%d", g.number), netip.PrefixFrom(own, bits)))
			return open(t, network, own), open(t, "udp", own)
		},
	}
}

// Send hands an IP packet to the gateway's inside.
func (g *ground) Send(packet []byte) error {
	return g.tun.Write(append(make([]byte, tun.HeaderLen), packet...))
}

func (g *ground) Receive(timeout time.Duration) ([]byte, bool) {
	frame := make([]byte, tun.MaxFrame)
	for end := time.Now().Add(timeout); ; {
		if n, err := g.tun.Read(frame); err == nil && n > tun.HeaderLen {
			return frame[tun.HeaderLen:n], true
		}
		left := time.Until(end)
		if left <= 0 {
			return nil, false
		}
		unix.Poll([]unix.PollFd{{Fd: int32(g.tun.FD()), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

func conformance(t *testing.T, at func(g *ground) []Local) {
	netns.NeedKernelIPsec(t)
	f := newField(t)
	dptest.Run(t, func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		g := newGround(t, f)
		g.config.Locals = at(g)
		return g.start(t, events)
	})
}

func TestXFRMConformance(t *testing.T) {
	conformance(t, func(g *ground) []Local { return []Local{g.local(g.here4)} })
}

func TestXFRMConformanceIPv4First(t *testing.T) {
	conformance(t, func(g *ground) []Local { return []Local{g.local(g.here4), g.local(g.here6)} })
}

func TestXFRMConformanceIPv6First(t *testing.T) {
	conformance(t, func(g *ground) []Local { return []Local{g.local(g.here6), g.local(g.here4)} })
}
