package xfrm

import (
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// selector of a policy: prefixes, a protocol, and ports under masks. For ICMP
// sport is the type and dport the code, in both directions. It is comparable.
type selector struct {
	src, dst     netip.Prefix
	proto        uint8
	sport, smask uint16
	dport, dmask uint16
}

// policyKey is what the kernel tells policies of one interface apart by.
type policyKey struct {
	dir direction
	sel selector
}

// template names the SA that a policy wants; zero values are any.
type template struct {
	src, dst netip.Addr
	spi      dataplane.SPI
	reqid    uint32
}

// policy of the interface ifID. A blocking one has no template.
type policy struct {
	policyKey
	ifID     uint32
	priority uint32
	block    bool
	template template
}

func anyPrefix(like netip.Addr) netip.Prefix {
	if like.Is4() {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// putSelector writes struct xfrm_selector.
func putSelector(to []byte, s selector) {
	putAddr(to, s.dst.Addr())
	putAddr(to[16:], s.src.Addr())
	network.PutUint16(to[32:], s.dport)
	network.PutUint16(to[34:], s.dmask)
	network.PutUint16(to[36:], s.sport)
	network.PutUint16(to[38:], s.smask)
	native.PutUint16(to[40:], family(s.dst.Addr()))
	to[42] = uint8(s.dst.Bits())
	to[43] = uint8(s.src.Bits())
	to[44] = s.proto
}

// putPolicy appends XFRM_MSG_NEWPOLICY, which fails where there is one, or
// XFRM_MSG_UPDPOLICY, which replaces it.
func (b *batch) putPolicy(kind uint16, p *policy) {
	b.begin(kind, 0)
	info := b.room(lenPolicyInfo)
	putSelector(info, p.sel)
	for i := range 4 {
		native.PutUint64(info[lenSelector+8*i:], infinite)
	}
	native.PutUint32(info[152:], p.priority)
	info[160] = uint8(p.dir)
	if p.block {
		info[161] = actionBlock
	} else {
		b.putTemplate(&p.template, p.sel.dst.Addr())
	}
	b.attr32(attrIfID, p.ifID)
	b.end()
}

// putTemplate appends one struct xfrm_user_tmpl. Where it names no addresses its
// family is that of the selector, which the kernel doesn't look at then.
func (b *batch) putTemplate(t *template, like netip.Addr) {
	if t.dst.IsValid() {
		like = t.dst
	}
	to := b.attr(attrTemplates, lenTemplate)
	putAddr(to, t.dst)
	network.PutUint32(to[16:], uint32(t.spi))
	to[20] = unix.IPPROTO_ESP
	native.PutUint16(to[24:], family(like))
	putAddr(to[28:], t.src)
	native.PutUint32(to[44:], t.reqid)
	to[48] = modeTunnel
	for i := range 3 { // any algorithm
		native.PutUint32(to[52+4*i:], ^uint32(0))
	}
}

// delPolicy appends XFRM_MSG_DELPOLICY.
func (b *batch) delPolicy(key policyKey, ifID uint32) {
	b.begin(msgDelPolicy, 0)
	id := b.room(lenPolicyID)
	putSelector(id, key.sel)
	id[60] = uint8(key.dir)
	b.attr32(attrIfID, ifID)
	b.end()
}

// thresholds say from which prefix lengths on a policy is found by a hash.
type thresholds struct{ local4, remote4, local6, remote6 uint8 }

// newSPDInfo appends XFRM_MSG_NEWSPDINFO.
func (b *batch) newSPDInfo(t thresholds) {
	b.begin(msgNewSPDInfo, 0)
	native.PutUint32(b.room(4), ^uint32(0))
	copy(b.attr(attrThreshold4, 2), []byte{t.local4, t.remote4})
	copy(b.attr(attrThreshold6, 2), []byte{t.local6, t.remote6})
	b.end()
}

// getSPDInfo appends XFRM_MSG_GETSPDINFO.
func (b *batch) getSPDInfo() {
	b.begin(msgGetSPDInfo, 0)
	native.PutUint32(b.room(4), ^uint32(0))
	b.end()
}
