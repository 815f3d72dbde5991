package ike

import (
	"encoding/binary"
	"math/bits"
	"net/netip"

	"github.com/roamgate/roamgate/control/ikewire"
)

// The configuration payload (RFC 7296 sections 2.19 and 3.15).

// configRequest is what a peer asks for.
type configRequest struct {
	ipv4 bool
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
		if a.Type != ikewire.AttrInternalIP4Address {
			continue
		}
		r.ipv4 = true
		if addr, ok := netip.AddrFromSlice(a.Value); ok && addr.Is4() && !addr.IsUnspecified() {
			r.want = append(r.want, addr)
		}
	}
	return r
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
		}
	}
	servers := func(t uint16, list []netip.Addr) {
		for _, a := range list {
			if r.asked[t] && a.Is4() {
				add(t, a.AsSlice())
			}
		}
	}
	servers(ikewire.AttrInternalIP4DNS, s.DNS)
	servers(ikewire.AttrInternalIP4NBNS, s.WINS)
	for _, p := range s.Networks {
		if r.asked[ikewire.AttrInternalIP4Subnet] && p.Addr().Is4() {
			mask := ^uint32(0) << (32 - p.Bits())
			add(ikewire.AttrInternalIP4Subnet, binary.BigEndian.AppendUint32(p.Masked().Addr().AsSlice(), mask))
		}
	}
	return cp
}

// askConfig is the initiator's request.
func askConfig(want netip.Addr) *ikewire.CP {
	address := ikewire.ConfigAttribute{Type: ikewire.AttrInternalIP4Address}
	if want.Is4() {
		address.Value = want.AsSlice()
	}
	return &ikewire.CP{CFGType: ikewire.CFGRequest, Attributes: []ikewire.ConfigAttribute{
		address,
		{Type: ikewire.AttrInternalIP4DNS},
		{Type: ikewire.AttrInternalIP4NBNS},
		{Type: ikewire.AttrInternalIP4Subnet},
	}}
}

// assigned reads the addresses and settings of a reply; attributes of a wrong
// length are left out.
func assigned(cp *ikewire.CP) (addrs []netip.Addr, s Settings) {
	if cp == nil || cp.CFGType != ikewire.CFGReply {
		return nil, s
	}
	for _, a := range cp.Attributes {
		switch a.Type {
		case ikewire.AttrInternalIP4Address:
			if addr, ok := netip.AddrFromSlice(a.Value); ok && addr.Is4() {
				addrs = append(addrs, addr)
			}
		case ikewire.AttrInternalIP4DNS:
			if addr, ok := netip.AddrFromSlice(a.Value); ok && addr.Is4() {
				s.DNS = append(s.DNS, addr)
			}
		case ikewire.AttrInternalIP4NBNS:
			if addr, ok := netip.AddrFromSlice(a.Value); ok && addr.Is4() {
				s.WINS = append(s.WINS, addr)
			}
		case ikewire.AttrInternalIP4Subnet:
			if len(a.Value) != 8 {
				continue
			}
			addr, _ := netip.AddrFromSlice(a.Value[:4])
			mask := binary.BigEndian.Uint32(a.Value[4:])
			if ones := bits.LeadingZeros32(^mask); mask == ^uint32(0)<<(32-ones) {
				s.Networks = append(s.Networks, netip.PrefixFrom(addr, ones))
			}
		}
	}
	return addrs, s
}
