package ike

import (
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Narrowing of traffic selectors (RFC 7296 section 2.9).

// maxSelectors of one side of a Child SA, so that a hostile offer can't make
// the look-up of every packet slow.
const maxSelectors = 32

// narrow returns what is in both the peer's selectors and the allowed ranges,
// without repetitions.
func narrow(offered []ikewire.TrafficSelector, allowed []dataplane.Selector) []dataplane.Selector {
	var out []dataplane.Selector
	for _, a := range allowed {
		for i := range offered {
			s, ok := intersect(&offered[i], a)
			if ok && !slices.Contains(out, s) && len(out) < maxSelectors {
				out = append(out, s)
			}
		}
	}
	return out
}

// intersect of an offered selector and an allowed one of any protocol. OPAQUE
// ports (65535-0) are not granted: we can't check them.
func intersect(o *ikewire.TrafficSelector, a dataplane.Selector) (dataplane.Selector, bool) {
	if o.Unknown != "" || o.First.BitLen() != a.First.BitLen() || o.FirstPort > o.LastPort {
		return dataplane.Selector{}, false
	}
	s := dataplane.Selector{
		Protocol: o.Protocol, First: later(o.First, a.First), Last: earlier(o.Last, a.Last),
		FirstPort: max(o.FirstPort, a.FirstPort), LastPort: min(o.LastPort, a.LastPort),
	}
	if a.Protocol != 0 {
		if o.Protocol != 0 && o.Protocol != a.Protocol {
			return dataplane.Selector{}, false
		}
		s.Protocol = a.Protocol
	}
	return s, !s.Last.Less(s.First) && s.FirstPort <= s.LastPort
}

func later(a, b netip.Addr) netip.Addr {
	if a.Less(b) {
		return b
	}
	return a
}

func earlier(a, b netip.Addr) netip.Addr {
	if b.Less(a) {
		return b
	}
	return a
}

// hosts are selectors for single addresses.
func hosts(addrs []netip.Addr) []dataplane.Selector {
	var out []dataplane.Selector
	for _, a := range addrs {
		out = append(out, dataplane.Selector{First: a, Last: a, LastPort: 65535})
	}
	return out
}

// everything of each family.
var (
	everythingIPv4 = dataplane.Selector{First: netip.IPv4Unspecified(), Last: lastAddr(netip.PrefixFrom(netip.IPv4Unspecified(), 0)), LastPort: 65535}
	everythingIPv6 = dataplane.Selector{First: netip.IPv6Unspecified(), Last: lastAddr(netip.PrefixFrom(netip.IPv6Unspecified(), 0)), LastPort: 65535}
)

// families of inner addresses.
type families struct{ ipv4, ipv6 bool }

func familiesOf(addrs []netip.Addr) (f families) {
	for _, a := range addrs {
		f.ipv4 = f.ipv4 || a.Is4()
		f.ipv6 = f.ipv6 || a.Is6()
	}
	return f
}

// networks are selectors for the prefixes of the families in use; where there
// is no prefix at all, everything.
func networks(prefixes []netip.Prefix, f families) []dataplane.Selector {
	var out []dataplane.Selector
	if len(prefixes) == 0 {
		if f.ipv4 {
			out = append(out, everythingIPv4)
		}
		if f.ipv6 {
			out = append(out, everythingIPv6)
		}
		return out
	}
	for _, p := range prefixes {
		p = p.Masked()
		if (p.Addr().Is4() && f.ipv4) || (p.Addr().Is6() && f.ipv6) {
			out = append(out, dataplane.Selector{First: p.Addr(), Last: lastAddr(p), LastPort: 65535})
		}
	}
	return out
}

// allowed are the selectors of the gateway's side. Services come first, so that
// many networks don't crowd them out.
func (s *Settings) allowed(f families) []dataplane.Selector {
	if s == nil || len(s.Networks) == 0 {
		return networks(nil, f)
	}
	services := slices.DeleteFunc(hosts(s.Services), func(h dataplane.Selector) bool {
		return h.First.Is4() && !f.ipv4 || h.First.Is6() && !f.ipv6
	})
	return append(services, networks(s.Networks, f)...)
}

// lastAddr is the highest address of a prefix.
func lastAddr(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// tsPayload writes selectors for the wire.
func tsPayload(initiator bool, selectors []dataplane.Selector) *ikewire.TS {
	ts := &ikewire.TS{Initiator: initiator}
	for _, s := range selectors {
		ts.Selectors = append(ts.Selectors, ikewire.TrafficSelector{
			Protocol: s.Protocol, FirstPort: s.FirstPort, LastPort: s.LastPort, First: s.First, Last: s.Last,
		})
	}
	return ts
}
