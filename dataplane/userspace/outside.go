package userspace

import (
	"fmt"
	"net/netip"

	"github.com/roamgate/roamgate/dataplane"
)

/* A path must not lead back into the tunnel
 *
 * A device can reach the gateway's outer address through its own tunnel, and
 * would then seem to be outside at its virtual address. A path to there makes
 * the gateway seal its own packets again and again.
 *
 * Two things stand against it. The sockets are bound to the outer interface, so
 * that nothing goes from one side to the other. And outer addresses that are
 * inside are refused: those of Config.Pools, and the virtual addresses of
 * installed children. The second rule is enough without the first, whatever
 * pools come later: a ring of children, each with its path to a virtual address
 * of the next, is closed by a change whose path leads to an address that is
 * installed already, or is the child's own; that change is refused. Import asks
 * nothing: the predecessor did, and pools that changed between the two must not
 * make a hand-over fail.
 */

// isInside: nobody outside can have that address.
func (l *loop) isInside(a netip.Addr) bool {
	if _, ok := l.directory.holder(a); ok {
		return true
	}
	for _, p := range l.config.Pools {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// checkOutside refuses a path of a child, which is about to have the virtual
// addresses own, to where nobody outside can be. Errors: dataplane.ErrInvalid,
// wrapped.
func (l *loop) checkOutside(path dataplane.Path, own []netip.Addr) error {
	remote := path.Remote.Addr()
	refused := l.isInside(remote)
	for _, a := range own {
		refused = refused || a == remote
	}
	if refused {
		return fmt.Errorf("%w: path to %v, which is inside", dataplane.ErrInvalid, path.Remote)
	}
	return nil
}
