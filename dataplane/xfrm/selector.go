package xfrm

import (
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// maxSelectors bounds the policies of one Child SA in each direction. The kernel
// takes prefixes where traffic selectors are ranges, so odd ones need several.
const maxSelectors = 128

// side is what a selector says of one end.
type side struct {
	prefix      netip.Prefix
	proto       uint8
	first, last uint16 // ports
}

func (s side) anyPort() bool { return s.first == 0 && s.last == 0xFFFF }

// localSides are the prefixes of traffic selectors.
func localSides(selectors []dataplane.Selector) ([]side, error) {
	var sides []side
	for _, s := range selectors {
		prefixes := prefixesOf(s.First, s.Last)
		if len(sides)+len(prefixes) > maxSelectors {
			return nil, errTooFine()
		}
		for _, p := range prefixes {
			sides = append(sides, side{p, s.Protocol, s.FirstPort, s.LastPort})
		}
	}
	return sides, nil
}

// knownSides are those of selectors that were asked for: nearly all Child SAs have
// one of two kinds.
type knownSides struct {
	selectors []dataplane.Selector
	sides     []side
}

// sidesOf is localSides, which isn't worked out anew for each Child SA. The sides
// are only read.
func (b *Backend) sidesOf(selectors []dataplane.Selector) ([]side, error) {
	for _, k := range b.sides {
		if k.sides != nil && slices.Equal(k.selectors, selectors) {
			return k.sides, nil
		}
	}
	sides, err := localSides(selectors)
	if err == nil {
		b.sides = [2]knownSides{{slices.Clone(selectors), sides}, b.sides[0]}
	}
	return sides, err
}

// remoteSides are what traffic selectors allow to virtual addresses. What they
// allow beyond can't occur: a device has no other address.
func remoteSides(selectors []dataplane.Selector, virtual []netip.Addr) []side {
	var sides []side
	for _, a := range virtual {
		for _, s := range selectors {
			if s.First.BitLen() == a.BitLen() && s.First.Compare(a) <= 0 && a.Compare(s.Last) <= 0 {
				sides = append(sides, side{netip.PrefixFrom(a, a.BitLen()), s.Protocol, s.FirstPort, s.LastPort})
			}
		}
	}
	return sides
}

// poolSides: any address of pools, any protocol.
func poolSides(pools []netip.Prefix) []side {
	sides := make([]side, len(pools))
	for i, p := range pools {
		sides[i] = side{p.Masked(), 0, 0, 0xFFFF}
	}
	return sides
}

// cross returns the selectors of packets from one of remote to one of local.
func cross(remote, local []side) ([]selector, error) {
	var all []selector
	for _, r := range remote {
		for _, l := range local {
			all = appendPair(all, r, l)
			if len(all) > maxSelectors {
				return nil, errTooFine()
			}
		}
	}
	slices.SortFunc(all, compareSelectors)
	return slices.Compact(all), nil
}

func errTooFine() error {
	return fmt.Errorf("%w: traffic selectors that take more than %d XFRM policies", dataplane.ErrInvalid, maxSelectors)
}

func appendPair(all []selector, r, l side) []selector {
	if r.prefix.Addr().BitLen() != l.prefix.Addr().BitLen() || r.proto != 0 && l.proto != 0 && r.proto != l.proto {
		return all
	}
	base := selector{src: r.prefix, dst: l.prefix, proto: max(r.proto, l.proto)}
	switch {
	case base.proto == unix.IPPROTO_ICMP || base.proto == unix.IPPROTO_ICMPV6:
		return append(all, icmpPair(base, max(r.first, l.first), min(r.last, l.last))...)
	case r.anyPort() && l.anyPort():
		return append(all, base)
	}
	for _, source := range masksOf(r.first, r.last) {
		for _, destination := range masksOf(l.first, l.last) {
			s := base
			s.sport, s.smask = source.value, source.mask
			s.dport, s.dmask = destination.value, destination.mask
			all = append(all, s)
		}
	}
	return all
}

// icmpPair: type and code of a packet have to be in the ranges of both sides
// (RFC 4301 section 4.4.1.1).
func icmpPair(base selector, first, last uint16) []selector {
	if first > last {
		return nil
	}
	var all []selector
	for _, m := range masksOf(first, last) {
		s := base
		s.sport, s.smask = m.value>>8, m.mask>>8
		s.dport, s.dmask = m.value&0xFF, m.mask&0xFF
		all = append(all, s)
	}
	return all
}

// reversed is the selector of packets the other way. Type and code of ICMP stay
// where they are.
func (s selector) reversed() selector {
	r := s
	r.src, r.dst = s.dst, s.src
	if s.proto != unix.IPPROTO_ICMP && s.proto != unix.IPPROTO_ICMPV6 {
		r.sport, r.smask, r.dport, r.dmask = s.dport, s.dmask, s.sport, s.smask
	}
	return r
}

// priority of a policy that allows: the more it says, the earlier it is asked
// (lower is earlier).
func (s selector) priority() uint32 {
	hosts := s.src.Addr().BitLen() - s.src.Bits() + s.dst.Addr().BitLen() - s.dst.Bits()
	p := priorityAllow + uint32(2*hosts)
	if s.proto == 0 {
		p++
	}
	return p
}

// Priorities of policies; those that allow one device something come before the
// one that blocks the rest of it, and that before the shared ones.
const (
	priorityAllow  = 1000 // up to priorityAllow + 513
	priorityBlock  = 2000
	priorityShared = 3000
)

func compareSelectors(a, b selector) int {
	if c := a.src.Compare(b.src); c != 0 {
		return c
	}
	if c := a.dst.Compare(b.dst); c != 0 {
		return c
	}
	return slices.Compare(a.numbers(), b.numbers())
}

func (s selector) numbers() []uint16 {
	return []uint16{uint16(s.proto), s.sport, s.smask, s.dport, s.dmask}
}

// prefixesOf a range of addresses of one family, both ends included.
func prefixesOf(first, last netip.Addr) []netip.Prefix {
	var all []netip.Prefix
	for {
		var widest netip.Prefix
		for bits := 0; ; bits++ {
			widest = netip.PrefixFrom(first, bits).Masked()
			if widest.Addr() == first && LastAddr(widest).Compare(last) <= 0 {
				break
			}
		}
		all = append(all, widest)
		end := LastAddr(widest)
		if end == last {
			return all
		}
		first = end.Next()
	}
}

// LastAddr is the last address of a prefix.
func LastAddr(p netip.Prefix) netip.Addr {
	octets := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(octets); bit++ {
		octets[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(octets)
	return last
}

type masked struct{ value, mask uint16 }

// masksOf a range of ports, both ends included.
func masksOf(first, last uint16) []masked {
	var all []masked
	for at := uint32(first); at <= uint32(last); {
		size := uint32(1 << 16)
		for at%size != 0 || at+size-1 > uint32(last) {
			size >>= 1
		}
		all = append(all, masked{uint16(at), uint16(-size)})
		at += size
	}
	return all
}

// hostPrefix is the address alone.
func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
