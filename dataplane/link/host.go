package link

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/vishvananda/netlink"
)

// Config of what the host has to provide.
type Config struct {
	// TUN is the name of the interface to the devices. It exists, with its MTU,
	// and is down.
	TUN string
	// Addresses of the gateway on TUN; may be empty.
	Addresses []netip.Prefix
	// Pools of virtual addresses, routed to TUN.
	Pools []netip.Prefix
	// IPv6: pools of it may come later.
	IPv6 bool
	// External and Internal are the names of the interfaces toward the devices
	// and toward what lies behind the gateway.
	External, Internal string
	// Bundles has External put datagrams of clients together, see gro.go.
	Bundles bool
	// Journal is the path of the file that remembers what to take back. Its
	// directory exists; a lock file is put beside it.
	Journal string
}

// Host is a host with everything in place.
type Host struct {
	mu      sync.Mutex
	path    string
	lock    *os.File // nil once closed
	journal journal
}

// Setup puts everything in place; with an error, nothing has changed. Errors:
// those of Check, ErrInUse, ErrLeftover, and those of the kernel.
func Setup(c Config) (*Host, error) {
	lock, err := acquire(c.Journal)
	if err != nil {
		return nil, err
	}
	h := &Host{path: c.Journal, lock: lock}
	if err := h.setup(c); err != nil {
		lock.Close()
		return nil, err
	}
	return h, nil
}

func (h *Host) setup(c Config) error {
	switch _, err := os.Lstat(h.path); {
	case err == nil:
		return fmt.Errorf("%w: %s", ErrLeftover, h.path)
	case !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("journal: %w", err)
	}
	if err := Check(c.External, c.Internal); err != nil {
		return err
	}
	tun, err := byName(c.TUN)
	if err != nil {
		return fmt.Errorf("TUN interface %q: %w", c.TUN, err)
	}
	if h.journal, err = newJournal(tun); err != nil {
		return err
	}
	if h.journal.Changes, err = plan(c); err != nil {
		return err
	}
	if err := h.journal.write(h.path); err != nil {
		return err
	}
	for _, change := range h.journal.Changes {
		if err := change.apply(tun); err != nil {
			return errors.Join(err, h.takeBack())
		}
	}
	return nil
}

// plan lists the changes in the order in which they are made. Sysctls that
// stand right already are not among them.
func plan(c Config) ([]change, error) {
	ipv6 := c.IPv6
	for _, pool := range c.Pools {
		ipv6 = ipv6 || pool.Addr().Is6()
	}

	// What a packet from a device claims as its source must lie in a pool.
	settings := []setting{{conf("ipv4", c.TUN, "rp_filter"), "1"}}
	if ipv6 {
		// No router advertisement from a device is obeyed, and no link-local
		// address is made, which the kernel would announce through TUN.
		settings = append(settings,
			setting{conf("ipv6", c.TUN, "accept_ra"), "0"},
			setting{conf("ipv6", c.TUN, "addr_gen_mode"), "1"})
	} else {
		settings = append(settings, setting{conf("ipv6", c.TUN, "disable_ipv6"), "1"})
	}
	// Forwarding is decided where a packet comes in. On only two interfaces the
	// host doesn't become a router for others, and ip_forward would change more
	// than what could be taken back (accept_redirects, all other interfaces).
	settings = append(settings,
		setting{conf("ipv4", c.TUN, "forwarding"), "1"},
		setting{conf("ipv4", c.Internal, "forwarding"), "1"})
	changes, err := planSettings(settings)
	if err != nil {
		return nil, err
	}
	if ipv6 {
		more, err := planForwarding6(c.TUN)
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
	}

	if c.Bundles {
		more, err := planGRO(c.External)
		if err != nil {
			return nil, err
		}
		changes = append(changes, more...)
	}

	changes = append(changes, change{Kind: kindUp})
	for _, a := range c.Addresses {
		changes = append(changes, change{Kind: kindAddress, Prefix: a})
	}
	for _, p := range c.Pools {
		changes = append(changes, change{Kind: kindRoute, Prefix: p.Masked()})
	}
	return changes, nil
}

// Close takes everything back. What could not be taken back stays in the
// journal for Recover, and is in the error. It is safe to call twice.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lock == nil {
		return nil
	}
	err := h.takeBack()
	h.lock.Close()
	h.lock = nil
	return err
}

func (h *Host) takeBack() error {
	err := h.journal.takeBack()
	if err != nil {
		return errors.Join(err, h.journal.write(h.path))
	}
	return remove(h.path)
}

// Recover takes back what a run that did not end well has left, an interface
// that outlived it included, and removes the journal. It is to be called before
// the TUN interface is made. Without a journal there is nothing to do. Errors:
// ErrInUse if that run has not ended, ErrJournal, and those of the kernel; with
// the latter the journal keeps what is still to be taken back.
//
// A journal of another boot or another network namespace is only removed: what
// it speaks of is gone, or out of reach.
func Recover(path string) error {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := acquire(path)
	if err != nil {
		return err
	}
	defer lock.Close()
	j, err := readJournal(path)
	if err != nil {
		return err
	}
	here, err := newJournal(&netlink.Tuntap{})
	if err != nil {
		return err
	}
	if j.BootID != here.BootID || j.Namespace != here.Namespace {
		return remove(path)
	}
	if err := j.removeTUN(); err != nil {
		return err
	}
	h := &Host{path: path, journal: j}
	return h.takeBack()
}
