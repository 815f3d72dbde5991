package encap

import (
	"errors"
	"fmt"
	"net/netip"
)

// Pair is the sockets of one local address: that for IKE, usually port 500, and
// that for UDP encapsulation, usually port 4500. IKE is nil where another pair
// has it.
type Pair struct{ IKE, Encap *Socket }

// Close closes both.
func (p Pair) Close() error {
	var errs []error
	for _, s := range []*Socket{p.IKE, p.Encap} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// Pairs are few, so they are looked through.
type Pairs []Pair

// Close closes all.
func (ps Pairs) Close() error {
	var errs []error
	for _, p := range ps {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

var nonESPMarker [MarkerLen]byte

// SendIKE sends an IKE message from where it has to leave: marker says that it
// is the port for UDP encapsulation, where a non-ESP marker stands before it. It
// may be called from any goroutine. Errors: ErrForeign, ErrAddress, and those of
// sendmsg(2).
func (ps Pairs) SendIKE(message []byte, local, remote netip.AddrPort, marker bool) error {
	for _, p := range ps {
		switch {
		case marker && p.Encap.Local() == local:
			return p.Encap.Send([][]byte{nonESPMarker[:], message}, remote)
		case !marker && p.IKE.Local() == local:
			return p.IKE.Send([][]byte{message}, remote)
		}
	}
	return fmt.Errorf("%w: IKE message from %v", ErrForeign, local)
}
