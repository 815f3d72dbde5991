package userspace

import (
	"fmt"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// local is one local address: its sockets, and what the loop is about to send
// from the one for UDP encapsulation. Only the loop touches sender.
type local struct {
	number     uint8
	encap.Pair // IKE: of the first loop only
	sender     *encap.Sender
	// lost at each socket, as the kernel said last.
	lost [2]uint32
}

func (at *local) sockets() []*encap.Socket {
	if at.IKE == nil {
		return []*encap.Socket{at.Encap}
	}
	return []*encap.Socket{at.Encap, at.IKE}
}

// newlyLost datagrams at the sockets, since it was asked last.
func (at *local) newlyLost() (sum uint64) {
	for i, s := range at.sockets() {
		now, err := s.Lost()
		if err != nil {
			continue // of an old kernel: nobody counts them
		}
		sum += uint64(now - at.lost[i])
		at.lost[i] = now
	}
	return sum
}

// locals are few, so they are looked through.
type locals []*local

// listen binds the sockets of all addresses for each loop, or with an error none.
func listen(addrs []Local, loops int, device string, sendBuffer int) (_ []locals, err error) {
	all := make([]locals, loops)
	defer func() {
		if err != nil {
			for _, ls := range all {
				ls.close()
			}
		}
	}()
	for i, a := range addrs {
		ike, err := encap.Listen(a.IKE, device)
		if err != nil {
			return nil, err
		}
		first := &local{number: uint8(i), Pair: encap.Pair{IKE: ike}}
		all[0] = append(all[0], first)
		group, err := encap.ListenGroup(a.Encap, device, loops)
		if err != nil {
			return nil, err
		}
		for n, s := range group {
			at := first
			if n > 0 {
				at = &local{number: uint8(i)}
				all[n] = append(all[n], at)
			}
			at.Encap = s
			at.sender = encap.NewSender(s, sendBatch, sendBuffer)
		}
	}
	return all, nil
}

// forPath is the number of the address that path starts from. Errors:
// dataplane.ErrInvalid, wrapped.
func (ls locals) forPath(path dataplane.Path) (int, error) {
	if err := path.Validate(); err != nil {
		return 0, err
	}
	if path.Encapsulation != dataplane.EncapsulationUDP {
		return 0, fmt.Errorf("%w: ESP without UDP", dataplane.ErrInvalid)
	}
	for i, at := range ls {
		if at.Encap.Local() == path.Local {
			return i, nil
		}
	}
	return 0, fmt.Errorf("%w: path from %v, which is not ours", dataplane.ErrInvalid, path.Local)
}

// pairs of sockets, without senders.
func (ls locals) pairs() encap.Pairs {
	pairs := make(encap.Pairs, len(ls))
	for i, at := range ls {
		pairs[i] = at.Pair
	}
	return pairs
}

func (ls locals) close() error { return ls.pairs().Close() }
