package encap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sender collects datagrams for one socket and sends them together. It owns the
// buffers; packets are built in them, so nothing is copied.
type Sender struct {
	socket   *Socket
	headers  []unix.Mmsghdr
	vectors  []unix.Iovec
	names    []name
	controls []control
	buffers  []byte
	size     int
	queued   int
}

// NewSender returns a sender of batches of at most batch datagrams of up to
// size octets.
func NewSender(s *Socket, batch, size int) *Sender {
	d := &Sender{
		socket:   s,
		headers:  make([]unix.Mmsghdr, batch),
		vectors:  make([]unix.Iovec, batch),
		names:    make([]name, batch),
		controls: make([]control, batch),
		buffers:  make([]byte, batch*size),
		size:     size,
	}
	nameLen := uint32(unix.SizeofSockaddrInet4)
	level, kind := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
	if s.local.Addr().Is6() {
		nameLen = unix.SizeofSockaddrInet6
		level, kind = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
	}
	for i := range d.headers {
		d.vectors[i].Base = &d.buffers[i*size]
		c := &d.controls[i]
		c.header.Level, c.header.Type = level, kind
		c.header.SetLen(unix.CmsgLen(4))
		h := &d.headers[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&d.names[i]))
		h.Namelen = nameLen
		h.Iov = &d.vectors[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(c))
		h.SetControllen(unix.CmsgSpace(4))
	}
	return d
}

// Full says that Flush must come before the next Buffer.
func (d *Sender) Full() bool { return d.queued == len(d.headers) }

// Buffer is where the next datagram is built. Without a Push it is given again.
func (d *Sender) Buffer() []byte {
	return d.buffers[d.queued*d.size : (d.queued+1)*d.size : (d.queued+1)*d.size]
}

// Push queues the first n octets of Buffer for remote, an address that
// [Socket.Reaches]; tos is the TOS octet or traffic class of the IP header.
func (d *Sender) Push(n int, remote netip.AddrPort, tos uint8) {
	i := d.queued
	to := &d.names[i]
	if remote.Addr().Is4() {
		to4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(to))
		to4.Family = unix.AF_INET
		to4.Addr = remote.Addr().As4()
	} else {
		to.Family = unix.AF_INET6
		to.Addr = remote.Addr().As16()
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], remote.Port())
	d.vectors[i].SetLen(n)
	binary.NativeEndian.PutUint32(d.controls[i].data[:], uint32(tos))
	d.queued++
}

// Flush sends what was queued and returns how many datagrams the network
// refused. When the socket's buffer is full the rest of the batch is given up:
// waiting would hold up the other direction.
func (d *Sender) Flush() (refused int) {
	for next := 0; next < d.queued; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(d.socket.fd), uintptr(unsafe.Pointer(&d.headers[next])), uintptr(d.queued-next), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			next += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			refused += d.queued - next
			next = d.queued
		default: // this one only, for instance no route to it
			refused++
			next++
		}
	}
	d.queued = 0
	return refused
}
