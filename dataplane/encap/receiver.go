package encap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxDatagram is the length of the longest datagram that is taken, in octets;
// what is longer is truncated by the kernel and reported as such.
const MaxDatagram = 16 << 10

// name has room for a socket address of either family; the port stands at the
// same place in both.
type name = unix.RawSockaddrInet6

// control has room for the one control message that is used, the TOS octet or
// traffic class: a header and an int, aligned.
type control struct {
	header unix.Cmsghdr
	data   [8]byte
}

const controlLen = int(unsafe.Sizeof(control{}))

// Receiver takes batches of datagrams from sockets. It owns their buffers: what
// [Receiver.Datagram] returns is valid until the next Receive, and the caller
// may change it in place.
type Receiver struct {
	headers  []unix.Mmsghdr
	vectors  []unix.Iovec
	names    []name
	controls []control
	buffers  []byte
}

// NewReceiver returns a receiver of at most batch datagrams at once.
func NewReceiver(batch int) *Receiver {
	r := &Receiver{
		headers:  make([]unix.Mmsghdr, batch),
		vectors:  make([]unix.Iovec, batch),
		names:    make([]name, batch),
		controls: make([]control, batch),
		buffers:  make([]byte, batch*MaxDatagram),
	}
	for i := range r.headers {
		r.vectors[i].Base = &r.buffers[i*MaxDatagram]
		r.vectors[i].SetLen(MaxDatagram)
		h := &r.headers[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&r.names[i]))
		h.Iov = &r.vectors[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
	return r
}

// Receive takes what waits at s, up to one batch, and returns the number of
// datagrams, 0 if there are none. Errors that the kernel reports here concern
// something sent earlier (udp(7)) and are passed over.
func (r *Receiver) Receive(s *Socket) int {
	for i := range r.headers {
		h := &r.headers[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(name{}))
		h.SetControllen(controlLen)
		h.Flags = 0
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&r.headers[0])), uintptr(len(r.headers)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// Datagram is one that was received: its payload, where it came from, and the
// TOS octet or traffic class of its IP header.
type Datagram struct {
	Payload   []byte
	Remote    netip.AddrPort
	TOS       uint8
	Truncated bool
}

// Datagram returns number i of the last batch.
func (r *Receiver) Datagram(i int) Datagram {
	h := &r.headers[i]
	return Datagram{
		Payload:   r.buffers[i*MaxDatagram : i*MaxDatagram+int(h.Len) : (i+1)*MaxDatagram],
		Remote:    addrPort(&r.names[i]),
		TOS:       r.controls[i].tos(int(h.Hdr.Controllen)),
		Truncated: h.Hdr.Flags&unix.MSG_TRUNC != 0,
	}
}

func addrPort(n *name) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&n.Port))[:])
	if n.Family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(n)).Addr), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom16(n.Addr), port)
}

// tos reads the control message of ip(7) IP_RECVTOS, one octet, or of ipv6(7)
// IPV6_RECVTCLASS, an int in host order; length is what the kernel filled.
func (c *control) tos(length int) uint8 {
	if length < unix.SizeofCmsghdr+1 {
		return 0
	}
	switch {
	case c.header.Level == unix.IPPROTO_IP && c.header.Type == unix.IP_TOS:
		return c.data[0]
	case c.header.Level == unix.IPPROTO_IPV6 && c.header.Type == unix.IPV6_TCLASS && length >= unix.SizeofCmsghdr+4:
		return uint8(binary.NativeEndian.Uint32(c.data[:]))
	}
	return 0
}
