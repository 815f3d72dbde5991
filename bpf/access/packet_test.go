package access

import (
	"encoding/binary"
	"net/netip"

	"github.com/roamgate/roamgate/bpf/acl"
)

// packet of a test: what is between a device and a remote host.
type packet struct {
	device, remote netip.Addr
	protocol       uint8
	port           uint16 // remote
	// fragment offset in units of 8 octets.
	fragment uint16
	// extensions of IPv6 before the transport header, in octets that are right
	// but for their last next header.
	extensions []byte
	payload    []byte
	// cut octets from the end.
	cut int
}

const ethernet = 14

// octets with an Ethernet header, as BPF_PROG_TEST_RUN wants one.
func (p packet) octets(d acl.Direction) []byte {
	source, destination := p.device, p.remote
	ports := [2]uint16{40000, p.port}
	if d == acl.Out {
		source, destination = destination, source
		ports[0], ports[1] = ports[1], ports[0]
	}
	transport := p.payload
	if p.fragment == 0 {
		transport = append(header(p.protocol, ports, len(p.payload)), p.payload...)
	}
	b := make([]byte, ethernet, 2048)
	if p.device.Is4() {
		binary.BigEndian.PutUint16(b[12:], 0x0800)
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, p.protocol
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(transport)))
		binary.BigEndian.PutUint16(ip[6:], p.fragment)
		copy(ip[12:], source.AsSlice())
		copy(ip[16:], destination.AsSlice())
		b = append(b, ip...)
	} else {
		binary.BigEndian.PutUint16(b[12:], 0x86dd)
		extensions, next := p.extensions, p.protocol
		if len(extensions) > 0 {
			next = extensions[0]
			extensions = extensions[1:]
		}
		if p.fragment > 0 {
			f := make([]byte, 8)
			f[0] = p.protocol
			binary.BigEndian.PutUint16(f[2:], p.fragment<<3)
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
	return b[:max(len(b)-p.cut, ethernet)]
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

// seen is what package acl is asked about it. Its packets are whole, or
// fragments.
func (p packet) seen() acl.Packet {
	known := p.fragment == 0 && acl.HasPorts(p.protocol)
	s := acl.Packet{Remote: p.remote, Protocol: p.protocol, Known: known}
	if known {
		s.Port = p.port
	}
	return s
}
