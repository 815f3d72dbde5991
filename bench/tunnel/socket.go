package tunnel

import (
	"bytes"
	"net"
	"net/netip"
	"os"

	"github.com/roamgate/roamgate/bench/device"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/userspace"
)

// socket shows a device the IKE messages of a packet path as if they came by a
// socket of its own: those of the port for ESP in UDP behind a non-ESP marker.
type socket struct {
	transport dataplane.IKETransport
	at        userspace.Local
	batch     [1]dataplane.Datagram
}

var _ device.Socket = (*socket)(nil)

func newSocket(b *userspace.Backend) *socket {
	return &socket{transport: b.Transport(), at: b.Locals()[0]}
}

var marker [4]byte

func (s *socket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	d := &s.batch[0]
	if len(b) < len(marker) {
		return 0, netip.AddrPort{}, os.ErrInvalid
	}
	d.Data = b[len(marker):]
	if _, err := s.transport.Receive(s.batch[:]); err != nil {
		return 0, netip.AddrPort{}, net.ErrClosed
	}
	if !d.Marker {
		return copy(b, d.Data), d.Remote, nil
	}
	copy(b, marker[:])
	return len(marker) + len(d.Data), d.Remote, nil
}

func (s *socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	d := dataplane.Datagram{Data: b, Local: s.at.IKE, Remote: to}
	switch {
	case len(b) == 1: // a NAT keepalive, which the packet path has no way for
		return len(b), nil
	case len(b) >= len(marker) && bytes.Equal(b[:len(marker)], marker[:]):
		d.Data, d.Local, d.Marker = b[len(marker):], s.at.Encap, true
	}
	if _, err := s.transport.Send([]dataplane.Datagram{d}); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (s *socket) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(s.at.Encap) }

// Close leaves the packet path, whose sockets these are, to its owner.
func (s *socket) Close() error { return nil }
