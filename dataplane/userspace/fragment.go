package userspace

import (
	"encoding/binary"

	"github.com/roamgate/roamgate/dataplane/checksum"
)

// fragmenter cuts an IPv4 packet that may be fragmented into packets of at most
// mtu octets (RFC 791 section 3.2), before they are sealed (RFC 4301 section
// 7). It changes nothing in the packet. The zero value has nothing to give.
type fragmenter struct {
	packet []byte // by its IP header's length
	header int
	mtu    int
	at     int // offset in packet of the payload that comes next
}

// reset takes packet b with at least one octet of payload; false where mtu
// leaves no room for any.
func (f *fragmenter) reset(b []byte, mtu int) bool {
	header := int(b[0]&0x0F) * 4
	*f = fragmenter{packet: b, header: header, mtu: mtu, at: header}
	return mtu >= header+8
}

// next writes the next fragment to dst, which has mtu octets at least, and
// returns its length, 0 when there are no more.
func (f *fragmenter) next(dst []byte) int {
	if f.at >= len(f.packet) {
		return 0
	}
	header := f.header
	if f.at == header {
		copy(dst, f.packet[:header])
	} else {
		header = f.laterHeader(dst)
	}
	room := (f.mtu - header) &^ 7
	end, last := f.at+room, false
	if end >= len(f.packet) || f.mtu-header >= len(f.packet)-f.at {
		end, last = len(f.packet), true
	}
	n := header + copy(dst[header:], f.packet[f.at:end])

	before := binary.BigEndian.Uint16(f.packet[6:])
	flags, offset := before&0xE000, before&0x1FFF
	if !last {
		flags |= 0x2000 // more fragments
	}
	binary.BigEndian.PutUint16(dst[6:], flags|(offset+uint16((f.at-f.header)/8)))
	binary.BigEndian.PutUint16(dst[2:], uint16(n))
	clear(dst[10:12])
	checksum.Put(dst[10:12], checksum.Sum(dst[:header], 0))
	f.at = end
	return n
}

// laterHeader writes the header of a fragment behind the first, with those
// options only that are to be copied, and returns its length.
func (f *fragmenter) laterHeader(dst []byte) int {
	copy(dst, f.packet[:ipv4HeaderLen])
	n := ipv4HeaderLen
	options := f.packet[ipv4HeaderLen:f.header]
	for len(options) > 1 && options[0] != optionEnd {
		length := int(options[1])
		if options[0] == optionNone {
			length = 1
		}
		if length == 0 || length > len(options) {
			break
		}
		if options[0]&0x80 != 0 && length >= 2 {
			n += copy(dst[n:], options[:length])
		}
		options = options[length:]
	}
	for ; n%4 != 0; n++ {
		dst[n] = optionEnd
	}
	dst[0] = 0x40 | byte(n/4)
	return n
}
