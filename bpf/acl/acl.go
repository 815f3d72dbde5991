// Package acl is what an access list says: rules about what the devices of a
// group may reach, their text, and their meaning, which everything that
// enforces them shares and is tested against.
//
// A rule names a remote network (remote is what lies beyond the gateway as the
// device sees it: the destination of what it sends, the source of what it
// gets), a protocol and a range of remote ports. Rules are stateless and hold
// both ways. Of the rules that match a packet those of the longest network
// count; among rules of the same network the first one in the list decides;
// where no rule matches, the packet is dropped. So the lists
//
//	allow 10.0.0.0/8          deny 10.3.0.0/16
//	deny 10.3.0.0/16          allow 10.0.0.0/8
//
// mean the same. See [List.Decide].
//
// What lives here: types, parsing, the meaning. What doesn't: packets, maps,
// the kernel (packages access and nft).
package acl

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Limits on what can be enforced.
const (
	// MaxRules of one list.
	MaxRules = 1024
	// MaxRulesPerAddress is how many rules of a list may concern one remote
	// address, those behind a rule for every protocol not counted: so many are
	// looked at for a packet in the worst case.
	MaxRulesPerAddress = 64
	// MaxGroups that are in force at once.
	MaxGroups = 1024
	// MinBurst of a rate in octets: a super-packet of 64 KiB has to fit into it
	// twice, or it would never pass.
	MinBurst = 128 << 10
	// MinRate and MaxRate in octets a second.
	MinRate, MaxRate = 1000, 1_000_000_000_000 / 8
)

// Errors, wrapped.
var (
	// ErrRule: not a rule.
	ErrRule = errors.New("not a rule")
	// ErrList: rules that don't make a list.
	ErrList = errors.New("not a list")
	// ErrGroup: no group of that name is in force.
	ErrGroup = errors.New("no such group")
	// ErrFull: no room for another device or group.
	ErrFull = errors.New("no room")
)

// Protocols that have ports where a rule looks for them: the second two octets
// of the transport header.
const (
	ICMP    uint8 = 1
	TCP     uint8 = 6
	UDP     uint8 = 17
	DCCP    uint8 = 33
	ICMPv6  uint8 = 58
	SCTP    uint8 = 132
	UDPLite uint8 = 136
)

// HasPorts says whether a protocol has ports.
func HasPorts(protocol uint8) bool {
	switch protocol {
	case TCP, UDP, DCCP, SCTP, UDPLite:
		return true
	}
	return false
}

// Rule of a list.
type Rule struct {
	Allow bool
	// Remote network, masked.
	Remote netip.Prefix
	// Protocol is what the IP header says; 0 is any.
	Protocol uint8
	// First and Last remote port, both included; 0 and 65535 are any port. Other
	// ranges only go with protocols that have ports.
	First, Last uint16
}

// AnyPort says whether the rule doesn't look at ports.
func (r Rule) AnyPort() bool { return r.First == 0 && r.Last == 65535 }

// everything: the rule matches all packets of its network.
func (r Rule) everything() bool { return r.Protocol == 0 && r.AnyPort() }

// Check says what is wrong with a rule. Errors: ErrRule, wrapped.
func (r Rule) Check() error {
	switch a := r.Remote.Addr(); {
	case !r.Remote.IsValid() || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("%w: remote network %v", ErrRule, r.Remote)
	case r.Remote != r.Remote.Masked():
		return fmt.Errorf("%w: remote network %v has bits behind its prefix, expected %v", ErrRule, r.Remote, r.Remote.Masked())
	case r.Last < r.First:
		return fmt.Errorf("%w: ports %d-%d", ErrRule, r.First, r.Last)
	case !r.AnyPort() && !HasPorts(r.Protocol):
		return fmt.Errorf("%w: ports, but no protocol that has them", ErrRule)
	}
	return nil
}

// List is immutable. Its zero value allows nothing.
type List struct {
	rules []Rule // the longest networks first, otherwise as they were given
}

// New checks rules and makes a list of them. Errors: ErrRule and ErrList,
// wrapped.
func New(rules []Rule) (*List, error) {
	if len(rules) > MaxRules {
		return nil, fmt.Errorf("%w: %d rules, at most %d", ErrList, len(rules), MaxRules)
	}
	for i, r := range rules {
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("rule %d: %w", i+1, err)
		}
	}
	l := &List{rules: slices.Clone(rules)}
	slices.SortStableFunc(l.rules, func(a, b Rule) int { return cmp.Compare(b.Remote.Bits(), a.Remote.Bits()) })
	for _, e := range l.Entries() {
		if len(e.Rules) > MaxRulesPerAddress {
			return nil, fmt.Errorf("%w: %d rules concern %v, at most %d", ErrList, len(e.Rules), e.Remote, MaxRulesPerAddress)
		}
	}
	return l, nil
}

// Rules in the order in which they count: the first that matches decides.
func (l *List) Rules() []Rule { return l.rules }

// Entry is what counts for the addresses of a network that are in no longer one
// of the same list.
type Entry struct {
	Remote netip.Prefix
	// Rules of Remote and of the networks around it, in the order in which they
	// count, up to one that matches everything.
	Rules []Rule
}

// Entries has one for each network of the list: who finds the longest that
// holds an address has all rules that concern it.
func (l *List) Entries() []Entry {
	var entries []Entry
	seen := make(map[netip.Prefix]bool)
	for _, r := range l.rules {
		if seen[r.Remote] {
			continue
		}
		seen[r.Remote] = true
		e := Entry{Remote: r.Remote}
		for _, other := range l.rules {
			if other.Remote.Bits() <= r.Remote.Bits() && other.Remote.Contains(r.Remote.Addr()) {
				if e.Rules = append(e.Rules, other); other.everything() {
					break
				}
			}
		}
		entries = append(entries, e)
	}
	return entries
}

// Packet as far as a list looks at it.
type Packet struct {
	Remote   netip.Addr
	Protocol uint8
	// Port on the remote side, if Known: not in fragments behind the first, nor
	// where a packet is too short.
	Port  uint16
	Known bool
}

// Decide is the meaning of a list. The first rule whose network and protocol
// match decides, if its ports do too. Where it looks at ports and the packet
// has none to look at, the packet is dropped as VerdictFragment: neither what
// an earlier rule denies nor what only a later one allows gets around by
// fragments. It returns VerdictPass, VerdictDenied or VerdictFragment.
func (l *List) Decide(p Packet) Verdict {
	for _, r := range l.rules {
		if !r.Remote.Contains(p.Remote) || r.Protocol != 0 && r.Protocol != p.Protocol {
			continue
		}
		if !r.AnyPort() {
			if !p.Known {
				return VerdictFragment
			}
			if p.Port < r.First || p.Port > r.Last {
				continue
			}
		}
		if r.Allow {
			return VerdictPass
		}
		return VerdictDenied
	}
	return VerdictDenied
}
