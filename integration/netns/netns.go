// Package netns makes network namespaces for tests, benchmarks and the demo:
// namespaces, the links between them, the programs and sockets inside. It
// knows nothing of gateways and imports nothing else of this project.
//
// A Namespace owns one operating-system thread that entered it and never
// leaves. Whatever has to happen inside runs there: netlink requests, sysctls,
// opening sockets (which stay in the namespace afterwards, whoever uses them)
// and starting programs. Because that thread lives as long as the Namespace,
// the parent-death signal of a program, which Linux ties to the thread that
// started it, fires when this process dies or the Namespace is closed, and
// not before.
package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namesDir is where iproute2 and vishvananda/netns keep named namespaces.
const namesDir = "/run/netns"

// ErrClosed is returned by what needs a Namespace that was closed.
var ErrClosed = errors.New("namespace is closed")

// Namespace is a named network namespace, visible to ip-netns(8). All methods
// may be called from any goroutine, but not from inside Do.
type Namespace struct {
	name string
	work chan func()
	quit chan struct{}
	gone chan struct{} // closed when the thread has ended

	mu       sync.Mutex
	closed   bool
	outlived bool
}

// New makes a namespace with its loopback interface up.
func New(name string) (*Namespace, error) {
	n := &Namespace{
		name: name,
		work: make(chan func()),
		quit: make(chan struct{}),
		gone: make(chan struct{}),
	}
	ready := make(chan error)
	apart(func() { n.thread(ready) })
	if err := <-ready; err != nil {
		return nil, fmt.Errorf("making namespace %s: %w", name, err)
	}
	if err := n.Do(func() error { return setUp("lo") }); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// thread is inside the namespace, and what it starts dies with it.
func (n *Namespace) thread(ready chan<- error) {
	defer close(n.gone)
	handle, err := netns.NewNamed(n.name)
	ready <- err
	if err != nil {
		return
	}
	defer handle.Close()
	for {
		select {
		case f := <-n.work:
			f()
		case <-n.quit:
			return
		}
	}
}

// Name is the name under which ip-netns(8) knows the namespace.
func (n *Namespace) Name() string { return n.name }

// Do runs f on the thread that is inside the namespace and returns its error.
// f must not start goroutines that rely on being inside, and not call Do.
func (n *Namespace) Do(f func() error) error {
	result := make(chan error, 1)
	select {
	case n.work <- func() { result <- f() }:
		return <-result
	case <-n.gone:
		return fmt.Errorf("%s: %w", n.name, ErrClosed)
	}
}

// Close removes the namespace with all its interfaces. Programs that were
// started inside and still run are killed, unless they are to outlive this
// process. It is safe to call twice, and after Leave.
func (n *Namespace) Close() error {
	if !n.end() {
		return nil
	}
	return netns.DeleteNamed(n.name)
}

// Leave ends the use of the namespace and leaves it in place; Remove takes it
// away, from another process too.
func (n *Namespace) Leave() { n.end() }

// end ends the thread and reports whether it still ran.
func (n *Namespace) end() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.closed = true
	close(n.quit)
	<-n.gone
	return true
}

// Outlive makes programs that are started from now on outlive the Namespace
// and this process.
func (n *Namespace) Outlive() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.outlived = true
}

// Remove removes a namespace that a process before this one left, by name. Its
// interfaces go when no program runs inside any more.
func Remove(name string) error { return netns.DeleteNamed(name) }

// Sweep removes the namespaces prefix-PID-... of processes that are gone: they
// were killed before they could tidy up.
func Sweep(prefix string) error {
	entries, err := os.ReadDir(namesDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed error
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), prefix+"-")
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if err != nil || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			continue
		}
		failed = errors.Join(failed, netns.DeleteNamed(e.Name()))
	}
	return failed
}

// AddAddress gives an interface an address and the route to its network.
func (n *Namespace) AddAddress(link string, p netip.Prefix) error {
	if err := n.Do(func() error { return addAddress(link, p) }); err != nil || p.Addr().Is4() {
		return err
	}
	// A neighbour that isn't ready yet is asked again soon, not after a second.
	neighbours := "net.ipv6.neigh." + link
	if _, err := n.Sysctl(neighbours+".retrans_time_ms", "50"); err != nil {
		return err
	}
	_, err := n.Sysctl(neighbours+".mcast_solicit", "20")
	return err
}

// DelAddress takes an address from an interface.
func (n *Namespace) DelAddress(link string, p netip.Prefix) error {
	return n.Do(func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("interface %s in %s: %w", link, n.name, err)
		}
		if err := netlink.AddrDel(l, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
			return fmt.Errorf("address %s of %s in %s: %w", p, link, n.name, err)
		}
		return nil
	})
}

