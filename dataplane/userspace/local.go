package userspace

import (
	"errors"
	"fmt"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// local is one local address: its sockets, and what the loop is about to send
// from the one for UDP encapsulation. Only the loop touches sender.
type local struct {
	ike, encap *encap.Socket
	sender     *encap.Sender
}

// locals are few, so they are looked through.
type locals []*local

// listen binds the sockets of all addresses, or with an error none.
func listen(addrs []Local, device string, sendBuffer int) (_ locals, err error) {
	var ls locals
	defer func() {
		if err != nil {
			ls.close()
		}
	}()
	for _, a := range addrs {
		at := new(local)
		ls = append(ls, at)
		if at.ike, err = encap.Listen(a.IKE, device); err != nil {
			return nil, err
		}
		if at.encap, err = encap.Listen(a.Encap, device); err != nil {
			return nil, err
		}
		at.sender = encap.NewSender(at.encap, sendBatch, sendBuffer)
	}
	return ls, nil
}

// forPath is the address that path starts from. Errors: dataplane.ErrInvalid,
// wrapped.
func (ls locals) forPath(path dataplane.Path) (*local, error) {
	if err := path.Validate(); err != nil {
		return nil, err
	}
	if path.Encapsulation != dataplane.EncapsulationUDP {
		return nil, fmt.Errorf("%w: ESP without UDP", dataplane.ErrInvalid)
	}
	for _, at := range ls {
		if at.encap.Local() == path.Local {
			return at, nil
		}
	}
	return nil, fmt.Errorf("%w: path from %v, which is not ours", dataplane.ErrInvalid, path.Local)
}

// forMessage is the socket that an IKE message leaves by, nil if there is none.
func (ls locals) forMessage(d *dataplane.Datagram) *encap.Socket {
	for _, at := range ls {
		s := at.ike
		if d.Marker {
			s = at.encap
		}
		if s.Local() == d.Local {
			return s
		}
	}
	return nil
}

func (ls locals) close() error {
	var errs []error
	for _, at := range ls {
		for _, s := range []*encap.Socket{at.ike, at.encap} {
			if s != nil {
				errs = append(errs, s.Close())
			}
		}
	}
	return errors.Join(errs...)
}
