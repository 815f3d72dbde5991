package dataplane

import (
	"encoding/binary"
	"net/netip"
)

// AppendSelectors writes selectors behind each other, in a form that is compared
// and kept more easily than a slice of them: protocol, length of an address, first
// and last address, first and last port, big-endian. Zones are lost.
func AppendSelectors(dst []byte, list []Selector) []byte {
	for i := range list {
		s := &list[i]
		first, last := s.First.AsSlice(), s.Last.AsSlice()
		dst = append(dst, s.Protocol, byte(len(first)), byte(len(last)))
		dst = append(append(dst, first...), last...)
		dst = binary.BigEndian.AppendUint16(dst, s.FirstPort)
		dst = binary.BigEndian.AppendUint16(dst, s.LastPort)
	}
	return dst
}

// ReadSelectors reads what AppendSelectors wrote, and nothing else; nil for none.
func ReadSelectors(b []byte) (list []Selector) {
	for len(b) > 0 {
		s := Selector{Protocol: b[0]}
		first, last := int(b[1]), int(b[2])
		b = b[3:]
		s.First, _ = netip.AddrFromSlice(b[:first])
		s.Last, _ = netip.AddrFromSlice(b[first : first+last])
		b = b[first+last:]
		s.FirstPort, s.LastPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		b = b[4:]
		list = append(list, s)
	}
	return list
}
