package userspace

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// policy is what many children have in common.
type policy struct {
	algorithm     dataplane.Algorithm
	layout        esp.Layout
	local, remote []dataplane.Selector // remote is empty with sa.remoteVirtual
	group         string
}

// policyRef is a place among policies.
type policyRef uint32

// policies keeps one of each, with the number of its children.
type policies struct {
	list  []policy
	users []uint32
	keys  []string
	known map[string]policyRef
	free  []policyRef
}

// key is the same for the same policies.
func (p *policy) key() string {
	b := binary.BigEndian.AppendUint16(nil, p.algorithm.Encryption)
	b = binary.BigEndian.AppendUint16(b, p.algorithm.KeyBits)
	b = binary.BigEndian.AppendUint16(b, p.algorithm.Integrity)
	for _, list := range [][]dataplane.Selector{p.local, p.remote} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(list)))
		b = dataplane.AppendSelectors(b, list)
	}
	return string(append(b, p.group...))
}

// hold returns the place of p for one child more.
func (ps *policies) hold(p *policy) policyRef {
	key := p.key()
	if at, ok := ps.known[key]; ok {
		ps.users[at]++
		return at
	}
	at := policyRef(len(ps.list))
	if last := len(ps.free) - 1; last >= 0 {
		at, ps.free = ps.free[last], ps.free[:last]
	} else {
		ps.list, ps.users, ps.keys = append(ps.list, policy{}), append(ps.users, 0), append(ps.keys, "")
	}
	if ps.known == nil {
		ps.known = make(map[string]policyRef)
	}
	ps.list[at], ps.users[at], ps.keys[at] = *p, 1, key
	ps.known[key] = at
	return at
}

// release is the inverse.
func (ps *policies) release(at policyRef) {
	if ps.users[at]--; ps.users[at] > 0 {
		return
	}
	delete(ps.known, ps.keys[at])
	ps.list[at], ps.keys[at] = policy{}, ""
	ps.free = append(ps.free, at)
}

func (ps *policies) at(ref policyRef) *policy { return &ps.list[ref] }

// remoteIsVirtual says whether the remote selectors of a child are its virtual
// addresses, one each in their order, and anything of them.
func remoteIsVirtual(c *dataplane.Child) bool {
	return slices.EqualFunc(c.VirtualIPs, c.Remote, func(a netip.Addr, s dataplane.Selector) bool {
		return s.Protocol == 0 && s.First == a && s.Last == a && anyPort(&s)
	})
}
