package userspace

import "encoding/binary"

// Values of the ECN field, the low two bits of the TOS octet or traffic class
// (RFC 3168 section 5).
const (
	notECT  = 0
	ect1    = 1
	ect0    = 2
	ce      = 3
	ecnMask = 3

	ecnDrop = 0xFF
)

// decapsulatedECN is figure 4 of RFC 6040 section 4.2: the outgoing field for
// [inner][outer].
var decapsulatedECN = [4][4]uint8{
	notECT: {notECT: notECT, ect0: notECT, ect1: notECT, ce: ecnDrop},
	ect0:   {notECT: ect0, ect0: ect0, ect1: ect1, ce: ce},
	ect1:   {notECT: ect1, ect0: ect1, ect1: ect1, ce: ce},
	ce:     {notECT: ce, ect0: ce, ect1: ce, ce: ce},
}

// decapsulateECN writes the ECN field of the outer header's TOS octet into the
// inner packet b as far as RFC 6040 wants it; false where the packet has to be
// dropped. DSCP stays the inner one (RFC 4301 section 5.1.2.1).
func decapsulateECN(b []byte, p *packet, outer uint8) bool {
	inner := p.tos & ecnMask
	out := decapsulatedECN[inner][outer&ecnMask]
	if out == ecnDrop {
		return false
	}
	if out != inner {
		p.tos = p.tos&^ecnMask | out
		setTOS(b, p)
	}
	return true
}

// setTOS writes p.tos into the packet b.
func setTOS(b []byte, p *packet) {
	before := binary.BigEndian.Uint16(b)
	if p.v6 {
		binary.BigEndian.PutUint16(b, before&0xF00F|uint16(p.tos)<<4)
		return
	}
	b[1] = p.tos
	updateChecksum(b[10:12], before, binary.BigEndian.Uint16(b))
}

// updateChecksum corrects an internet checksum for a 16-bit word that changed
// (RFC 1624 section 3).
func updateChecksum(field []byte, before, after uint16) {
	sum := uint32(^binary.BigEndian.Uint16(field)) + uint32(^before) + uint32(after)
	sum = sum&0xFFFF + sum>>16
	sum = sum&0xFFFF + sum>>16
	binary.BigEndian.PutUint16(field, ^uint16(sum))
}
