package hostroute

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

	"github.com/roamgate/roamgate/dataplane"
)

// Config is where routes go.
type Config struct {
	// Interface of the tunnel. It exists.
	Interface string
	// Table is the number of the kernel's routing table.
	Table int
	// Protocol is the rtm_protocol of the routes (rtnetlink(7)), by which the
	// daemon knows them.
	Protocol uint8
	Logger   *slog.Logger
}

// again is how long a route that was refused waits.
const again = time.Second

// Routes is a dataplane.Layer that keeps a host route for each address of a Child
// SA.
type Routes struct {
	config Config
	index  int // of the interface
	handle *netlink.Handle
	wake   chan struct{}
	ended  chan struct{}

	mu       sync.Mutex
	children map[dataplane.SPI][]netip.Addr
	used     map[netip.Addr]int      // by how many children
	changed  map[netip.Addr]struct{} // still to be compared with there
	refused  uint64
	closed   bool

	there map[netip.Addr]struct{} // routes of the kernel; the goroutine's own
}

// Stats of the table.
type Stats struct {
	// Routes that are wanted, and how many of them, or of those that have to go,
	// wait.
	Routes, Waiting int
	// Refused changes, each of which is tried again.
	Refused uint64
}

// New starts the goroutine. The network namespace is the caller's.
func New(c Config) (*Routes, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	l, err := handle.LinkByName(c.Interface)
	if err != nil {
		handle.Close()
		return nil, fmt.Errorf("interface %s: %w", c.Interface, err)
	}
	r := &Routes{
		config: c, index: l.Attrs().Index, handle: handle, wake: make(chan struct{}, 1), ended: make(chan struct{}),
		children: make(map[dataplane.SPI][]netip.Addr), used: make(map[netip.Addr]int), changed: make(map[netip.Addr]struct{}),
		there: make(map[netip.Addr]struct{}),
	}
	go r.run()
	return r, nil
}

// Admit asks for the routes of Child SAs.
func (r *Routes) Admit(children []*dataplane.Child) []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range children {
		// What it says now comes before what it said goes.
		before := r.children[c.Inbound.SPI]
		addresses := slices.Clone(c.VirtualIPs)
		for _, a := range addresses {
			r.count(a, 1)
		}
		for _, a := range before {
			r.count(a, -1)
		}
		r.children[c.Inbound.SPI] = addresses
	}
	r.notify()
	return make([]error, len(children))
}

// Regroup changes no route.
func (r *Routes) Regroup(dataplane.SPI, string) error { return nil }

// Forget takes back the routes that no other Child SA needs.
func (r *Routes) Forget(inbound []dataplane.SPI) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, spi := range inbound {
		for _, a := range r.children[spi] {
			r.count(a, -1)
		}
		delete(r.children, spi)
	}
	r.notify()
}

// count a child more or less that has the address.
func (r *Routes) count(a netip.Addr, by int) {
	before := r.used[a]
	if r.used[a] += by; r.used[a] == 0 {
		delete(r.used, a)
	}
	if (before == 0) != (before+by == 0) {
		r.changed[a] = struct{}{}
	}
}

func (r *Routes) notify() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Stats may be asked at any time.
func (r *Routes) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{Routes: len(r.used), Waiting: len(r.changed), Refused: r.refused}
}

// Close takes back every route.
func (r *Routes) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.notify()
	<-r.ended
	defer r.handle.Close()
	var errs []error
	for a := range r.there {
		if err := r.del(a); err != nil {
			errs = append(errs, fmt.Errorf("route to %v in table %d: %w", a, r.config.Table, err))
		}
	}
	return errors.Join(errs...)
}

func (r *Routes) run() {
	defer close(r.ended)
	retry := time.NewTimer(0)
	defer retry.Stop()
	for {
		select {
		case <-r.wake:
		case <-retry.C:
		}
		r.mu.Lock()
		if r.closed {
			r.mu.Unlock()
			return
		}
		changed := r.changed
		r.changed = make(map[netip.Addr]struct{})
		wanted := make(map[netip.Addr]bool, len(changed))
		for a := range changed {
			wanted[a] = r.used[a] > 0
		}
		r.mu.Unlock()
		if refused, why := r.bring(wanted); len(refused) > 0 {
			r.mu.Lock()
			first := r.refused == 0
			r.refused += uint64(len(refused))
			for _, a := range refused {
				r.changed[a] = struct{}{}
			}
			r.mu.Unlock()
			if first {
				r.config.Logger.Warn("host routes are refused, and tried again", slog.Int("table", r.config.Table), slog.Int("routes", len(refused)), slog.Any("error", why))
			}
			retry.Reset(again)
		}
	}
}

// bring the kernel's routes to what is wanted, and return those that it refused,
// with the last reason.
func (r *Routes) bring(wanted map[netip.Addr]bool) (refused []netip.Addr, why error) {
	for a, want := range wanted {
		_, has := r.there[a]
		var err error
		switch {
		case want == has:
		case want:
			if err = r.handle.RouteReplace(r.route(a)); err == nil {
				r.there[a] = struct{}{}
			}
		default:
			if err = r.del(a); err == nil {
				delete(r.there, a)
			}
		}
		if err != nil {
			refused, why = append(refused, a), err
		}
	}
	return refused, why
}

// del a route; one that is gone with its interface, or was taken by another, is
// gone.
func (r *Routes) del(a netip.Addr) error {
	if err := r.handle.RouteDel(r.route(a)); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func (r *Routes) route(a netip.Addr) *netlink.Route {
	scope := netlink.SCOPE_LINK
	if a.Is6() {
		scope = netlink.SCOPE_UNIVERSE // IPv6 routes have no other
	}
	return &netlink.Route{
		LinkIndex: r.index, Scope: scope, Table: r.config.Table, Protocol: netlink.RouteProtocol(r.config.Protocol),
		Dst: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())},
	}
}
