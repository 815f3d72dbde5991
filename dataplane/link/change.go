package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type kind string

const (
	kindUp      kind = "up"      // the TUN interface is brought up
	kindAddress kind = "address" // Prefix is an address of TUN and its subnet
	kindRoute   kind = "route"   // Prefix is routed to TUN
	kindSysctl  kind = "sysctl"
	kindSysfs   kind = "sysfs"   // Path is an interface and an attribute of it
	kindFeature kind = "feature" // Path is an interface and a feature of ethtool
)

// routeProtocol marks our routes (rtnetlink(7), rtm_protocol); it is one that
// nobody has registered.
const routeProtocol netlink.RouteProtocol = 0x52

// change of the host. Taking one back that was not made, or was taken back
// already, does nothing.
type change struct {
	Kind   kind         `json:"kind"`
	Prefix netip.Prefix `json:"prefix,omitzero"`

	// Path of a sysctl below /proc/sys, or of something of an interface, and its
	// values before and after.
	Path string `json:"path,omitempty"`
	Old  string `json:"old,omitempty"`
	New  string `json:"new,omitempty"`
	// Cascade holds the sysctls, and their values, that the kernel overwrites
	// when this one is set back.
	Cascade map[string]string `json:"cascade,omitempty"`
}

func (c change) validate() error {
	switch c.Kind {
	case kindUp:
		return nil
	case kindAddress, kindRoute:
		if !c.Prefix.IsValid() {
			return errors.New("no prefix")
		}
		return nil
	case kindSysctl:
		if !validSysctl(c.Path) {
			return fmt.Errorf("not a network sysctl: %q", c.Path)
		}
		for path := range c.Cascade {
			if !validSysctl(path) {
				return fmt.Errorf("not a network sysctl: %q", path)
			}
		}
		return nil
	case kindSysfs, kindFeature:
		if !validInterfacePath(c.Path) {
			return fmt.Errorf("not a setting of an interface: %q", c.Path)
		}
		return nil
	default:
		return fmt.Errorf("unknown kind %q", c.Kind)
	}
}

func (c change) apply(tun netlink.Link) error {
	var err error
	switch c.Kind {
	case kindUp:
		err = netlink.LinkSetUp(tun)
	case kindAddress:
		err = netlink.AddrAdd(tun, c.address())
	case kindRoute:
		err = netlink.RouteAdd(c.route(tun))
	case kindSysctl:
		return writeSysctl(c.Path, c.New)
	case kindSysfs, kindFeature:
		return c.applyInterface(c.New)
	}
	if err != nil {
		return fmt.Errorf("%s %v on %q: %w", c.Kind, c.prefix(), tun.Attrs().Name, err)
	}
	return nil
}

// takeBack undoes the change; tun is nil if that interface is gone, and
// everything that hung on it with it.
func (c change) takeBack(tun netlink.Link) error {
	if c.Kind == kindSysctl {
		return c.takeBackSysctl()
	}
	if c.Kind == kindSysfs || c.Kind == kindFeature {
		return c.takeBackInterface()
	}
	if tun == nil {
		return nil
	}
	var err error
	switch c.Kind {
	case kindUp:
		err = netlink.LinkSetDown(tun)
	case kindAddress:
		err = netlink.AddrDel(tun, c.address())
	case kindRoute:
		err = netlink.RouteDel(c.route(tun))
	case kindSysctl, kindSysfs, kindFeature:
	}
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.ENODEV):
		return nil // not there
	case err != nil:
		return fmt.Errorf("take back %s %v on %q: %w", c.Kind, c.prefix(), tun.Attrs().Name, err)
	}
	return nil
}

func (c change) prefix() string {
	if c.Prefix.IsValid() {
		return c.Prefix.String()
	}
	return ""
}

func (c change) address() *netlink.Addr {
	return &netlink.Addr{IPNet: ipNet(c.Prefix)}
}

func (c change) route(tun netlink.Link) *netlink.Route {
	scope := netlink.SCOPE_LINK
	if c.Prefix.Addr().Is6() {
		scope = netlink.SCOPE_UNIVERSE // IPv6 routes have no other
	}
	return &netlink.Route{
		LinkIndex: tun.Attrs().Index, Dst: ipNet(c.Prefix),
		Scope: scope, Protocol: routeProtocol, Table: unix.RT_TABLE_MAIN,
	}
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
