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
	// Devices: how many; 1 where zero, at most 250. With more than one, a
	// router stands between them and the gateway.
	Devices int
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
// No device has a route to what lies behind the gateway: what arrives there
// went through a tunnel. The host inside sends everything to the gateway.
type Topology struct {
	Devices      []Device
	Gateway, LAN *Namespace

	all []*Namespace
}

// Device is a namespace with its address outside.
type Device struct {
	*Namespace
	Address netip.Addr
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
	t := &Topology{}
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
	err = Connect(t.Gateway, InsideLink, netip.PrefixFrom(GatewayInside, 24),
		t.LAN, HostLink, netip.PrefixFrom(LANHost, 24))
	if err != nil {
		return err
	}
	if err := t.LAN.AddRoute(anywhere, GatewayInside); err != nil {
		return err
	}
	if o.Devices == 1 {
		return t.addDevice(prefix+"dev1", t.Gateway, OutsideLink, GatewayOutside)
	}
	router, err := t.addRouter(prefix + "net")
	if err != nil {
		return err
	}
	for i := 1; i <= o.Devices; i++ {
		own := netip.AddrFrom4([4]byte{10, 1, byte(i), 1})
		if err := t.addDevice(fmt.Sprintf("%sdev%d", prefix, i), router, fmt.Sprintf("dev%d", i), own); err != nil {
			return err
		}
		if err := t.Devices[i-1].AddRoute(anywhere, own); err != nil {
			return err
		}
	}
	return nil
}

// laid counts topologies, which may live side by side.
var laid atomic.Uint32

var anywhere = netip.MustParsePrefix("0.0.0.0/0")

func (t *Topology) add(name string) (*Namespace, error) {
	n, err := New(name)
	if err == nil {
		t.all = append(t.all, n)
	}
	return n, err
}

// addDevice connects a device to a neighbour whose address on that link is
// near; the device's address is the next one.
func (t *Topology) addDevice(name string, neighbour *Namespace, link string, near netip.Addr) error {
	n, err := t.add(name)
	if err != nil {
		return err
	}
	d := Device{Namespace: n, Address: near.Next()}
	t.Devices = append(t.Devices, d)
	return Connect(neighbour, link, netip.PrefixFrom(near, 24), n, HostLink, netip.PrefixFrom(d.Address, 24))
}

func (t *Topology) addRouter(name string) (*Namespace, error) {
	router, err := t.add(name)
	if err != nil {
		return nil, err
	}
	at := netip.MustParseAddr("10.1.0.254")
	err = Connect(t.Gateway, OutsideLink, netip.PrefixFrom(GatewayOutside, 24),
		router, "gw", netip.PrefixFrom(at, 24))
	if err != nil {
		return nil, err
	}
	if _, err := router.Sysctl("net.ipv4.ip_forward", "1"); err != nil {
		return nil, err
	}
	return router, t.Gateway.AddRoute(netip.MustParsePrefix("10.1.0.0/16"), at)
}

// Namespaces of the topology, in the order in which they were made.
func (t *Topology) Namespaces() []*Namespace { return t.all }

// Close removes all namespaces; programs still running inside are killed.
func (t *Topology) Close() error {
	var failed error
	for i := len(t.all) - 1; i >= 0; i-- {
		failed = errors.Join(failed, t.all[i].Close())
	}
	return failed
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
