package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
)

// Addresses of the topology.
var (
	GatewayOutside = netip.MustParseAddr("10.1.0.1")
	GatewayInside  = netip.MustParseAddr("10.2.0.1")
	LANHost        = netip.MustParseAddr("10.2.0.2")
	Inside         = netip.MustParsePrefix("10.2.0.0/24")

	GatewayOutside6 = netip.MustParseAddr("fd00:1::1")
	GatewayInside6  = netip.MustParseAddr("fd00:2::1")
	LANHost6        = netip.MustParseAddr("fd00:2::2")
	Inside6         = netip.MustParsePrefix("fd00:2::/64")

	// RouterOutside is the router's address towards the gateway: behind a NAT,
	// that of all devices.
	RouterOutside  = netip.MustParseAddr("10.1.0.254")
	RouterOutside6 = netip.MustParseAddr("fd00:1::fe")
)

// Interfaces of the gateway.
const (
	OutsideLink = "ext0"
	InsideLink  = "int0"
	// HostLink is the interface of each device and of the host inside.
	HostLink = "eth0"
)

// Options of a topology.
type Options struct {
	// Prefix of the namespaces' names; "rg" where empty.
	Prefix string
	// Devices: how many; 1 where zero, at most 250.
	Devices int
	// Router stands between the devices and the gateway; with more than one
	// device it always does.
	Router bool
	// IPv6 addresses beside those of IPv4, on each link.
	IPv6 bool
}

// Topology is what every scenario stands on. One device:
//
//	dev1 10.1.0.2 -- 10.1.0.1 gw 10.2.0.1 -- 10.2.0.2 lan
//
// and several, each with a network of its own:
//
//	dev1 10.1.1.2 -- 10.1.1.1 net 10.1.0.254 -- 10.1.0.1 gw 10.2.0.1 -- 10.2.0.2 lan
//	dev2 10.1.2.2 -- 10.1.2.1 /
//
// With IPv6 the same numbers stand in fd00::/16: dev2 has fd00:1:2::2, gw has
// fd00:1::1 and fd00:2::1, lan has fd00:2::2.
//
// No device has a route to what lies behind the gateway: what arrives there
// went through a tunnel. The host inside sends everything to the gateway.
type Topology struct {
	Devices      []Device
	Gateway, LAN *Namespace
	// Router is nil where there is none.
	Router *Router

	ipv6 bool
	all  []*Namespace
}

// Device is a namespace with its addresses outside; Address6 is the zero Addr
// without IPv6.
type Device struct {
	*Namespace
	Address, Address6 netip.Addr
}

