package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// Displace takes the guard of a former daemon off an interface, wherever its link
// is pinned: nobody tells it SPIs any more. It is known by its program, and by the
// maps and one of locals in them, so that a guard for other addresses stays. It
// says whether there was one. Looking at links of others takes CAP_SYS_ADMIN:
// without it the error is fs.ErrPermission, wrapped.
func Displace(index int, locals []netip.Addr) (bool, error) {
	found := false
	links := new(link.Iterator)
	defer links.Close()
	for links.Next() {
		if !linkedTo(links.Link, index) || !guards(links.Link, locals) {
			continue
		}
		if err := links.Link.Detach(); err != nil {
			return found, fmt.Errorf("%w: a former guard is on interface %d: %w", ErrAttach, index, err)
		}
		found = true
	}
	if err := links.Err(); err != nil && !errors.Is(err, os.ErrNotExist) {
		return found, fmt.Errorf("links of the kernel: %w", err)
	}
	return found, nil
}

// guards: the program of a link is a guard of one of the addresses. A link that
// went meanwhile isn't.
func guards(l link.Link, locals []netip.Addr) bool {
	info, err := l.Info()
	if err != nil {
		return false
	}
	program, err := ebpf.NewProgramFromID(info.Program)
	if err != nil {
		return false
	}
	defer program.Close()
	about, err := program.Info()
	if err != nil || about.Name != programProgGuard {
		return false
	}
	ids, _ := about.MapIDs()
	spis, ours := false, false
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return false
		}
		switch about, err := m.Info(); {
		case err != nil:
		case about.Name == programMapSpis:
			spis = true
		case about.Name == programMapLocals:
			ours = keeps(m, locals)
		}
		_ = m.Close()
	}
	return spis && ours
}

// keeps: one of the addresses is in a map of them.
func keeps(m *ebpf.Map, locals []netip.Addr) bool {
	for _, a := range locals {
		var one uint32
		if m.Lookup(address(a), &one) == nil {
			return true
		}
	}
	return false
}
