package userspace

import (
	"encoding/binary"
	"net/netip"
)

// Numbers of IANA's "Protocol Numbers".
const (
	protoHopByHop    = 0
	protoICMP        = 1
	protoIPv4        = 4
	protoTCP         = 6
	protoUDP         = 17
	protoDCCP        = 33
	protoIPv6        = 41
	protoRouting     = 43
	protoFragment    = 44
	protoICMPv6      = 58
	protoNone        = 59
	protoDestination = 60
	protoSCTP        = 132
	protoUDPLite     = 136
)

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	udpHeaderLen  = 8
	tcpHeaderLen  = 20

	// maxExtensions is how many IPv6 extension headers are followed.
	maxExtensions = 8
)

// packet is what the data path knows of an inner IP packet. It refers to no
// memory of the packet.
type packet struct {
	src, dst netip.Addr
	// length by the IP header in octets; what lies behind it is padding.
	length int
	// transport is the offset of the upper-layer header; 0 in a fragment that
	// is not the first.
	transport int
	// srcPort and dstPort are type and code for ICMP, the same in both.
	srcPort, dstPort uint16
	// protocol of the upper layer; IPv6 extension headers are skipped (RFC 4301
	// section 4.4.1.1).
	protocol uint8
	// hasProtocol is false where the upper layer is out of sight: in a later
	// fragment whose first header is an extension header.
	hasProtocol bool
	// hasPorts is false for protocols without ports, for later fragments, and
	// where the first one is too short for them.
	hasPorts bool
	// tos is the TOS octet or the traffic class.
	tos uint8
	v6  bool
	// dontFragment: routers may not fragment, true for IPv6.
	dontFragment bool
}

// parse reads the headers of an inner packet; false where they contradict its
// length or each other.
func parse(b []byte) (packet, bool) {
	if len(b) == 0 {
		return packet{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return parseIPv4(b)
	case 6:
		return parseIPv6(b)
	}
	return packet{}, false
}

// parseIPv4 follows RFC 791 section 3.1.
func parseIPv4(b []byte) (packet, bool) {
	if len(b) < ipv4HeaderLen {
		return packet{}, false
	}
	header := int(b[0]&0x0F) * 4
	p := packet{
		src:          netip.AddrFrom4([4]byte(b[12:16])),
		dst:          netip.AddrFrom4([4]byte(b[16:20])),
		length:       int(binary.BigEndian.Uint16(b[2:])),
		protocol:     b[9],
		hasProtocol:  true,
		tos:          b[1],
		dontFragment: b[6]&0x40 != 0,
	}
	if header < ipv4HeaderLen || p.length < header || p.length > len(b) {
		return packet{}, false
	}
	if offset := binary.BigEndian.Uint16(b[6:]) & 0x1FFF; offset == 0 {
		p.transport = header
		p.readPorts(b[:p.length])
	}
	return p, true
}

// parseIPv6 follows RFC 8200 sections 3 and 4. Jumbograms are malformed here.
func parseIPv6(b []byte) (packet, bool) {
	if len(b) < ipv6HeaderLen {
		return packet{}, false
	}
	p := packet{
		src:          netip.AddrFrom16([16]byte(b[8:24])),
		dst:          netip.AddrFrom16([16]byte(b[24:40])),
		length:       ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:])),
		hasProtocol:  true,
		tos:          b[0]<<4 | b[1]>>4,
		v6:           true,
		dontFragment: true,
	}
	if p.length > len(b) {
		return packet{}, false
	}
	b = b[:p.length]
	next, at := b[6], ipv6HeaderLen
	for range maxExtensions {
		if !isExtension(next) {
			p.protocol, p.transport = next, at
			p.readPorts(b)
			return p, true
		}
		if at+8 > len(b) {
			return packet{}, false
		}
		kind := next
		next = b[at]
		if kind != protoFragment {
			at += 8 * (1 + int(b[at+1]))
			if at > len(b) {
				return packet{}, false
			}
			continue
		}
		if offset := binary.BigEndian.Uint16(b[at+2:]) >> 3; offset != 0 {
			p.protocol, p.hasProtocol = next, !isExtension(next)
			return p, true
		}
		at += 8
	}
	return packet{}, false
}

// isExtension lists the headers that RFC 4301 section 4.4.1.1 skips; AH and
// ESP are upper layers there.
func isExtension(header byte) bool {
	switch header {
	case protoHopByHop, protoRouting, protoFragment, protoDestination:
		return true
	}
	return false
}

func (p *packet) readPorts(b []byte) {
	upper := b[p.transport:]
	switch p.protocol {
	case protoTCP, protoUDP, protoSCTP, protoUDPLite, protoDCCP:
		if len(upper) >= 4 {
			p.srcPort = binary.BigEndian.Uint16(upper)
			p.dstPort = binary.BigEndian.Uint16(upper[2:])
			p.hasPorts = true
		}
	case protoICMP, protoICMPv6:
		if len(upper) >= 2 {
			p.srcPort = binary.BigEndian.Uint16(upper)
			p.dstPort = p.srcPort
			p.hasPorts = true
		}
	}
}