// Lay makes a topology under names that no other process uses. What dead
// processes left behind under the same prefix is removed first.
func Lay(o Options) (*Topology, error) {
	if o.Prefix == "" {
		o.Prefix = "rg"
	}
	if o.Devices == 0 {
		o.Devices = 1
	}
	if o.Devices < 0 || o.Devices > 250 {
		return nil, fmt.Errorf("%d devices: a topology has 1 to 250", o.Devices)
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	if err := Sweep(o.Prefix); err != nil {
		return nil, fmt.Errorf("removing what earlier runs left: %w", err)
	}
	t := &Topology{ipv6: o.IPv6}
	if err := t.lay(o); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

func (t *Topology) lay(o Options) (err error) {
	prefix := fmt.Sprintf("%s-%d-%d-", o.Prefix, os.Getpid(), laid.Add(1))
	if t.Gateway, err = t.add(prefix + "gw"); err != nil {
		return err
	}
	if t.LAN, err = t.add(prefix + "lan"); err != nil {
		return err
	}
	err = t.connect(t.Gateway, InsideLink, GatewayInside, GatewayInside6, t.LAN, HostLink, LANHost, LANHost6)
	if err != nil {
		return err
	}
	if err := t.defaultRoute(t.LAN, GatewayInside, GatewayInside6); err != nil {
		return err
	}
	if o.Devices == 1 && !o.Router {
		return t.addDevice(prefix+"dev1", t.Gateway, OutsideLink, GatewayOutside, GatewayOutside6)
	}
	if err := t.addRouter(prefix + "net"); err != nil {
		return err
	}
	for i := 1; i <= o.Devices; i++ {
		near := netip.AddrFrom4([4]byte{10, 1, byte(i), 1})
		near6 := netip.AddrFrom16([16]byte{0: 0xfd, 3: 1, 5: byte(i), 15: 1})
		err := t.addDevice(fmt.Sprintf("%sdev%d", prefix, i), t.Router.Namespace, fmt.Sprintf("dev%d", i), near, near6)
		if err != nil {
			return err
		}
		if err := t.defaultRoute(t.Devices[i-1].Namespace, near, near6); err != nil {
			return err
		}
	}
	return nil
}

// laid counts topologies, which may live side by side.
var laid atomic.Uint32

var (
	anywhere  = netip.MustParsePrefix("0.0.0.0/0")
	anywhere6 = netip.MustParsePrefix("::/0")
)

func (t *Topology) add(name string) (*Namespace, error) {
	n, err := New(name)
	if err == nil {
		t.all = append(t.all, n)
	}
	return n, err
}

// connect lays a link with the addresses that the topology has.
func (t *Topology) connect(a *Namespace, aLink string, aAddr, aAddr6 netip.Addr, b *Namespace, bLink string, bAddr, bAddr6 netip.Addr) error {
	err := Connect(a, aLink, netip.PrefixFrom(aAddr, 24), b, bLink, netip.PrefixFrom(bAddr, 24))
	if err != nil || !t.ipv6 {
		return err
	}
	if err := a.AddAddress(aLink, netip.PrefixFrom(aAddr6, 64)); err != nil {
		return err
	}
	return b.AddAddress(bLink, netip.PrefixFrom(bAddr6, 64))
}

func (t *Topology) defaultRoute(n *Namespace, via, via6 netip.Addr) error {
	err := n.AddRoute(anywhere, via)
	if err == nil && t.ipv6 {
		err = n.AddRoute(anywhere6, via6)
	}
	return err
}

// addDevice connects a device to a neighbour whose addresses on that link are
// near; the device's are the next ones.
func (t *Topology) addDevice(name string, neighbour *Namespace, link string, near, near6 netip.Addr) error {
	n, err := t.add(name)
	if err != nil {
		return err
	}
	d := Device{Namespace: n, Address: near.Next()}
	if t.ipv6 {
		d.Address6 = near6.Next()
	}
	t.Devices = append(t.Devices, d)
	return t.connect(neighbour, link, near, near6, n, HostLink, near.Next(), near6.Next())
}

func (t *Topology) addRouter(name string) error {
	n, err := t.add(name)
	if err != nil {
		return err
	}
	t.Router = &Router{Namespace: n}
	err = t.connect(t.Gateway, OutsideLink, GatewayOutside, GatewayOutside6, n, routerLink, RouterOutside, RouterOutside6)
	if err != nil {
		return err
	}
	if _, err := n.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		return err
	}
	if err := t.Gateway.AddRoute(netip.MustParsePrefix("10.1.0.0/16"), RouterOutside); err != nil || !t.ipv6 {
		return err
	}
	if _, err := n.Sysctl("net.ipv6.conf.all.forwarding", "1"); err != nil {
		return err
	}
	return t.Gateway.AddRoute(netip.MustParsePrefix("fd00:1::/32"), RouterOutside6)
}

// Namespaces of the topology, in the order in which they were made.
func (t *Topology) Namespaces() []*Namespace { return t.all }

// Close removes all namespaces; programs still running inside are killed.
func (t *Topology) Close() error {
	var failed error
	if t.Router != nil {
		failed = t.Router.punctual()
	}
	for i := len(t.all) - 1; i >= 0; i-- {
		failed = errors.Join(failed, t.all[i].Close())
	}
	return failed
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
