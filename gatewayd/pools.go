package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/control/session"
)

// poolRoutes leads the pools into the tunnel after they have changed. At the
// start package link does that. These routes need no journal: they go with the
// TUN interface, and that with the process.
type poolRoutes struct {
	index int // of the TUN interface

	mu     sync.Mutex
	routed []netip.Prefix
	wanted []netip.Prefix
}

// newPoolRoutes for an interface that leads to pools already.
func newPoolRoutes(tun string, pools []netip.Prefix) (*poolRoutes, error) {
	l, err := netlink.LinkByName(tun)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", tun, err)
	}
	return &poolRoutes{index: l.Attrs().Index, routed: slices.Clone(pools), wanted: pools}, nil
}

// add leads to new pools; with an error, to none of them. Old ones stay until
// sweep.
func (p *poolRoutes) add(pools []netip.Prefix) (err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.routed)
	for _, pool := range pools {
		if slices.Contains(p.routed, pool) {
			continue
		}
		if err := netlink.RouteAdd(p.route(pool)); err != nil {
			for _, undo := range p.routed[before:] {
				err = errors.Join(err, netlink.RouteDel(p.route(undo)))
			}
			p.routed = p.routed[:before]
			return fmt.Errorf("route to pool %v: %w", pool, err)
		}
		p.routed = append(p.routed, pool)
	}
	p.wanted = slices.Clone(pools)
	return nil
}

// sweep takes back the routes to former pools in which no session has an
// address any more.
func (p *poolRoutes) sweep(sessions func() []session.Info) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	former := func(pool netip.Prefix) bool { return !slices.Contains(p.wanted, pool) }
	if !slices.ContainsFunc(p.routed, former) {
		return nil
	}
	used := sessions()
	var errs []error
	p.routed = slices.DeleteFunc(p.routed, func(pool netip.Prefix) bool {
		if !former(pool) || slices.ContainsFunc(used, func(i session.Info) bool { return slices.ContainsFunc(i.VirtualIPs, pool.Contains) }) {
			return false
		}
		if err := netlink.RouteDel(p.route(pool)); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, fmt.Errorf("route to former pool %v: %w", pool, err))
		}
		return true
	})
	return errors.Join(errs...)
}

func (p *poolRoutes) route(pool netip.Prefix) *netlink.Route {
	scope := netlink.SCOPE_LINK
	if pool.Addr().Is6() {
		scope = netlink.SCOPE_UNIVERSE // IPv6 routes have no other
	}
	return &netlink.Route{
		LinkIndex: p.index, Scope: scope, Table: unix.RT_TABLE_MAIN,
		Dst: &net.IPNet{IP: pool.Addr().AsSlice(), Mask: net.CIDRMask(pool.Bits(), pool.Addr().BitLen())},
	}
}

// sweepInterval: how long a route to a former pool may be of no use.
const sweepInterval = 10 * time.Second

// run sweeps until over is closed.
func (p *poolRoutes) run(over <-chan struct{}, sessions func() []session.Info, logger *slog.Logger) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-over:
			return
		case <-tick.C:
			if err := p.sweep(sessions); err != nil {
				logger.Warn("not taken back", slog.Any("error", err))
			}
		}
	}
}
