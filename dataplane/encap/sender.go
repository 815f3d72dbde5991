package encap

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxGSO is how many octets one message with UDP_SEGMENT may have: what fits
	// behind the headers of either family.
	maxGSO = 65535 - 40 - 8
	// udpSegment is UDP_SEGMENT of udp(7).
	udpSegment = unix.UDP_SEGMENT
)

// Sender collects datagrams for one socket and sends them together. It owns the
// buffers; packets are built in them, so nothing is copied.
//
// Datagrams of one length and TOS octet that follow each other to one address
// become one message, which the network card or the last moment in the kernel
// cuts (udp(7), UDP_SEGMENT); the last of them may be shorter.
type Sender struct {
	socket   *Socket
	vectors  []unix.Iovec // one for each buffer
	headers  []unix.Mmsghdr
	names    []name
	controls []control
	messages []message
	buffers  []byte
	size     int
	queued   int // buffers
	used     int // messages
	gso      bool

	remote netip.AddrPort // of the last message
}

// message is a run of buffers.
type message struct {
	first, count int
	segment      int // length of all but the last
	length       int
	open         bool // another datagram could follow
	tos          uint8
}

// NewSender returns a sender of batches of at most batch datagrams of up to
// size octets.
func NewSender(s *Socket, batch, size int) *Sender {
	d := &Sender{
		socket:   s,
		vectors:  make([]unix.Iovec, batch),
		headers:  make([]unix.Mmsghdr, batch),
		names:    make([]name, batch),
		controls: make([]control, batch),
		messages: make([]message, batch),
		buffers:  make([]byte, batch*size),
		size:     size,
		// Linux 4.18 and above.
		gso: unix.SetsockoptInt(s.fd, unix.IPPROTO_UDP, udpSegment, 0) == nil,
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
		c.first.Level, c.first.Type = level, kind
		c.first.SetLen(unix.CmsgLen(4))
		c.second.Level, c.second.Type = unix.IPPROTO_UDP, udpSegment
		c.second.SetLen(unix.CmsgLen(2))
		h := &d.headers[i].Hdr
		h.Name = (*byte)(unsafe.Pointer(&d.names[i]))
		h.Namelen = nameLen
		h.Control = (*byte)(unsafe.Pointer(c))
	}
	return d
}

// Full says that Flush must come before the next Buffer.
func (d *Sender) Full() bool { return d.queued == len(d.vectors) }

// Buffer is where the next datagram is built. Without a Push it is given again.
func (d *Sender) Buffer() []byte {
	return d.buffers[d.queued*d.size : (d.queued+1)*d.size : (d.queued+1)*d.size]
}

// Memory is all buffers, in which Buffer begins at Offset. What was pushed stays where
// it is, and may be changed, until Flush.
func (d *Sender) Memory() []byte { return d.buffers }

// Offset is where Buffer begins in Memory.
func (d *Sender) Offset() int { return d.queued * d.size }

// Push queues the first n octets of Buffer for remote, an address that
// [Socket.Reaches]; tos is the TOS octet or traffic class of the IP header.
func (d *Sender) Push(n int, remote netip.AddrPort, tos uint8) {
	d.vectors[d.queued].SetLen(n)
	d.queued++
	if d.used > 0 {
		if m := &d.messages[d.used-1]; m.open && n <= m.segment && m.count < maxSegments && m.length+n <= maxGSO && tos == m.tos && remote == d.remote {
			m.count++
			m.length += n
			m.open = n == m.segment
			return
		}
	}
	d.messages[d.used] = message{first: d.queued - 1, count: 1, segment: n, length: n, open: d.gso && n > 0, tos: tos}
	d.address(&d.names[d.used], remote)
	d.remote = remote
	d.used++
}

func (d *Sender) address(to *name, remote netip.AddrPort) {
	if remote.Addr().Is4() {
		to4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(to))
		to4.Family = unix.AF_INET
		to4.Addr = remote.Addr().As4()
	} else {
		to.Family = unix.AF_INET6
		to.Addr = remote.Addr().As16()
	}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&to.Port))[:], remote.Port())
}

// Flush sends what was queued and returns how many datagrams the network
// refused. When the socket's buffer is full the rest of the batch is given up:
// waiting would hold up the other direction.
func (d *Sender) Flush() (refused int) {
	for i := range d.messages[:d.used] {
		d.prepare(i, d.messages[i].first, d.messages[i].count)
	}
	for next := 0; next < d.used; {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(d.socket.fd), uintptr(unsafe.Pointer(&d.headers[next])), uintptr(d.used-next), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			next += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			for _, m := range d.messages[next:d.used] {
				refused += m.count
			}
			next = d.used
		case unix.EINVAL, unix.EMSGSIZE, unix.EIO:
			// Nothing of it was sent. Without checksum offload the interface has no
			// UDP_SEGMENT (EIO), and segments that need fragments can't be cut.
			if d.messages[next].count > 1 {
				d.gso = d.gso && errno != unix.EIO
				refused += d.single(next)
			} else {
				refused++
			}
			next++
		default: // this one only, for instance no route to it
			refused += d.messages[next].count
			next++
		}
	}
	d.queued, d.used = 0, 0
	return refused
}

// prepare makes header i one for count buffers.
func (d *Sender) prepare(i, first, count int) {
	m, h, c := &d.messages[i], &d.headers[i].Hdr, &d.controls[i]
	h.Iov = &d.vectors[first]
	h.SetIovlen(count)
	binary.NativeEndian.PutUint32(c.data[:], uint32(m.tos))
	h.SetControllen(oneControlLen)
	if count > 1 {
		binary.NativeEndian.PutUint16(c.more[:], uint16(m.segment))
		h.SetControllen(controlLen)
	}
}

// single sends the datagrams of message i one by one.
func (d *Sender) single(i int) (refused int) {
	m := &d.messages[i]
	for at := m.first; at < m.first+m.count; {
		d.prepare(i, at, 1)
		_, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(d.socket.fd), uintptr(unsafe.Pointer(&d.headers[i])), 1, unix.MSG_DONTWAIT, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			refused++
		}
		at++
	}
	return refused
}
