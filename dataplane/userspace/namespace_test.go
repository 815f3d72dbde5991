package userspace

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/integration/netns"
)

// Topology: a namespace as a gateway's host has it. Datagrams of devices are
// injected at rgfar; what is led into the TUN device comes to the backend.
//
//	rgfar ---- rgout 192.0.2.1 [backend] TUN 10.9.0.0/16 (pool), 10.8.0.0/16

var (
	gatewayAt = Local{IKE: netip.MustParseAddrPort("192.0.2.1:500"), Encap: netip.MustParseAddrPort("192.0.2.1:4500")}
	distant   = netip.MustParseAddr("192.0.2.2")
	leasePool = netip.MustParsePrefix("10.9.0.0/16")
	leased    = netip.MustParseAddr("10.9.0.5")
	// routed is led into the tunnel without being of a pool.
	routedNet = netip.MustParsePrefix("10.8.0.0/16")
	routed    = netip.MustParseAddr("10.8.0.9")
)

type gatewayHost struct {
	device  *tun.Device
	backend *Backend
}

// newGatewayHost lays the topology in the current namespace and builds a backend
// whose sockets are bound to device.
func newGatewayHost(device string) (_ *gatewayHost, err error) {
	// The kernel says nothing by itself.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "rgout"}, PeerName: "rgfar"}); err != nil {
		return nil, err
	}
	mtu, err := InnerMTU(1500, gcm128, false)
	if err != nil {
		return nil, err
	}
	h := new(gatewayHost)
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if h.device, err = tun.Create(tun.Config{Name: "rgtest%d", MTU: mtu}); err != nil {
		return nil, err
	}
	for _, name := range []string{"lo", "rgfar", "rgout", h.device.Name()} {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return nil, err
		}
		if name == "rgout" {
			at := &net.IPNet{IP: gatewayAt.IKE.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}
			if err := netlink.AddrAdd(l, &netlink.Addr{IPNet: at}); err != nil {
				return nil, err
			}
		}
		if err := netlink.LinkSetUp(l); err != nil {
			return nil, err
		}
		if name != h.device.Name() {
			continue
		}
		for _, p := range []netip.Prefix{leasePool, routedNet} {
			to := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: to}); err != nil {
				return nil, err
			}
		}
	}
	h.backend, err = New(Config{
		Locals: []Local{gatewayAt}, Interface: device, Pools: []netip.Prefix{leasePool}, Inside: []Inside{h.device}, MaxChildren: 8,
	}, make(chan dataplane.Event, 16))
	return h, err
}

func (h *gatewayHost) close() error {
	var errs []error
	if h.backend != nil {
		errs = append(errs, h.backend.Close())
	}
	if h.device != nil {
		errs = append(errs, h.device.Close())
	}
	return errors.Join(errs...)
}

// fromTunnel is an IP packet that a device sent through its tunnel.
func (h *gatewayHost) fromTunnel(packet []byte) error {
	return h.device.Write(append(make([]byte, tun.HeaderLen), packet...))
}

// fromOutside is an IP packet that a device sent over the network.
func fromOutside(packet []byte) error {
	far, err := netlink.LinkByName("rgfar")
	if err != nil {
		return err
	}
	out, err := netlink.LinkByName("rgout")
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	frame := append(append([]byte(out.Attrs().HardwareAddr), far.Attrs().HardwareAddr...), 8, 0)
	return unix.Sendto(fd, append(frame, packet...), 0, &unix.SockaddrLinklayer{Ifindex: far.Attrs().Index})
}

// install a child of the device with the virtual address leased, whose path
// leads to remote.
func (h *gatewayHost) install(remote netip.Addr) (dataplane.SPI, error) {
	spi, err := h.backend.Reserve(leased)
	if err != nil {
		return 0, err
	}
	all := dataplane.Selector{First: netip.IPv4Unspecified(), Last: netip.AddrFrom4([4]byte{255, 255, 255, 255}), LastPort: 0xFFFF}
	errs := h.backend.Apply([]dataplane.Change{
		dataplane.Install{Child: dataplane.Child{
			Inbound:   dataplane.SA{SPI: spi, Keys: dataplane.Keys{Encryption: make([]byte, 20)}},
			Outbound:  dataplane.SA{SPI: 0xC0FFEE, Keys: dataplane.Keys{Encryption: make([]byte, 20)}},
			Algorithm: gcm128, VirtualIPs: []netip.Addr{leased},
			Local: []dataplane.Selector{all}, Remote: []dataplane.Selector{all},
			Path: dataplane.Path{Local: gatewayAt.Encap, Remote: netip.AddrPortFrom(remote, 4500)},
		}},
		dataplane.UseOutbound{Inbound: spi},
	})
	return spi, errors.Join(errs...)
}

