package acltest

import (
	"encoding/binary"
	"net/netip"

	"github.com/roamgate/roamgate/bpf/acl"
)

// Packet between a device and a remote host.
type Packet struct {
	Device, Remote netip.Addr
	Protocol       uint8
	Port           uint16 // remote
	// Fragment offset in units of 8 octets.
	Fragment uint16
	// Extensions of IPv6 before the transport header: the kind of the first, then
	// their octets, of which the last next header is Protocol.
	Extensions []byte
	Payload    []byte
	// Cut octets from the end.
	Cut int
}

// Octets from the IP header on.
func (p Packet) Octets(d acl.Direction) []byte {
	source, destination := p.Device, p.Remote
	ports := [2]uint16{40000, p.Port}
	if d == acl.Out {
		source, destination = destination, source
		ports[0], ports[1] = ports[1], ports[0]
	}
	transport := p.Payload
	if p.Fragment == 0 {
		transport = append(header(p.Protocol, ports, len(p.Payload)), p.Payload...)
	}
	var b []byte
	if p.Device.Is4() {
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, p.Protocol
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(transport)))
		binary.BigEndian.PutUint16(ip[6:], p.Fragment)
		copy(ip[12:], source.AsSlice())
		copy(ip[16:], destination.AsSlice())
		binary.BigEndian.PutUint16(ip[10:], checksum(ip))
		b = append(b, ip...)
	} else {
		extensions, next := p.Extensions, p.Protocol
		if len(extensions) > 0 {
			next = extensions[0]
			extensions = extensions[1:]
		}
		if p.Fragment > 0 {
			f := make([]byte, 8)
			f[0] = p.Protocol
			binary.BigEndian.PutUint16(f[2:], p.Fragment<<3)
			extensions, next = f, 44
		}
		ip := make([]byte, 40)
		ip[0], ip[6], ip[7] = 0x60, next, 64
		binary.BigEndian.PutUint16(ip[4:], uint16(len(extensions)+len(transport)))
		copy(ip[8:], source.AsSlice())
		copy(ip[24:], destination.AsSlice())
		b = append(append(b, ip...), extensions...)
	}
	b = append(b, transport...)
	return b[:max(len(b)-p.Cut, 0)]
}

// header of the transport.
func header(protocol uint8, ports [2]uint16, payload int) []byte {
	var b []byte
	switch protocol {
	case acl.TCP:
		b = make([]byte, 20)
		b[12] = 5 << 4
	case acl.UDP, acl.UDPLite:
		b = make([]byte, 8)
		binary.BigEndian.PutUint16(b[4:], uint16(8+payload))
	case acl.SCTP, acl.DCCP:
		b = make([]byte, 12)
	default:
		return make([]byte, 8)
	}
	binary.BigEndian.PutUint16(b, ports[0])
	binary.BigEndian.PutUint16(b[2:], ports[1])
	return b
}

// checksum of an IPv4 header (RFC 791 section 3.1).
func checksum(header []byte) uint16 {
	var sum uint32
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// Seen is what package acl is asked about it, if nothing is cut off.
func (p Packet) Seen() acl.Packet {
	known := p.Fragment == 0 && acl.HasPorts(p.Protocol)
	s := acl.Packet{Remote: p.Remote, Protocol: p.Protocol, Known: known}
	if known {
		s.Port = p.Port
	}
	return s
}
