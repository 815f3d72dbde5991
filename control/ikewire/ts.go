package ikewire

import (
	"encoding/binary"
	"net/netip"
)

// MaxSelectors in one traffic selector payload: what its count field can say.
const MaxSelectors = 255

const (
	tsIPv4Range = 7
	tsIPv6Range = 8
)

// TS is a traffic selector payload, TSi or TSr (RFC 7296 section 3.13).
type TS struct {
	Initiator bool
	Selectors []TrafficSelector
}

// TrafficSelector is a range of addresses and a range of ports, both ends
// included (RFC 7296 section 3.13.1). Its family is that of First and Last.
type TrafficSelector struct {
	// Protocol is an IP protocol number; 0 is any.
	Protocol uint8
	// FirstPort and LastPort: 0-65535 is any port, 65535-0 is OPAQUE. For ICMP
	// the type is in the upper and the code in the lower eight bits.
	FirstPort, LastPort uint16
	First, Last         netip.Addr
	// Unknown is set for a selector of a type other than TS_IPV4_ADDR_RANGE
	// and TS_IPV6_ADDR_RANGE: its octets, header included, as received; the
	// other fields are then zero. It matches nothing: narrowing leaves it out.
	// Only parsing sets it. A string, so that selectors can be compared.
	Unknown string
}

// Type is PayloadTSi for the initiator's, otherwise PayloadTSr.
func (p *TS) Type() PayloadType {
	if p.Initiator {
		return PayloadTSi
	}
	return PayloadTSr
}

func parseTS(initiator bool, b []byte) (Payload, error) {
	if len(b) < 4 {
		return nil, fieldError(len(b), "traffic selector header", ErrTruncated)
	}
	p := &TS{Initiator: initiator}
	offset := 4
	for range int(b[0]) {
		rest := b[offset:]
		if len(rest) < 8 {
			return nil, fieldError(offset, "traffic selector", ErrTruncated)
		}
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < 8 {
			return nil, fieldError(offset+2, "selector length", ErrLength)
		}
		if n > len(rest) {
			return nil, fieldError(offset+2, "traffic selector", ErrTruncated)
		}
		s, err := parseSelector(rest[:n], offset)
		if err != nil {
			return nil, err
		}
		p.Selectors = append(p.Selectors, s)
		offset += n
	}
	if offset != len(b) {
		return nil, fieldError(offset, "octets after the last selector", ErrLength)
	}
	if len(p.Selectors) == 0 {
		return nil, fieldError(0, "no traffic selector", ErrSyntax)
	}
	return p, nil
}

// parseSelector reads one selector that fills b, which has at least 8 octets.
func parseSelector(b []byte, offset int) (TrafficSelector, error) {
	size := 4
	switch b[0] {
	case tsIPv4Range:
	case tsIPv6Range:
		size = 16
	default:
		return TrafficSelector{Unknown: string(b)}, nil
	}
	if len(b) != 8+2*size {
		return TrafficSelector{}, fieldError(offset+2, "selector length", ErrLength)
	}
	s := TrafficSelector{
		Protocol:  b[1],
		FirstPort: binary.BigEndian.Uint16(b[4:]),
		LastPort:  binary.BigEndian.Uint16(b[6:]),
	}
	s.First, _ = netip.AddrFromSlice(b[8 : 8+size])
	s.Last, _ = netip.AddrFromSlice(b[8+size:])
	return s, s.check(offset)
}

func (s *TrafficSelector) check(offset int) error {
	opaque := s.FirstPort == 65535 && s.LastPort == 0
	switch {
	case !s.First.IsValid() || s.First.BitLen() != s.Last.BitLen() || s.First.Zone() != "" || s.Last.Zone() != "":
		return fieldError(offset, "address family", ErrSyntax)
	case s.Last.Less(s.First):
		return fieldError(offset, "address range", ErrSyntax)
	case s.FirstPort > s.LastPort && !opaque:
		return fieldError(offset, "port range", ErrSyntax)
	}
	return nil
}

func (p *TS) appendBody(dst []byte) ([]byte, error) {
	if len(p.Selectors) == 0 || len(p.Selectors) > MaxSelectors {
		return dst, fieldError(0, "number of selectors", ErrSyntax)
	}
	dst = append(dst, byte(len(p.Selectors)), 0, 0, 0)
	for i := range p.Selectors {
		s := &p.Selectors[i]
		if s.Unknown != "" {
			dst = append(dst, s.Unknown...)
			continue
		}
		if err := s.check(0); err != nil {
			return dst, err
		}
		typ := byte(tsIPv4Range)
		if s.First.Is6() {
			typ = tsIPv6Range
		}
		size := s.First.BitLen() / 8
		dst = append(dst, typ, s.Protocol)
		dst = binary.BigEndian.AppendUint16(dst, uint16(8+2*size))
		dst = binary.BigEndian.AppendUint16(dst, s.FirstPort)
		dst = binary.BigEndian.AppendUint16(dst, s.LastPort)
		dst = append(dst, s.First.AsSlice()...)
		dst = append(dst, s.Last.AsSlice()...)
	}
	return dst, nil
}
