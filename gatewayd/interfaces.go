package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/roamgate/roamgate/dataplane/link"
)

// candidate is an interface that is up and has IPv4 addresses.
type candidate struct {
	name      string
	addresses []netip.Prefix
	// defaultRoute: the way to everywhere leads through it.
	defaultRoute bool
}

// candidates of this host, loopback and TUN left out.
func candidates() ([]candidate, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var out []candidate
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || i.Flags&(net.FlagLoopback|net.FlagPointToPoint) != 0 {
			continue
		}
		c := candidate{name: i.Name, defaultRoute: slices.ContainsFunc(routes, func(r netlink.Route) bool {
			return r.LinkIndex == i.Index && (r.Dst == nil || r.Dst.IP.IsUnspecified())
		})}
		addresses, err := i.Addrs()
		if err != nil {
			return nil, fmt.Errorf("addresses of %s: %w", i.Name, err)
		}
		for _, a := range addresses {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLinkLocalUnicast() {
				c.addresses = append(c.addresses, p)
			}
		}
		if len(c.addresses) > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

// findOut fills what the flags leave open, and checks it against the host.
func (f *initFlags) findOut() error {
	list, err := candidates()
	if err != nil {
		return err
	}
	external, err := choose(list, f.external, f.internal, "--external", func(c candidate) bool { return c.defaultRoute })
	if err != nil {
		return err
	}
	f.external = external.name
	internal, err := choose(list, f.internal, f.external, "--internal", func(candidate) bool { return true })
	if err != nil {
		return err
	}
	f.internal = internal.name
	if err := link.Check(f.external, f.internal); err != nil {
		return explainHost(err)
	}
	if !f.address.IsValid() {
		f.address = external.addresses[0].Addr()
	}
	if f.id == "" {
		f.id = f.address.String()
	}
	if len(f.networks) == 0 {
		for _, p := range internal.addresses {
			f.networks = append(f.networks, p.Masked())
		}
	}
	for _, c := range list {
		for _, p := range c.addresses {
			if f.pool.Overlaps(p.Masked()) {
				return hinted{fmt.Errorf("the pool %v overlaps %v of interface %s", f.pool, p.Masked(), c.name), "Choose another network with --pool."}
			}
		}
	}
	return nil
}

// choose the named interface, or the only one that fits.
func choose(list []candidate, name, other, flag string, fits func(candidate) bool) (candidate, error) {
	var found []candidate
	var names []string
	for _, c := range list {
		names = append(names, c.name)
		if c.name == name || name == "" && c.name != other && fits(c) {
			found = append(found, c)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	hint := "No interface is up and has an IPv4 address."
	if len(names) > 0 {
		hint = "Interfaces with an IPv4 address: " + strings.Join(names, ", ") + "."
	}
	if name != "" {
		return candidate{}, hinted{fmt.Errorf("%s %s is not an interface that is up and has an IPv4 address", flag, name), hint}
	}
	if len(found) == 0 && flag == "--internal" {
		return candidate{}, hinted{errors.New("no interface fits " + flag), hint + ` Name one with --internal. A host with one interface
takes a second one by: ip link add inside type dummy; ip address add 10.2.0.1/24 dev inside; ip link set inside up`}
	}
	if len(found) == 0 {
		return candidate{}, hinted{errors.New("no interface fits " + flag), hint + " Name one with " + flag + "."}
	}
	return candidate{}, hinted{errors.New("more than one interface fits " + flag), hint + " Name one with " + flag + "."}
}
