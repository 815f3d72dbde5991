package tun

import (
	"encoding/binary"

	"github.com/roamgate/roamgate/dataplane/checksum"
)

const (
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpURG = 0x20
	tcpECE = 0x40

	dontFragment = 0x40
)

// classify finds the flow of a packet.
func (c *Coalescer) classify(packet []byte) flow {
	n, ok := networkHeader(packet)
	if !ok {
		return flow{}
	}
	f := flow{transport: n}
	var hash uint64
	if packet[0]>>4 == 4 {
		// Options and fragments: none. A reserved flag is none of our business.
		if n != ipv4HeaderLen || packet[6]&^dontFragment|packet[7] != 0 {
			return flow{}
		}
		f.proto = packet[9]
		hash = binary.NativeEndian.Uint64(packet[12:])
	} else {
		f.v6 = true
		f.proto = packet[6]
		for at := 8; at < ipv6HeaderLen; at += 8 {
			hash = hash*31 + binary.NativeEndian.Uint64(packet[at:])
		}
	}
	segment := packet[n:]
	switch {
	case f.proto == protoTCP && len(segment) >= tcpHeaderLen:
		f.payload = n + int(segment[12]>>4)*4
		if f.payload < n+tcpHeaderLen || f.payload > len(packet) {
			return flow{}
		}
		f.kind = flowJoins
		if f.payload == len(packet) || segment[tcpFlagsAt]&(tcpSYN|tcpRST|tcpURG) != 0 {
			f.kind = flowAlone
		}
	case f.proto == protoUDP && len(segment) >= udpHeaderLen && int(binary.BigEndian.Uint16(segment[4:])) == len(segment):
		f.payload = n + udpHeaderLen
		f.kind = flowJoins
		// Without a checksum (RFC 768) there is none to be made anew.
		if !c.uso || f.payload == len(packet) || segment[udpCsumAt]|segment[udpCsumAt+1] == 0 {
			f.kind = flowAlone
		}
	default:
		return flow{}
	}
	hash ^= uint64(binary.NativeEndian.Uint32(segment)) << 16
	f.slot = uint8(hash * 0x9E3779B97F4A7C15 >> 57)
	return f
}

// ends: nothing can be joined behind that packet.
func (f *flow) ends(packet []byte) bool {
	return f.proto == protoTCP && packet[f.transport+tcpFlagsAt]&(tcpFIN|tcpPSH) != 0
}

// sameFlow compares addresses, ports and protocol.
func (g *group) sameFlow(packet []byte, f *flow) bool {
	if g.flow.v6 != f.v6 || g.flow.proto != f.proto {
		return false
	}
	head := g.frame[HeaderLen:]
	if f.v6 {
		return string(head[8:ipv6HeaderLen+4]) == string(packet[8:ipv6HeaderLen+4])
	}
	return string(head[12:ipv4HeaderLen+4]) == string(packet[12:ipv4HeaderLen+4])
}

// follows says whether a packet of the flow of g is what a segmenter would cut
// off next.
func (g *group) follows(packet []byte, f *flow) bool {
	head := g.frame[HeaderLen:]
	n := len(packet) - f.payload
	if f.payload != g.flow.payload || n > g.size || g.length+n > maxLength {
		return false
	}
	if f.v6 {
		// Version, traffic class, flow label; hop limit.
		if string(head[:4]) != string(packet[:4]) || head[7] != packet[7] {
			return false
		}
	} else {
		// Version, header length, TOS; flags; TTL.
		if head[0] != packet[0] || head[1] != packet[1] || head[6] != packet[6] || head[8] != packet[8] {
			return false
		}
		if packet[6]&dontFragment == 0 && binary.BigEndian.Uint16(packet[4:]) != g.id {
			return false
		}
	}
	if f.proto != protoTCP {
		return true
	}
	h, p := head[g.flow.transport:g.flow.payload], packet[f.transport:f.payload]
	return binary.BigEndian.Uint32(p[4:]) == g.seq &&
		string(h[8:13]) == string(p[8:13]) && // acknowledgement, header length
		p[tcpFlagsAt]&tcpCWR == 0 && (h[tcpFlagsAt]^p[tcpFlagsAt])&^(tcpCWR|tcpFIN|tcpPSH) == 0 &&
		string(h[14:16]) == string(p[14:16]) && // window
		string(h[18:]) == string(p[18:]) // urgent pointer, options
}

// checksumsRight verifies those of the IPv4 header and of the transport.
func checksumsRight(packet []byte, f *flow) bool {
	addresses := packet[12:20]
	if f.v6 {
		addresses = packet[8:40]
	} else if checksum.Fold(checksum.Sum(packet[:ipv4HeaderLen], 0)) != 0xffff {
		return false
	}
	acc := checksum.Pseudo(addresses, f.proto, len(packet)-f.transport)
	return checksum.Fold(checksum.Sum(packet[f.transport:], acc)) == 0xffff
}
