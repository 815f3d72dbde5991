package dataplane

import (
	"errors"
	"net/netip"
	"testing"
)

func goodChild() Child {
	sa := func() SA { return SA{SPI: 256, Keys: Keys{Encryption: make([]byte, 20)}} }
	all := Selector{First: netip.MustParseAddr("0.0.0.0"), Last: netip.MustParseAddr("255.255.255.255"), LastPort: 0xFFFF}
	return Child{
		Inbound: sa(), Outbound: sa(),
		Algorithm:  Algorithm{Encryption: EncryptionAESGCM16, KeyBits: 128},
		VirtualIPs: []netip.Addr{netip.MustParseAddr("10.9.0.7"), netip.MustParseAddr("fd00:9::7")},
		Local:      []Selector{all}, Remote: []Selector{all},
		Path: Path{Local: netip.MustParseAddrPort("192.0.2.1:4500"), Remote: netip.MustParseAddrPort("198.51.100.7:1024")},
	}
}

// A child is good, and not with any one of these faults.
func TestValidate(t *testing.T) {
	addr, addrPort := netip.MustParseAddr, netip.MustParseAddrPort
	side := func(first, last string) []Selector { return []Selector{{First: addr(first), Last: addr(last)}} }
	for _, c := range []struct {
		name string
		want error
		edit func(*Child)
	}{
		{"nothing", nil, func(*Child) {}},
		{"IPv4 only", nil, func(c *Child) { c.VirtualIPs = c.VirtualIPs[:1] }},
		{"outer IPv6", nil, func(c *Child) {
			c.Path.Local, c.Path.Remote = addrPort("[2001:db8::1]:4500"), addrPort("[2001:db8::7]:1")
		}},
		{"raw ESP, no ports", nil, func(c *Child) {
			c.Path = Path{Local: netip.AddrPortFrom(addr("192.0.2.1"), 0), Remote: netip.AddrPortFrom(addr("192.0.2.2"), 0), Encapsulation: EncapsulationNone}
		}},
		{"one address, one port", nil, func(c *Child) {
			c.Local = []Selector{{Protocol: 17, First: addr("10.0.0.1"), Last: addr("10.0.0.1"), FirstPort: 53, LastPort: 53}}
		}},

		{"no algorithm", ErrAlgorithm, func(c *Child) { c.Algorithm = Algorithm{} }},
		{"short key", ErrKeyLength, func(c *Child) { c.Outbound.Keys.Encryption = make([]byte, 16) }},
		{"integrity key with AEAD", ErrKeyLength, func(c *Child) { c.Inbound.Keys.Integrity = make([]byte, 32) }},
		{"reserved inbound SPI", ErrInvalid, func(c *Child) { c.Inbound.SPI = 255 }},
		{"reserved outbound SPI", ErrInvalid, func(c *Child) { c.Outbound.SPI = 0 }},
		{"no virtual address", ErrInvalid, func(c *Child) { c.VirtualIPs = nil }},
		{"two of a family", ErrInvalid, func(c *Child) { c.VirtualIPs = []netip.Addr{addr("fd00::1"), addr("fd00::2")} }},
		{"three virtual addresses", ErrInvalid, func(c *Child) { c.VirtualIPs = append(c.VirtualIPs, addr("10.9.0.8")) }},
		{"zero virtual address", ErrInvalid, func(c *Child) { c.VirtualIPs = []netip.Addr{{}, addr("10.9.0.7")} }},
		{"IPv4 in IPv6", ErrInvalid, func(c *Child) { c.VirtualIPs = []netip.Addr{addr("::ffff:10.9.0.7")} }},
		{"zone", ErrInvalid, func(c *Child) { c.VirtualIPs = []netip.Addr{addr("fe80::1%eth0")} }},
		{"no local selector", ErrInvalid, func(c *Child) { c.Local = nil }},
		{"no remote selector", ErrInvalid, func(c *Child) { c.Remote = []Selector{} }},
		{"range of two families", ErrInvalid, func(c *Child) { c.Remote = side("10.0.0.0", "fd00::") }},
		{"addresses backwards", ErrInvalid, func(c *Child) { c.Local = side("10.0.0.2", "10.0.0.1") }},
		{"ports backwards", ErrInvalid, func(c *Child) { c.Local[0].FirstPort, c.Local[0].LastPort = 2, 1 }},
		{"no range", ErrInvalid, func(c *Child) { c.Local = []Selector{{}} }},
		{"range with a zone", ErrInvalid, func(c *Child) { c.Local = side("fe80::1", "fe80::2%eth0") }},
		{"bad selector behind a good one", ErrInvalid, func(c *Child) { c.Local = append(side("10.0.0.0", "10.0.0.1"), Selector{}) }},
		{"no path", ErrInvalid, func(c *Child) { c.Path = Path{} }},
		{"path between families", ErrInvalid, func(c *Child) { c.Path.Remote = addrPort("[2001:db8::7]:4500") }},
		{"path to IPv4 in IPv6", ErrInvalid, func(c *Child) {
			c.Path.Local, c.Path.Remote = addrPort("[2001:db8::1]:4500"), addrPort("[::ffff:192.0.2.1]:4500")
		}},
		{"no remote port", ErrInvalid, func(c *Child) { c.Path.Remote = netip.AddrPortFrom(addr("198.51.100.7"), 0) }},
		{"no local port", ErrInvalid, func(c *Child) { c.Path.Local = netip.AddrPortFrom(addr("192.0.2.1"), 0) }},
		{"unknown encapsulation", ErrInvalid, func(c *Child) { c.Path.Encapsulation = 9 }},
	} {
		child := goodChild()
		c.edit(&child)
		if err := child.Validate(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