// sent waits until the gateway has sealed n packets.
func (h *gatewayHost) sent(n uint64) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for c := range h.backend.Counters {
			if c.PacketsOut >= n {
				return nil
			}
		}
	}
	return fmt.Errorf("fewer than %d packets were sent; drops %v", n, h.backend.Drops())
}

// TestOutsideAndInsideStayApart: what devices send to the gateway's outer
// address through their tunnels doesn't come to the sockets, and nothing that is
// sealed goes into the TUN device. Each step is done without binding the sockets
// too, to see that it would happen.
func TestOutsideAndInsideStayApart(t *testing.T) {
	for _, device := range []string{"", "rgout"} {
		t.Run("bound to "+device, func(t *testing.T) {
			netns.Within(t, func() error {
				h, err := newGatewayHost(device)
				if err != nil {
					return err
				}
				defer func() {
					if err := h.close(); err != nil {
						t.Error(err)
					}
				}()
				return errors.Join(h.listensOutside(t, device != ""), h.sendsOutside(t, device != ""))
			})
		})
	}
}

func (h *gatewayHost) listensOutside(t *testing.T, bound bool) error {
	gateway := gatewayAt.IKE.Addr()
	for _, source := range []netip.Addr{leased, routed} {
		for _, port := range []uint16{500, 4500} {
			// On port 4500 it is ESP with an SPI that nobody has.
			if err := h.fromTunnel(dptest.IP{Src: source, Dst: gateway}.UDP(4500, port, []byte("from inside"))); err != nil {
				return err
			}
		}
	}
	want := []string{"from outside"}
	// Behind them comes one that isn't kept away, to port 4500 with an SPI that
	// nobody has either: once it is counted, all of them are.
	inside, unknown := uint64(0), uint64(1)
	if !bound {
		want = []string{"from inside", "from outside"} // of routed, on port 500
		inside, unknown = 2, 2
	}
	for _, port := range []uint16{500, 4500} {
		if err := fromOutside(dptest.IP{Src: distant, Dst: gateway}.UDP(port, port, []byte("from outside"))); err != nil {
			return err
		}
	}
	for _, want := range want {
		got := []dataplane.Datagram{{Data: make([]byte, 100)}}
		if _, err := h.backend.Transport().Receive(got); err != nil || string(got[0].Data) != want {
			t.Errorf("received %q, %v; want %q", got[0].Data, err, want)
		}
	}
	drops := h.backend.Drops()
	for end := time.Now().Add(time.Minute); drops[dataplane.ReasonUnknownSPI] < unknown && time.Now().Before(end); drops = h.backend.Drops() {
		time.Sleep(time.Millisecond)
	}
	if drops[dataplane.ReasonOuterInside] != inside || drops[dataplane.ReasonUnknownSPI] != unknown {
		t.Errorf("drops %v, want %d from inside and %d of unknown SPIs", drops, inside, unknown)
	}
	return nil
}

func (h *gatewayHost) sendsOutside(t *testing.T, bound bool) error {
	spi, err := h.install(routed)
	if err != nil {
		return err
	}
	host, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(leased, 9)))
	if err != nil {
		return err
	}
	defer host.Close()
	// The TUN device keeps the order: before the first packet come the ICMP
	// messages about what nobody listened to, before the third the second one's
	// ESP packet, if it goes into the tunnel.
	var before, after dataplane.Drops
	for n := range uint64(3) {
		if _, err := host.Write([]byte("to the device")); err != nil {
			return err
		}
		if err := h.sent(n + 1); err != nil {
			return err
		}
		if after = h.backend.Drops(); n == 0 {
			before = after
		}
	}
	if got := after[dataplane.ReasonNoChild] - before[dataplane.ReasonNoChild]; bound == (got > 0) {
		t.Errorf("%d packets of our own came from the inside", got)
	}
	// The path into itself, as UPDATE_SA_ADDRESSES sent through the tunnel would
	// have it.
	ring := dataplane.Path{Local: gatewayAt.Encap, Remote: netip.AddrPortFrom(leased, 4500)}
	if errs := h.backend.Apply([]dataplane.Change{dataplane.Move{Inbound: spi, Path: ring}}); !errors.Is(errs[0], dataplane.ErrInvalid) {
		t.Errorf("Move into the tunnel: %v", errs[0])
	}
	return nil
}
