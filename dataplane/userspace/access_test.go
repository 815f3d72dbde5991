package userspace

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/access"
	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/layered"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/integration/netns"
)

// guardedBackend counts what the layer drops under the names of the backend.
type guardedBackend struct {
	*layered.Backend
	access *access.Access
}

func (b *guardedBackend) Drops() dataplane.Drops {
	drops := b.Backend.Drops()
	if counters, err := b.access.Counters(); err == nil {
		drops[dataplane.ReasonNoChild] += counters[acl.Out][acl.VerdictUnknown].Packets
	}
	return drops
}

var accessGrounds atomic.Int64

// ground is a namespace in which the backend has a TUN interface, to which the
// kernel forwards from and to another one, where the host inside is. Devices and
// the backend's sockets are on the test's own loopback.
type ground struct {
	*netns.Namespace
	device, host *tun.Device
}

func newGround(t *testing.T) *ground {
	t.Helper()
	ns, err := netns.New(fmt.Sprintf("rguser-%d-%d", os.Getpid(), accessGrounds.Add(1)))
	if err != nil {
		t.Fatal(err)
	}
	g := &ground{Namespace: ns}
	t.Cleanup(func() {
		for _, d := range []*tun.Device{g.device, g.host} {
			if d != nil {
				_ = d.Close()
			}
		}
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	for key, value := range map[string]string{
		"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1", "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
	} {
		if _, err := g.Sysctl(key, value); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.Do(g.lay); err != nil {
		t.Fatal(err)
	}
	return g
}

// silence keeps the kernel of the namespace from sending anything of its own,
// such as the groups it listens to: only what it forwards leaves it.
func silence() error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Name: "silence", Family: nftables.TableFamilyINet})
	drop := nftables.ChainPolicyDrop
	conn.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	return conn.Flush()
}

// lay makes the interfaces; it runs inside the namespace.
func (g *ground) lay() (err error) {
	if err := silence(); err != nil {
		return err
	}
	if g.device, err = tun.Create(tun.Config{Name: "inner", MTU: 1400}); err != nil {
		return err
	}
	if g.host, err = tun.Create(tun.Config{Name: "lan"}); err != nil {
		return err
	}
	for name, prefixes := range map[string][]string{"inner": {"10.9.0.0/24", "fd00:9::/64"}, "lan": {"10.2.0.0/16", "fd00:2::/32"}} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
		for _, p := range prefixes {
			to := netip.MustParsePrefix(p)
			dst := &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), to.Addr().BitLen())}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Dst: dst}); err != nil {
				return fmt.Errorf("route %s to %s: %w", p, name, err)
			}
		}
	}
	return nil
}

// Send hands an IP packet to the gateway's inside.
func (g *ground) Send(packet []byte) error {
	return g.host.Write(append(make([]byte, tun.HeaderLen), packet...))
}

func (g *ground) Receive(timeout time.Duration) ([]byte, bool) {
	frame := make([]byte, tun.MaxFrame)
	for end := time.Now().Add(timeout); ; {
		if n, err := g.host.Read(frame); err == nil && n > tun.HeaderLen {
			return frame[tun.HeaderLen:n], true
		}
		left := time.Until(end)
		if left <= 0 {
			return nil, false
		}
		unix.Poll([]unix.PollFd{{Fd: int32(g.host.FD()), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

// start builds a backend with access lists on its interface.
func (g *ground) start(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
	t.Helper()
	clock := new(fakeClock)
	var a *access.Access
	if err := g.Do(func() error {
		i, err := net.InterfaceByName("inner")
		if err != nil {
			return err
		}
		if a, err = access.Open(access.Config{Interface: i.Index, MaxDevices: 64}); err != nil {
			return err
		}
		return errors.Join(a.SetGroups([]acl.Group{{Name: ""}, {Name: "staff"}}), a.Attach())
	}); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{
		Locals: []Local{loopback4, loopback6}, Inside: []Inside{g.device}, Pools: []netip.Prefix{pool}, MaxChildren: 64, Now: clock.now,
	}, events)
	if err != nil {
		t.Fatal(err)
	}
	above := &guardedBackend{layered.New(b, layered.Access(a, slog.New(slog.DiscardHandler))), a}
	end := func() {
		t.Helper()
		if err := errors.Join(above.Close(), a.Close()); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	second := reached(b.Locals()[1])
	return &dptest.Harness{
		Backend: above, Local: reached(b.Locals()[0]), Second: &second, Inside: g, Advance: clock.advance,
		Crash: func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
			t.Helper()
			end()
			return g.start(t, events)
		},
	}
}

// With access lists in BPF on a TUN interface, and the kernel's own forwarding
// behind it, the backend is what it is alone.
func TestConformanceBehindAccessLists(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root for a network namespace, a TUN device and BPF")
	}
	needIPv6(t)
	dptest.Run(t, func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		return newGround(t).start(t, events)
	})
}
