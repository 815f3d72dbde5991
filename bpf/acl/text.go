package acl

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Form of a rule's text, for messages.
const Form = `"allow|deny NETWORK|any [PROTOCOL [PORT[-PORT]]]", such as "allow 10.2.0.0/24 tcp 443"`

var protocols = []struct {
	name   string
	number uint8
}{
	{"tcp", TCP}, {"udp", UDP}, {"sctp", SCTP}, {"dccp", DCCP}, {"udplite", UDPLite}, {"icmp", ICMP}, {"icmpv6", ICMPv6}, {"esp", 50}, {"ah", 51}, {"gre", 47},
}

// Parse reads a rule: "allow" or "deny", a network, an address or "any", and
// maybe a protocol (tcp, udp, icmp, another name or a number) and a port or a
// range of ports. icmp is ICMPv6 where the network is one of IPv6. "any" is all
// of both families, hence two rules. Errors: ErrRule, wrapped.
func Parse(text string) ([]Rule, error) {
	fields := strings.Fields(text)
	if len(fields) < 2 || len(fields) > 4 {
		return nil, fmt.Errorf("%w: %d words", ErrRule, len(fields))
	}
	r := Rule{Last: 65535}
	switch fields[0] {
	case "allow":
		r.Allow = true
	case "deny":
	default:
		return nil, fmt.Errorf("%w: %q is neither allow nor deny", ErrRule, clip(fields[0]))
	}
	remotes, err := networks(fields[1])
	if err != nil {
		return nil, err
	}
	if len(fields) > 2 {
		if r.Protocol, err = protocol(fields[2]); err != nil {
			return nil, err
		}
	}
	if len(fields) > 3 {
		if r.First, r.Last, err = ports(fields[3]); err != nil {
			return nil, err
		}
	}
	var rules []Rule
	for _, r.Remote = range remotes {
		one := r
		if one.Protocol == ICMP && one.Remote.Addr().Is6() {
			one.Protocol = ICMPv6
		}
		if err := one.Check(); err != nil {
			return nil, err
		}
		rules = append(rules, one)
	}
	return rules, nil
}

func networks(text string) ([]netip.Prefix, error) {
	if text == "any" {
		return []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return []netip.Prefix{netip.PrefixFrom(a, a.BitLen())}, nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is no network", ErrRule, clip(text))
	}
	return []netip.Prefix{p}, nil
}

func protocol(text string) (uint8, error) {
	for _, p := range protocols {
		if p.name == text {
			return p.number, nil
		}
	}
	if text == "any" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w: %q is no protocol", ErrRule, clip(text))
	}
	return uint8(n), nil
}

func ports(text string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || b < a {
		return 0, 0, fmt.Errorf("%w: %q is no port or range of ports", ErrRule, clip(text))
	}
	return uint16(a), uint16(b), nil
}

// String is what Parse reads.
func (r Rule) String() string {
	s := "deny "
	if r.Allow {
		s = "allow "
	}
	s += r.Remote.String()
	switch {
	case r.everything():
		return s
	case r.Protocol == 0:
		s += " any"
	default:
		name := strconv.Itoa(int(r.Protocol))
		for _, p := range protocols {
			if p.number == r.Protocol {
				name = p.name
			}
		}
		s += " " + name
	}
	switch {
	case r.AnyPort():
	case r.First == r.Last:
		s += " " + strconv.Itoa(int(r.First))
	default:
		s += fmt.Sprintf(" %d-%d", r.First, r.Last)
	}
	return s
}

func clip(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
