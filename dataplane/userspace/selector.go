package userspace

import (
	"net/netip"

	"github.com/roamgate/roamgate/dataplane"
)

// selected says whether one of selectors matches the side of p that has addr
// and port.
func selected(selectors []dataplane.Selector, p *packet, addr netip.Addr, port uint16) bool {
	for i := range selectors {
		s := &selectors[i]
		if s.Protocol != 0 && (!p.hasProtocol || s.Protocol != p.protocol) {
			continue
		}
		if addr.Compare(s.First) < 0 || s.Last.Compare(addr) < 0 {
			continue
		}
		if anyPort(s) || p.hasPorts && s.FirstPort <= port && port <= s.LastPort {
			return true
		}
	}
	return false
}

// anyPort: only such a selector matches what shows no ports, fragments behind
// the first among it (RFC 4301 section 7.1).
func anyPort(s *dataplane.Selector) bool { return s.FirstPort == 0 && s.LastPort == 0xFFFF }
