// Package target holds the generators back: they load machines that are theirs.
//
// What lives here: the rule which targets may be loaded. What doesn't: loading.
package target

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// ErrNotOwn: the target is neither on this machine nor in a namespace, and
// nobody said that it may be loaded.
var ErrNotOwn = errors.New("this target may not be loaded")

// Check allows a target on loopback, any target from within a network namespace
// that isn't the machine's own, and what the operator vouches for.
func Check(addr netip.Addr, vouched bool) error {
	if vouched || addr.IsLoopback() {
		return nil
	}
	inside, err := namespaced()
	if err != nil {
		return fmt.Errorf("%w: %s: can't tell whether this is a namespace of its own: %w", ErrNotOwn, addr, err)
	}
	if !inside {
		return fmt.Errorf("%w: %s is neither loopback nor reached from within a network namespace; "+
			"if you are allowed to load it, say --i-own-this-target", ErrNotOwn, addr)
	}
	return nil
}

// named is where `ip netns add` and its kin keep the namespaces that they made.
const named = "/run/netns"

// namespaced tells whether this thread's network is one that somebody made: it
// has a name, or is another than that of the machine's first process, which not
// every machine lets one look at.
func namespaced() (bool, error) {
	own, err := os.Stat("/proc/thread-self/ns/net")
	if err != nil {
		return false, err
	}
	entries, err := os.ReadDir(named)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return false, err
	}
	for _, e := range entries {
		if it, err := os.Stat(filepath.Join(named, e.Name())); err == nil && os.SameFile(own, it) {
			return true, nil
		}
	}
	first, err := os.Stat("/proc/1/ns/net")
	if err != nil {
		return false, err
	}
	return !os.SameFile(own, first), nil
}