// AddRoute sends what goes to dst through a neighbour.
func (n *Namespace) AddRoute(dst netip.Prefix, via netip.Addr) error {
	return n.Do(func() error {
		route := &netlink.Route{Dst: ipNet(dst), Gw: via.AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("%s: route %s via %s: %w", n.name, dst, via, err)
		}
		return nil
	})
}

// Routes lists the routes of the main tables, IPv4 and IPv6, as "prefix dev link".
func (n *Namespace) Routes() ([]string, error) {
	var out []string
	err := n.Do(func() error {
		routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
		if err != nil {
			return err
		}
		for _, r := range routes {
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				return err
			}
			dst := "default"
			if r.Dst != nil {
				dst = r.Dst.String()
			}
			out = append(out, dst+" dev "+link.Attrs().Name)
		}
		return nil
	})
	return out, err
}

// Links lists the interfaces by name, the loopback interface too.
func (n *Namespace) Links() ([]string, error) {
	var out []string
	err := n.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			out = append(out, l.Attrs().Name)
		}
		return err
	})
	return out, err
}

// SetLink brings an interface up or down.
func (n *Namespace) SetLink(link string, up bool) error {
	return n.Do(func() error {
		if up {
			return setUp(link)
		}
		l, err := netlink.LinkByName(link)
		if err != nil {
			return fmt.Errorf("%s: link %s: %w", n.name, link, err)
		}
		return netlink.LinkSetDown(l)
	})
}

// Sysctl reads, and where value isn't empty first writes, a setting below
// net., such as "net.ipv4.ip_forward". It returns the value that holds then.
func (n *Namespace) Sysctl(key, value string) (string, error) {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(key, ".", "/"))
	var now []byte
	err := n.Do(func() (err error) {
		if value != "" {
			if err := os.WriteFile(path, []byte(value), 0); err != nil {
				return err
			}
		}
		now, err = os.ReadFile(path)
		return err
	})
	return strings.TrimSpace(string(now)), err
}

// Connect lays a veth pair between two namespaces and gives each end its name
// and address.
func Connect(a *Namespace, aLink string, aAddr netip.Prefix, b *Namespace, bLink string, bAddr netip.Prefix) error {
	handle, err := netns.GetFromName(b.name)
	if err != nil {
		return fmt.Errorf("namespace %s: %w", b.name, err)
	}
	defer handle.Close()
	err = a.Do(func() error {
		veth := &netlink.Veth{
			LinkAttrs:     netlink.NewLinkAttrs(),
			PeerName:      bLink,
			PeerNamespace: netlink.NsFd(handle),
		}
		veth.Name = aLink
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("link %s/%s - %s/%s: %w", a.name, aLink, b.name, bLink, err)
		}
		return addAddress(aLink, aAddr)
	})
	if err != nil {
		return err
	}
	if err := b.AddAddress(bLink, bAddr); err != nil {
		return err
	}
	return errors.Join(a.waitUp(aLink), b.waitUp(bLink))
}

// upTime is what the kernel gets for what it does in the background, where it has
// much else to do.
const upTime = 30 * time.Second

// waitUp waits for the carrier, which the kernel notices in the background;
// what is sent before is lost.
func (n *Namespace) waitUp(link string) error {
	return n.Do(func() error {
		for end := time.Now().Add(upTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
			l, err := netlink.LinkByName(link)
			if err != nil {
				return err
			}
			if l.Attrs().OperState == netlink.OperUp {
				return usable(l)
			}
		}
		return fmt.Errorf("%s: link %s has no carrier", n.name, link)
	})
}

// usable waits until IPv6 addresses of an interface with a carrier are in use:
// that is the background's work, too.
func usable(l netlink.Link) error {
	tentative := func(a netlink.Addr) bool {
		return a.Flags&unix.IFA_F_TENTATIVE != 0 && a.Flags&unix.IFA_F_NODAD != 0
	}
	for end := time.Now().Add(upTime); time.Now().Before(end); time.Sleep(time.Millisecond) {
		addresses, err := netlink.AddrList(l, netlink.FAMILY_V6)
		if err != nil || !slices.ContainsFunc(addresses, tentative) {
			return err
		}
	}
	return fmt.Errorf("link %s: an address doesn't come into use", l.Attrs().Name)
}

func setUp(link string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("link %s: setting it up: %w", link, err)
	}
	return nil
}

func addAddress(link string, p netip.Prefix) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD // it is the only one, and is to be used at once
	}
	if err := netlink.AddrAdd(l, a); err != nil {
		return fmt.Errorf("link %s: address %s: %w", link, p, err)
	}
	if l.Attrs().OperState == netlink.OperUp {
		return usable(l)
	}
	return setUp(link)
}
