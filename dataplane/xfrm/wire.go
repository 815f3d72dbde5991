package xfrm

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Everything is in host order but ports, SPIs and addresses, which are in
// network order.
var (
	native  = binary.NativeEndian
	network = binary.BigEndian
)

// batch is a run of netlink messages that are sent together.
type batch struct {
	buf    []byte
	starts []int // where each message begins
}

func (b *batch) len() int { return len(b.starts) }

// reset forgets the messages, and the keys in them.
func (b *batch) reset() {
	clear(b.buf)
	b.buf, b.starts = b.buf[:0], b.starts[:0]
}

// begin starts a message; end is to be called after its body was appended. The
// sequence number is written when it is sent.
func (b *batch) begin(kind uint16, flags uint16) {
	b.starts = append(b.starts, len(b.buf))
	b.grow(unix.SizeofNlMsghdr)
	h := b.buf[len(b.buf):][:unix.SizeofNlMsghdr]
	clear(h)
	native.PutUint16(h[4:], kind)
	native.PutUint16(h[6:], flags|unix.NLM_F_REQUEST)
	b.buf = b.buf[:len(b.buf)+unix.SizeofNlMsghdr]
}

func (b *batch) end() {
	h := b.buf[b.starts[len(b.starts)-1]:]
	native.PutUint32(h, uint32(len(h)))
}

// grow makes room for n octets without leaving a copy of what was there.
func (b *batch) grow(n int) {
	if cap(b.buf)-len(b.buf) >= n {
		return
	}
	larger := make([]byte, len(b.buf), max(2*cap(b.buf), len(b.buf)+n, 8192))
	copy(larger, b.buf)
	clear(b.buf)
	b.buf = larger
}

// room appends n zero octets and returns them.
func (b *batch) room(n int) []byte {
	b.grow(n)
	at := len(b.buf)
	b.buf = b.buf[:at+n]
	clear(b.buf[at:])
	return b.buf[at:]
}

// attr appends an attribute of n octets and returns its body. All lengths but
// those of keys are multiples of four; the padding isn't part of the length.
func (b *batch) attr(kind uint16, n int) []byte {
	body := b.room((unix.SizeofNlAttr + n + 3) &^ 3)
	native.PutUint16(body, uint16(unix.SizeofNlAttr+n))
	native.PutUint16(body[2:], kind)
	return body[unix.SizeofNlAttr:][:n]
}

func (b *batch) attr32(kind uint16, value uint32) { native.PutUint32(b.attr(kind, 4), value) }

// putAddr writes an xfrm_address_t, 16 octets; the zero Addr is any.
func putAddr(to []byte, a netip.Addr) {
	switch {
	case a.Is4():
		v := a.As4()
		copy(to, v[:])
	case a.Is6():
		v := a.As16()
		copy(to, v[:])
	}
}

func family(a netip.Addr) uint16 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// message is one that was received; body is valid until the next receive.
type message struct {
	kind, flags uint16
	seq         uint32
	body        []byte
}

// nextMessage takes the first message off; false at the end, or where what is
// left can't be one.
func nextMessage(data []byte) (m message, rest []byte, ok bool) {
	if len(data) < unix.SizeofNlMsghdr {
		return m, nil, false
	}
	n := int(native.Uint32(data))
	if n < unix.SizeofNlMsghdr || n > len(data) {
		return m, nil, false
	}
	m = message{kind: native.Uint16(data[4:]), flags: native.Uint16(data[6:]), seq: native.Uint32(data[8:]), body: data[unix.SizeofNlMsghdr:n]}
	return m, data[min((n+3)&^3, len(data)):], true
}

// attributes yields kind and body of each attribute until one contradicts its
// length.
func attributes(data []byte) func(yield func(uint16, []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(data) >= unix.SizeofNlAttr {
			n := int(native.Uint16(data))
			if n < unix.SizeofNlAttr || n > len(data) {
				return
			}
			kind := native.Uint16(data[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, data[unix.SizeofNlAttr:n]) {
				return
			}
			data = data[min((n+3)&^3, len(data)):]
		}
	}
}

// getAddr reads an xfrm_address_t of that family.
func getAddr(from []byte, family uint16) netip.Addr {
	if family == unix.AF_INET {
		return netip.AddrFrom4([4]byte(from[:4]))
	}
	return netip.AddrFrom16([16]byte(from[:16]))
}
