// Package tunnel is a fast client: the IKE of a simulated device before the
// packet path of gatewayd (dataplane/userspace) and a TUN interface. With it at
// the other end, what is measured is the gateway, not a slow client.
//
// What lives here: one client in the network namespace of its caller. What
// doesn't: IKE (package device), packets (package userspace), measuring.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/dataplane/userspace"
)

// Config of a Tunnel.
type Config struct {
	// Device is the client; Listen and Forward are set here. Its profile
	// decides about algorithms.
	Device device.Config
	// Local address to come from; the zero value is the one that the route to
	// the gateway has.
	Local netip.Addr
	// Hosts behind the gateway that are reached through the tunnel, at most one
	// of each address family: the packet path was made for a gateway, where each
	// tunnel has one inner address at its other end.
	Hosts []netip.Addr
	// Interface to make; PathMTU as userspace.Config has it.
	Interface string
	PathMTU   int
	// Logger for the packet path; nil discards.
	Logger *slog.Logger
}

// Tunnel is a connected client.
type Tunnel struct {
	device  *device.Device
	inside  *tun.Device
	backend *userspace.Backend
	info    device.Info
	mtu     int
}

// Connect makes the interface, connects, and routes Hosts through the tunnel.
// The calling thread's network namespace is where all of it stands.
func Connect(ctx context.Context, cfg Config) (_ *Tunnel, err error) {
	t := &Tunnel{}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	if !cfg.Local.IsValid() {
		if cfg.Local, err = localFor(cfg.Device.Gateway); err != nil {
			return nil, err
		}
	}
	if t.inside, err = tun.Create(tun.Config{Name: cfg.Interface}); err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(cfg.Local, 0)
	events := make(chan dataplane.Event, 16) // hints, which a client has no use for
	t.backend, err = userspace.New(userspace.Config{
		Locals: []userspace.Local{{IKE: at, Encap: at}}, Inside: []userspace.Inside{t.inside},
		PathMTU: cfg.PathMTU, Logger: cfg.Logger,
	}, events)
	if err != nil {
		return nil, err
	}
	m := &mirror{backend: t.backend, hosts: cfg.Hosts}
	cfg.Device.Forward = m
	cfg.Device.Listen = func() (device.Socket, error) { return newSocket(t.backend), nil }
	if t.device, err = device.New(cfg.Device); err != nil {
		return nil, err
	}
	if t.info, err = t.device.Connect(ctx); err != nil {
		return nil, err
	}
	t.mtu, err = userspace.InnerMTU(max(cfg.PathMTU, 1500), m.algorithm(), cfg.Local.Is6())
	if err != nil {
		return nil, err
	}
	return t, t.route(cfg.Hosts)
}

// localFor is the address that the kernel would choose.
func localFor(gateway netip.AddrPort) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(gateway))
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// route gives the interface the virtual addresses and sends hosts there.
func (t *Tunnel) route(hosts []netip.Addr) error {
	link, err := netlink.LinkByName(t.inside.Name())
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, t.mtu); err != nil {
		return fmt.Errorf("MTU %d: %w", t.mtu, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	for _, a := range t.VirtualIPs() {
		addr := &netlink.Addr{IPNet: single(a)}
		if a.Is6() {
			addr.Flags = ifaNoDAD
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	for _, h := range hosts {
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: single(h), Scope: netlink.SCOPE_LINK}); err != nil {
			return fmt.Errorf("route to %s: %w", h, err)
		}
	}
	return nil
}

// ifaNoDAD: nobody else is there to have the address (IFA_F_NODAD).
const ifaNoDAD = 0x02

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

// VirtualIPs that the gateway assigned.
func (t *Tunnel) VirtualIPs() []netip.Addr { return t.info.Summary.VirtualIPs }

// Info of the client as it connected.
func (t *Tunnel) Info() device.Info { return t.info }

// MTU of inner packets.
func (t *Tunnel) MTU() int { return t.mtu }

// Ended returns when the gateway ended the session, or with ctx.
func (t *Tunnel) Ended(ctx context.Context) error {
	info, err := t.device.Await(ctx, func(i device.Info) bool { return i.State == device.Ended })
	if err != nil {
		return err
	}
	return info.Closed
}

// Close deletes the session and takes the interface back.
func (t *Tunnel) Close(ctx context.Context) error {
	return errors.Join(t.device.Close(ctx), t.close())
}

func (t *Tunnel) close() (err error) {
	if t.backend != nil {
		err = t.backend.Close()
	}
	if t.device != nil {
		t.device.Vanish()
	}
	if t.inside != nil {
		err = errors.Join(err, t.inside.Close())
	}
	return err
}
