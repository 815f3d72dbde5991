package encap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// MaxDatagram is the length of the longest datagram that is taken, in octets;
	// what is longer is reported as truncated.
	MaxDatagram = 16 << 10
	// maxBundle is the longest that a system call gives for one message: a
	// datagram, or with UDP_GRO several of one length, the last may be shorter.
	maxBundle = 65535
	// maxSegments of a bundle (UDP_GRO_CNT_MAX in the kernel is 64).
	maxSegments = 64
	// stride between buffers: one that is no power of two, so that the beginnings
	// of all buffers don't share a few lines of each cache.
	stride = maxBundle + 1 + 5*64
	// datagramsAtOnce is how many one Receive should give; it takes fewer messages
	// after bundles have given more.
	datagramsAtOnce = 256
)

// name has room for a socket address of either family; the port stands at the
// same place in both.
type name = unix.RawSockaddrInet6

// control has room for the two control messages that are used, each a header
// and at most an int, aligned: the TOS octet or traffic class, and the length of
// a segment.
type control struct {
	first  unix.Cmsghdr
	data   [8]byte
	second unix.Cmsghdr
	more   [8]byte
}

const (
	controlLen    = int(unsafe.Sizeof(control{}))
	oneControlLen = controlLen / 2
)

// Receiver takes batches of datagrams from sockets. It owns their buffers: what
// [Receiver.Datagram] returns is valid until the next Receive, and the caller
// may change it in place.
type Receiver struct {
	headers   []unix.Mmsghdr
	vectors   []unix.Iovec
	names     []name
	controls  []control
	buffers   []byte
	datagrams []place
	// ask is how many messages the next Receive asks for.
	ask int
	// of is the message whose addresses were read last.
	of     int32
	remote netip.AddrPort
	tos    uint8
}

// place of a datagram in a message's buffer.
type place struct {
	message, from, to int32
	truncated         bool
}

// NewReceiver returns a receiver of at most batch messages at once.
func NewReceiver(batch int) *Receiver {
	r := &Receiver{
		headers:   make([]unix.Mmsghdr, batch),
		vectors:   make([]unix.Iovec, batch),
		names:     make([]name, batch),
		controls:  make([]control, batch),
		buffers:   make([]byte, batch*stride),
		datagrams: make([]place, 0, batch*maxSegments),
		ask:       batch,
	}
	for i := range r.headers {
		r.vectors[i].Base = &r.buffers[i*stride]
		r.vectors[i].SetLen(maxBundle)
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
	r.datagrams = r.datagrams[:0]
	r.of = -1
	for i := range r.headers[:r.ask] {
		h := &r.headers[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(name{}))
		h.SetControllen(controlLen)
		h.Flags = 0
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&r.headers[0])), uintptr(r.ask), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0
	}
	for i := range int32(n) {
		r.cut(i)
	}
	switch {
	case len(r.datagrams) > datagramsAtOnce:
		r.ask = max(int(n)*datagramsAtOnce/len(r.datagrams), 1)
	case int(n) == r.ask && len(r.datagrams) <= datagramsAtOnce/2:
		r.ask = min(2*r.ask, len(r.headers))
	}
	return len(r.datagrams)
}

// cut notes the datagrams of message i.
func (r *Receiver) cut(i int32) {
	h := &r.headers[i]
	length := int32(h.Len)
	size := int32(r.controls[i].segment(int(h.Hdr.Controllen)))
	if size <= 0 || size >= length || length > size*maxSegments {
		size = length
	}
	truncated := h.Hdr.Flags&unix.MSG_TRUNC != 0
	for from := int32(0); ; {
		to := min(from+size, length)
		r.datagrams = append(r.datagrams, place{message: i, from: from, to: to, truncated: truncated || to-from > MaxDatagram})
		if from = to; from == length {
			return
		}
	}
}

// Datagram is one that was received: its payload, where it came from, and the
// TOS octet or traffic class of its IP header. Of one that is too long there are
// MaxDatagram octets.
type Datagram struct {
	Payload   []byte
	Remote    netip.AddrPort
	TOS       uint8
	Truncated bool
}

// Datagram returns number i of the last batch.
func (r *Receiver) Datagram(i int) Datagram {
	p := &r.datagrams[i]
	if r.of != p.message {
		r.of = p.message
		r.remote = addrPort(&r.names[p.message])
		r.tos = r.controls[p.message].tos(int(r.headers[p.message].Hdr.Controllen))
	}
	return Datagram{Payload: r.Payload(i), Remote: r.remote, TOS: r.tos, Truncated: p.truncated}
}

// Payload is that of Datagram.
func (r *Receiver) Payload(i int) []byte {
	p := &r.datagrams[i]
	base := int(p.message) * stride
	from, to := base+int(p.from), base+int(min(p.to, p.from+MaxDatagram))
	return r.buffers[from:to:to]
}

// Memory is all buffers, in which the payload of datagram i begins at Offset(i).
func (r *Receiver) Memory() []byte { return r.buffers }

// Offset is where the payload of a datagram begins in Memory.
func (r *Receiver) Offset(i int) int {
	p := &r.datagrams[i]
	return int(p.message)*stride + int(p.from)
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
	for i, h := range []*unix.Cmsghdr{&c.first, &c.second} {
		if length < i*oneControlLen+unix.SizeofCmsghdr+1 {
			break
		}
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_TOS:
			return c.value(i)[0]
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_TCLASS && h.Len >= unix.SizeofCmsghdr+4:
			return uint8(binary.NativeEndian.Uint32(c.value(i)))
		}
	}
	return 0
}

// segment reads that of udp(7) UDP_GRO, an int: the length of all datagrams but
// the last; 0 where there is one datagram.
func (c *control) segment(length int) int {
	for i, h := range []*unix.Cmsghdr{&c.first, &c.second} {
		if length < i*oneControlLen+unix.SizeofCmsghdr+4 {
			break
		}
		if h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO {
			return int(int32(binary.NativeEndian.Uint32(c.value(i))))
		}
	}
	return 0
}

func (c *control) value(i int) []byte {
	if i == 0 {
		return c.data[:]
	}
	return c.more[:]
}
