package ike

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/roamgate/roamgate/control/ikewire"
)

// The configuration payload (RFC 7296 sections 2.19 and 3.15, RFC 8598).

// configRequest is what a peer asks for.
type configRequest struct {
	families
	want []netip.Addr
	// asked attribute types, each of which may be answered.
	asked map[uint16]bool
}

func parseConfigRequest(cp *ikewire.CP) (r configRequest) {
	if cp == nil || cp.CFGType != ikewire.CFGRequest {
		return r
	}
	r.asked = make(map[uint16]bool)
	for _, a := range cp.Attributes {
		r.asked[a.Type] = true
		switch a.Type {
		case ikewire.AttrInternalIP4Address:
			r.ipv4 = true
		case ikewire.AttrInternalIP6Address:
			r.ipv6 = true
		default:
			continue
		}
		if addr, ok := attributeAddr(a); ok && !addr.IsUnspecified() {
			r.want = append(r.want, addr)
		}
	}
	return r
}

// attributeAddr reads an address attribute: 4 octets, or 16 with or without a
// prefix length behind.
func attributeAddr(a ikewire.ConfigAttribute) (netip.Addr, bool) {
	v := a.Value
	if len(v) == 17 {
		v = v[:16]
	}
	addr, ok := netip.AddrFromSlice(v)
	return addr, ok && addr.Is4() == isIPv4Attribute(a.Type)
}

func isIPv4Attribute(t uint16) bool {
	switch t {
	case ikewire.AttrInternalIP4Address, ikewire.AttrInternalIP4DNS, ikewire.AttrInternalIP4NBNS:
		return true
	}
	return false
}

// reply gives addresses, and of the settings what was asked for.
func (r configRequest) reply(addrs []netip.Addr, s Settings) *ikewire.CP {
	cp := &ikewire.CP{CFGType: ikewire.CFGReply}
	add := func(t uint16, value []byte) {
		cp.Attributes = append(cp.Attributes, ikewire.ConfigAttribute{Type: t, Value: value})
	}
	for _, a := range addrs {
		if a.Is4() {
			add(ikewire.AttrInternalIP4Address, a.AsSlice())
		} else {
			add(ikewire.AttrInternalIP6Address, append(a.AsSlice(), 128))
		}
	}
	servers := func(t uint16, list []netip.Addr) {
		for _, a := range list {
			if r.asked[t] && a.Is4() == isIPv4Attribute(t) {
				add(t, a.AsSlice())
			}
		}
	}
	servers(ikewire.AttrInternalIP4DNS, s.DNS)
	servers(ikewire.AttrInternalIP6DNS, s.DNS)
	servers(ikewire.AttrInternalIP4NBNS, s.WINS)
	for _, p := range s.Networks {
		a := p.Masked().Addr().AsSlice()
		switch {
		case p.Addr().Is4() && r.asked[ikewire.AttrInternalIP4Subnet]:
			add(ikewire.AttrInternalIP4Subnet, binary.BigEndian.AppendUint32(a, ^uint32(0)<<(32-p.Bits())))
		case p.Addr().Is6() && r.asked[ikewire.AttrInternalIP6Subnet]:
			add(ikewire.AttrInternalIP6Subnet, append(a, byte(p.Bits())))
		}
	}
	for _, d := range s.Domains {
		if r.asked[ikewire.AttrInternalDNSDomain] {
			add(ikewire.AttrInternalDNSDomain, []byte(d))
		}
	}
	return cp
}

// askConfig is the initiator's request.
func askConfig(want []netip.Addr, ipv6 bool) *ikewire.CP {
	types := []uint16{ikewire.AttrInternalIP4Address}
	if ipv6 {
		types = append(types, ikewire.AttrInternalIP6Address, ikewire.AttrInternalIP6DNS, ikewire.AttrInternalIP6Subnet)
	}
	types = append(types, ikewire.AttrInternalIP4DNS, ikewire.AttrInternalIP4NBNS, ikewire.AttrInternalIP4Subnet, ikewire.AttrInternalDNSDomain)
	cp := &ikewire.CP{CFGType: ikewire.CFGRequest}
	for _, t := range types {
		a := ikewire.ConfigAttribute{Type: t}
		for _, w := range want {
			switch {
			case t == ikewire.AttrInternalIP4Address && w.Is4():
				a.Value = w.AsSlice()
			case t == ikewire.AttrInternalIP6Address && w.Is6():
				a.Value = append(w.AsSlice(), 128)
			}
		}
		cp.Attributes = append(cp.Attributes, a)
	}
	return cp
}

// assigned reads the addresses and settings of a reply; attributes of a wrong
// length are left out.
func assigned(cp *ikewire.CP) (addrs []netip.Addr, s Settings) {
	if cp == nil || cp.CFGType != ikewire.CFGReply {
		return nil, s
	}
	for _, a := range cp.Attributes {
		addr, isAddr := attributeAddr(a)
		switch a.Type {
		case ikewire.AttrInternalIP4Address, ikewire.AttrInternalIP6Address:
			if isAddr {
				addrs = append(addrs, addr)
			}
		case ikewire.AttrInternalIP4DNS, ikewire.AttrInternalIP6DNS:
			if isAddr {
				s.DNS = append(s.DNS, addr)
			}
		case ikewire.AttrInternalIP4NBNS:
			if isAddr {
				s.WINS = append(s.WINS, addr)
			}
		case ikewire.AttrInternalIP4Subnet, ikewire.AttrInternalIP6Subnet:
			if p, ok := attributePrefix(a); ok {
				s.Networks = append(s.Networks, p)
			}
		case ikewire.AttrInternalDNSDomain:
			s.Domains = append(s.Domains, string(a.Value))
		}
	}
	return addrs, s
}

// attributePrefix reads a subnet: address and netmask, or address and length.
func attributePrefix(a ikewire.ConfigAttribute) (netip.Prefix, bool) {
	switch {
	case a.Type == ikewire.AttrInternalIP4Subnet && len(a.Value) == 8:
		addr, _ := netip.AddrFromSlice(a.Value[:4])
		mask := binary.BigEndian.Uint32(a.Value[4:])
		ones := bits.LeadingZeros32(^mask)
		return netip.PrefixFrom(addr, ones), mask == ^uint32(0)<<(32-ones)
	case a.Type == ikewire.AttrInternalIP6Subnet && len(a.Value) == 17:
		addr, _ := netip.AddrFromSlice(a.Value[:16])
		return netip.PrefixFrom(addr, int(a.Value[16])), a.Value[16] <= 128
	}
	return netip.Prefix{}, false
}
