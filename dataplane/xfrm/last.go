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
	listener, err := dial(groupSA)
	if err != nil {
		return nil, err
	}
	defer listener.close()
	limit := unix.NsecToTimeval(1000) // what there is to read is there already
	if err := unix.SetsockoptTimeval(listener.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return nil, fmt.Errorf("XFRM socket: %w", err)
	}
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
		told, err := listener.deleted()
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

// deleted reads what the kernel has told of removed SAs so far.
func (c *conn) deleted() (map[stateID]report, error) {
	told := make(map[stateID]report)
	for {
		err := c.receive(func(m message) {
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
