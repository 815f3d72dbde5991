package xfrm

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// lastWords are the states of both SAs of a child when they were removed.
type lastWords struct{ in, out report }

// endPiece is how many children are ended at once: what the kernel tells of them
// fits into the buffer of a socket many times over.
const endPiece = 64

// end removes the SAs of children and returns their very last states. The kernel
// marks an SA as dead under the lock that a packet takes for its sequence number,
// and tells the state after that. Policies stay. With an error some of the
// children have lost an SA, or its state.
func (b *Backend) end(children []*child) (map[*child]lastWords, error) {
	if err := b.obituaries.member(unix.NETLINK_ADD_MEMBERSHIP, groupSA); err != nil {
		return nil, err
	}
	defer func() {
		_ = b.obituaries.member(unix.NETLINK_DROP_MEMBERSHIP, groupSA) // what comes then is passed over
		_, _ = b.obituaries.deleted()
	}()
	words := make(map[*child]lastWords, len(children))
	var errs []error
	for len(children) > 0 {
		piece := children[:min(endPiece, len(children))]
		children = children[len(piece):]
		var q batch
		for _, c := range piece {
			if !c.dead {
				q.byID(msgDelSA, c.outboundID())
				q.byID(msgDelSA, c.inboundID())
			}
		}
		for _, err := range b.conn.do(&q, nil) {
			if err != nil && !gone(err) {
				errs = append(errs, err)
			}
		}
		told, err := b.obituaries.deleted()
		errs = append(errs, err)
		for _, c := range piece {
			in, okIn := told[c.inboundID()]
			out, okOut := told[c.outboundID()]
			switch {
			case c.dead:
			case okIn && okOut:
				words[c] = lastWords{in, out}
			default:
				errs = append(errs, fmt.Errorf("%w: %#08x", errLostWord, uint32(c.Inbound.SPI)))
			}
		}
	}
	return words, errors.Join(errs...)
}

// member joins or leaves a multicast group.
func (c *conn) member(option int, group uint32) error {
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, option, int(group)); err != nil {
		return fmt.Errorf("XFRM socket: group %d: %w", group, err)
	}
	return nil
}

// deleted reads what the kernel has told of removed SAs so far: all that it has to
// say of those whose removal was acknowledged.
func (c *conn) deleted() (map[stateID]report, error) {
	told := make(map[stateID]report)
	for {
		err := c.receiveFlags(unix.MSG_DONTWAIT, func(m message) {
			if m.kind != msgDelSA {
				return
			}
			if r, ok := parseDeleted(m.body); ok {
				told[r.id] = r
			}
		})
		switch {
		case errors.Is(err, unix.EAGAIN):
			return told, nil
		case errors.Is(err, unix.ENOBUFS): // what is lost is missed by the caller
		case err != nil:
			return told, err
		}
	}
}
