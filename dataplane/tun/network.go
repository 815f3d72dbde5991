package tun

import "encoding/binary"

const (
	ipv4HeaderLen = 20 // without options
	ipv6HeaderLen = 40
)

// Extension headers that the kernel segments behind (RFC 8200 section 4).
const (
	extHopByHop    = 0
	extRouting     = 43
	extDestination = 60
)

// networkHeader returns the length of the IP header (of IPv6 without extension
// headers) if the header is whole and its length is exactly the packet's.
func networkHeader(packet []byte) (n int, ok bool) {
	if len(packet) < ipv4HeaderLen {
		return 0, false
	}
	switch packet[0] >> 4 {
	case 4:
		n = int(packet[0]&0xf) * 4
		total := int(binary.BigEndian.Uint16(packet[2:]))
		return n, n >= ipv4HeaderLen && n <= total && total == len(packet)
	case 6:
		if len(packet) < ipv6HeaderLen {
			return 0, false
		}
		payload := int(binary.BigEndian.Uint16(packet[4:]))
		return ipv6HeaderLen, ipv6HeaderLen+payload == len(packet)
	default:
		return 0, false
	}
}

// transportIPv4 finds the transport header; a fragment has none that could be
// segmented.
func transportIPv4(packet []byte) (proto byte, offset int, ok bool) {
	const moreFragmentsAndOffset = 0x3fff
	if binary.BigEndian.Uint16(packet[6:])&moreFragmentsAndOffset != 0 {
		return 0, 0, false
	}
	return packet[9], int(packet[0]&0xf) * 4, true
}

// transportIPv6 finds the transport header behind the extension headers that
// may stand in a super-packet. A routing header must have been used up:
// otherwise the pseudo-header has another destination (RFC 8200 section 8.1).
func transportIPv6(packet []byte) (proto byte, offset int, ok bool) {
	proto, offset = packet[6], ipv6HeaderLen
	for {
		switch proto {
		case extHopByHop, extRouting, extDestination:
		default:
			return proto, offset, true
		}
		if offset+8 > len(packet) {
			return 0, 0, false
		}
		ext := packet[offset:]
		if proto == extRouting && ext[3] != 0 {
			return 0, 0, false
		}
		proto = ext[0]
		offset += 8 + int(ext[1])*8
		if offset > len(packet) {
			return 0, 0, false
		}
	}
}
