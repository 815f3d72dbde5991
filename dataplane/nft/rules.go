package nft

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/acl"
)

// family of addresses: where its header has what.
type family struct {
	name                string
	proto               byte
	key                 nftables.SetDatatype
	source, destination uint32
	length              uint32
}

var families = [2]family{
	{"ipv4", unix.NFPROTO_IPV4, nftables.TypeIPAddr, 12, 16, net.IPv4len},
	{"ipv6", unix.NFPROTO_IPV6, nftables.TypeIP6Addr, 8, 24, net.IPv6len},
}

// only packets of the family.
func (f family) only() []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{f.proto}},
	}
}

// local loads the device's address, remote the other one.
func (f family) local(d acl.Direction) expr.Any {
	if d == acl.In {
		return f.address(f.source)
	}
	return f.address(f.destination)
}

func (f family) remote(d acl.Direction) expr.Any { return f.local(acl.In + acl.Out - d) }

func (f family) address(offset uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.length}
}

// later loads the fragment's offset and goes on if it isn't zero: the packet is
// a fragment behind the first.
func (f family) later() []expr.Any {
	load, mask := expr.Any(&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2}), []byte{0x1f, 0xff}
	if f.proto == unix.NFPROTO_IPV6 {
		load, mask = &expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}, []byte{0xff, 0xf8}
	}
	return []expr.Any{
		load,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte{0, 0}},
	}
}

// counter of a verdict.
func counter(d int, v acl.Verdict) string { return fmt.Sprintf("%v_%v", acl.Direction(d), v) }

// end counts a verdict and gives it.
func end(d acl.Direction, v acl.Verdict) []expr.Any {
	kind := expr.VerdictDrop
	if v == acl.VerdictPass {
		kind = expr.VerdictAccept
	}
	return []expr.Any{
		&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: counter(int(d), v)},
		&expr.Verdict{Kind: kind},
	}
}

// rules of a list in a chain that has none. Where a rule looks at ports, a
// fragment behind the first is dropped before it.
func (a *Access) rules(conn *nftables.Conn, chain *nftables.Chain, d acl.Direction, l *acl.List) {
	add := func(parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		conn.AddRule(&nftables.Rule{Table: a.table, Chain: chain, Exprs: all})
	}
	if l == nil {
		add(end(d, acl.VerdictPass))
		return
	}
	for _, r := range l.Rules() {
		f := families[0]
		if r.Remote.Addr().Is6() {
			f = families[1]
		}
		match := f.only()
		if r.Remote.Bits() > 0 {
			mask := net.CIDRMask(r.Remote.Bits(), int(f.length)*8)
			match = append(match, f.remote(d),
				&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: f.length, Mask: mask, Xor: make([]byte, f.length)},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: r.Remote.Addr().AsSlice()})
		}
		if r.Protocol != 0 {
			match = append(match,
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{r.Protocol}})
		}
		verdict := acl.VerdictDenied
		if r.Allow {
			verdict = acl.VerdictPass
		}
		if r.AnyPort() {
			add(match, end(d, verdict))
			continue
		}
		add(match, f.later(), end(d, acl.VerdictFragment))
		offset := uint32(2) // of the destination port
		if d == acl.Out {
			offset = 0
		}
		add(match, []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: 2},
			&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: binaryutil.BigEndian.PutUint16(r.First), ToData: binaryutil.BigEndian.PutUint16(r.Last)},
		}, end(d, verdict))
	}
	add(end(d, acl.VerdictDenied))
}
