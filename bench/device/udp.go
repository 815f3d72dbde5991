package device

import (
	"encoding/binary"
	"net/netip"
)

const (
	protoUDP = 17
	udpLen   = 8
)

// UDP is a datagram (RFC 768) in an inner packet, such as a notification for the
// DM client.
type UDP struct {
	Src, Dst netip.AddrPort
	Data     []byte
}

// ParseUDP reads a whole IP packet without options, extension headers or
// fragments; Data is a slice of it. ok is false for anything but a datagram with
// right checksums; without one it may be in IPv4 only (RFC 8200 section 8.1).
func ParseUDP(packet []byte) (u UDP, ok bool) {
	var src, dst netip.Addr
	var udp []byte
	switch {
	case len(packet) >= ip4Len+udpLen && packet[0] == 0x45 && packet[9] == protoUDP &&
		int(binary.BigEndian.Uint16(packet[2:])) == len(packet) && checksum(0, packet[:ip4Len]) == 0:
		if binary.BigEndian.Uint16(packet[6:])&0x3fff != 0 { // a fragment
			return UDP{}, false
		}
		src, _ = netip.AddrFromSlice(packet[12:16])
		dst, _ = netip.AddrFromSlice(packet[16:20])
		udp = packet[ip4Len:]
	case len(packet) >= ip6Len+udpLen && packet[0]>>4 == 6 && packet[6] == protoUDP &&
		int(binary.BigEndian.Uint16(packet[4:])) == len(packet)-ip6Len:
		src, _ = netip.AddrFromSlice(packet[8:24])
		dst, _ = netip.AddrFromSlice(packet[24:40])
		udp = packet[ip6Len:]
	default:
		return UDP{}, false
	}
	if int(binary.BigEndian.Uint16(udp[4:])) != len(udp) {
		return UDP{}, false
	}
	if sent := binary.BigEndian.Uint16(udp[6:]); sent != 0 || src.Is6() {
		pseudo := sum(sum(uint32(len(udp))+protoUDP, src.AsSlice()), dst.AsSlice())
		if sent == 0 || checksum(pseudo, udp) != 0 {
			return UDP{}, false
		}
	}
	return UDP{
		Src:  netip.AddrPortFrom(src, binary.BigEndian.Uint16(udp)),
		Dst:  netip.AddrPortFrom(dst, binary.BigEndian.Uint16(udp[2:])),
		Data: udp[udpLen:],
	}, true
}
