package dptest

import (
	"encoding/binary"
	"net/netip"
)

// IP is the header of a test packet, of the family of its addresses.
type IP struct {
	Src, Dst      netip.Addr
	TOS           uint8
	DontFragment  bool // IPv4
	MoreFragments bool
	Offset        int // of a fragment, in octets
}

const (
	protoICMP     = 1
	protoTCP      = 6
	protoUDP      = 17
	protoFragment = 44
	protoICMPv6   = 58
)

// Packet is the IP packet with that header and upper layer, TTL 64.
func (h IP) Packet(protocol uint8, upper []byte) []byte {
	if h.Src.Is4() {
		return h.packet4(protocol, upper)
	}
	return h.packet6(protocol, upper)
}

func (h IP) packet4(protocol uint8, upper []byte) []byte {
	b := make([]byte, 20, 20+len(upper))
	b[0], b[1], b[8], b[9] = 0x45, h.TOS, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(upper)))
	fragment := uint16(h.Offset / 8)
	if h.DontFragment {
		fragment |= 0x4000
	}
	if h.MoreFragments {
		fragment |= 0x2000
	}
	binary.BigEndian.PutUint16(b[6:], fragment)
	src, dst := h.Src.As4(), h.Dst.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], Checksum(0, b))
	return append(b, upper...)
}

func (h IP) packet6(protocol uint8, upper []byte) []byte {
	if h.MoreFragments || h.Offset != 0 {
		fragment := []byte{protocol, 0, 0, 0, 0, 0, 0, 1}
		binary.BigEndian.PutUint16(fragment[2:], uint16(h.Offset))
		if h.MoreFragments {
			fragment[3] |= 1
		}
		protocol, upper = protoFragment, append(fragment, upper...)
	}
	b := make([]byte, 40, 40+len(upper))
	b[0], b[1] = 0x60|h.TOS>>4, h.TOS<<4
	binary.BigEndian.PutUint16(b[4:], uint16(len(upper)))
	b[6], b[7] = protocol, 64
	src, dst := h.Src.As16(), h.Dst.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return append(b, upper...)
}

// UDP is a packet with one UDP datagram.
func (h IP) UDP(srcPort, dstPort uint16, payload []byte) []byte {
	udp := make([]byte, 8, 8+len(payload))
	binary.BigEndian.PutUint16(udp, srcPort)
	binary.BigEndian.PutUint16(udp[2:], dstPort)
	binary.BigEndian.PutUint16(udp[4:], uint16(8+len(payload)))
	udp = append(udp, payload...)
	binary.BigEndian.PutUint16(udp[6:], h.upperChecksum(protoUDP, udp))
	return h.Packet(protoUDP, udp)
}

// SYN is a packet with a TCP SYN that has the MSS option, odd octets before it
// if wanted.
func (h IP) SYN(srcPort, dstPort, mss uint16, odd bool) []byte {
	tcp := make([]byte, 28)
	binary.BigEndian.PutUint16(tcp, srcPort)
	binary.BigEndian.PutUint16(tcp[2:], dstPort)
	tcp[12], tcp[13] = 7<<4, 0x02
	options := tcp[20:]
	if odd {
		options[0] = 1
		options = options[1:]
	}
	options[0], options[1] = 2, 4
	binary.BigEndian.PutUint16(options[2:], mss)
	binary.BigEndian.PutUint16(tcp[16:], h.upperChecksum(protoTCP, tcp))
	return h.Packet(protoTCP, tcp)
}

// ICMP is a packet with an ICMP or ICMPv6 message of that type and code.
func (h IP) ICMP(kind, code uint8, body []byte) []byte {
	icmp := append([]byte{kind, code, 0, 0, 0, 0, 0, 0}, body...)
	if h.Src.Is4() {
		binary.BigEndian.PutUint16(icmp[2:], Checksum(0, icmp))
		return h.Packet(protoICMP, icmp)
	}
	binary.BigEndian.PutUint16(icmp[2:], h.upperChecksum(protoICMPv6, icmp))
	return h.Packet(protoICMPv6, icmp)
}

// upperChecksum has the pseudo-header before it.
func (h IP) upperChecksum(protocol uint8, upper []byte) uint16 {
	pseudo := append(h.Src.AsSlice(), h.Dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(upper)))
	return Checksum(0, append(append(pseudo, 0, protocol), upper...))
}

// Checksum is the internet checksum (RFC 1071) of b with initial added; 0 over
// something that has a right checksum in it.
func Checksum(initial uint32, b []byte) uint16 {
	sum := initial
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xFFFF {
		sum = sum&0xFFFF + sum>>16
	}
	return ^uint16(sum)
}

// isICMPError says whether a packet is about another one.
func isICMPError(p []byte) bool {
	switch {
	case len(p) > 20 && p[0] == 0x45 && p[9] == protoICMP:
		kind := p[20]
		return kind == 3 || kind == 11 || kind == 12
	case len(p) > 40 && p[0]>>4 == 6 && p[6] == protoICMPv6:
		return p[40] < 128 // RFC 4443 section 2.1
	}
	return false
}
