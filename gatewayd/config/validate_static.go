package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/roamgate/roamgate/control/lease"
)

// Limits of what fits into a configuration payload and a traffic selector.
const (
	maxServers  = 8
	maxNetworks = 64
	maxDomains  = 32
)

func (v *validator) static(s *Static) {
	if len(s.Pools) == 0 && !v.pushed {
		v.say("gateway.static.pools", "not set, expected at least one network of virtual addresses")
	}
	v.pools(s)
	v.neighbours(s)
	v.groups(s)
	for i, a := range s.Exclude {
		v.unicast(fmt.Sprintf("gateway.static.exclude[%d]", i), a)
	}
	ipv4, ipv6 := s.Families()
	families := func(a netip.Addr) string {
		switch {
		case v.pushed: // pools are another section, which may be on its way
			return ""
		case !a.IsValid() || a.Is4() && ipv4 || a.Is6() && ipv6:
			return ""
		case a.Is4():
			return "an IPv6 one, because gateway.static.pools has no IPv4 network"
		default:
			return "an IPv4 one, because gateway.static.pools has no IPv6 network"
		}
	}
	v.servers("gateway.static.dns", s.DNS, families)
	v.servers("gateway.static.wins", s.WINS, func(a netip.Addr) string {
		if a.IsValid() && !a.Is4() {
			return "an IPv4 address, as WINS has no other"
		}
		return families(a)
	})
	v.domains("gateway.static.domains", s.Domains)
	if len(s.Domains) > 0 && len(s.DNS) == 0 {
		v.say("gateway.static.domains", "got domains without a server that knows them, expected gateway.static.dns")
	}
	if n := len(s.Networks); n > maxNetworks {
		v.say("gateway.static.networks", "got %d, expected at most %d", n, maxNetworks)
	}
	for i, p := range s.Networks {
		key := fmt.Sprintf("gateway.static.networks[%d]", i)
		switch {
		case !p.IsValid():
		case p.Addr().Is4In6():
			v.say(key, "got %v, expected an IPv4 or IPv6 network", p)
		case p != p.Masked():
			v.say(key, "got %v, expected %v", p, p.Masked())
		default:
			if want := families(p.Addr()); want != "" {
				v.say(key, "got %v, expected %s", p, want)
			}
		}
	}
}

func (v *validator) pools(s *Static) {
	// One at a time, so that the message finds its line.
	for i, p := range s.Pools {
		if !p.IsValid() {
			continue
		}
		key := fmt.Sprintf("gateway.static.pools[%d]", i)
		if err := (lease.Config{Pools: []netip.Prefix{p}, Exclude: valid(s.Exclude)}).Validate(); err != nil {
			v.say(key, "got %v, expected a network with free host addresses: %v", p, err)
		}
		for j, other := range s.Pools[:i] {
			if other.IsValid() && p.Overlaps(other) {
				v.say(key, "got %v, which overlaps gateway.static.pools[%d] (%v), expected another network", p, j, other)
			}
		}
		for _, a := range v.Gateway.External.Addresses() {
			if a.IsValid() && p.Contains(a) {
				v.say(key, "got %v, which holds the external address %v, expected a network of its own", p, a)
			}
		}
	}
}

// neighbours are checked one at a time, too.
func (v *validator) neighbours(s *Static) {
	for i, p := range s.NeighbourPools {
		key := fmt.Sprintf("gateway.static.neighbour_pools[%d]", i)
		if !p.IsValid() {
			continue
		}
		if err := (lease.Config{Pools: []netip.Prefix{p}}).Validate(); err != nil {
			v.say(key, "got %v, expected a network with host addresses: %v", p, err)
		}
		for _, other := range slices.Concat(s.Pools, s.NeighbourPools[:i]) {
			if other.IsValid() && p.Overlaps(other) {
				v.say(key, "got %v, which overlaps %v, expected another network", p, other)
			}
		}
		for _, a := range v.Gateway.External.Addresses() {
			if a.IsValid() && p.Contains(a) {
				v.say(key, "got %v, which holds the external address %v, expected a network of its own", p, a)
			}
		}
	}
}

// servers: wrong says what was expected of an address, or nothing.
func (v *validator) servers(key string, list []netip.Addr, wrong func(netip.Addr) string) {
	if len(list) > maxServers {
		v.say(key, "got %d, expected at most %d", len(list), maxServers)
	}
	for i, a := range list {
		v.unicast(fmt.Sprintf("%s[%d]", key, i), a)
		if want := wrong(a); want != "" {
			v.say(fmt.Sprintf("%s[%d]", key, i), "got %v, expected %s", a, want)
		}
	}
}

func (v *validator) domains(key string, list []string) {
	if len(list) > maxDomains {
		v.say(key, "got %d, expected at most %d", len(list), maxDomains)
	}
	for i, d := range list {
		switch at := fmt.Sprintf("%s[%d]", key, i); {
		case !isDomain(d):
			v.say(at, "got %q, expected a domain name such as corp.example.com", clip(d))
		case slices.Contains(list[:i], d):
			v.say(at, "got %q twice, expected it once", d)
		}
	}
}

// isDomain: a name of LDH labels and underscores, names in other scripts as
// A-labels (RFC 5890 section 2.3.1), without the dot at its end.
func isDomain(name string) bool {
	if len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

func valid(list []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		if a.IsValid() && !a.Is4In6() && a.Zone() == "" {
			out = append(out, a)
		}
	}
	return out
}
