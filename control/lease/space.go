package lease

import (
	"math"
	"net/netip"
	"sort"
)

// Family of an address.
type Family uint8

// Families. The zero value is IPv4.
const (
	IPv4 Family = iota
	IPv6

	numFamilies = 2
)

// String is "IPv4" or "IPv6".
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	}
	return "unknown"
}

func familyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// key is an address in 16 octets, IPv4 as IPv4-mapped: 8 octets and a pointer
// less than a netip.Addr.
type key [16]byte

func keyOf(a netip.Addr) key        { return a.As16() }
func (k key) addr() netip.Addr      { return netip.AddrFrom16(k).Unmap() }
func (k key) family() Family        { return familyOf(k.addr()) }
func (k key) compare(other key) int { return k.addr().Compare(other.addr()) }

// space is what can be handed out of one family.
type space struct {
	pools    []pool   // in the order of use
	byFirst  []uint32 // indices of pools, sorted by address
	excluded map[netip.Addr]struct{}
	// neighbours hand out these; here they are only taken over.
	neighbours []netip.Prefix
	// capacity in addresses; math.MaxUint64 also stands for more than that.
	capacity uint64
}

// pool is a range of addresses, both ends included. It is not spelled out in
// memory: addresses from next on without a lease were never assigned, or were
// forgotten since.
type pool struct {
	first, last netip.Addr
	// next is invalid when it has passed last.
	next netip.Addr
}

func (sp *space) add(p netip.Prefix) {
	first := p.Addr()
	last := lastOf(p)
	host := first.BitLen() - p.Bits()
	if host > 1 {
		first = first.Next()
		if first.Is4() {
			last = last.Prev()
		}
	}
	size := uint64(math.MaxUint64)
	if host < 64 {
		size = 1 << host
		if host > 1 {
			size-- // first
			if first.Is4() {
				size-- // last
			}
		}
	}
	if sp.capacity+size < size {
		sp.capacity = math.MaxUint64
	} else {
		sp.capacity += size
	}
	sp.pools = append(sp.pools, pool{first: first, last: last, next: first})
	sp.byFirst = append(sp.byFirst, uint32(len(sp.pools)-1))
	sort.Slice(sp.byFirst, func(i, j int) bool {
		return sp.pools[sp.byFirst[i]].first.Less(sp.pools[sp.byFirst[j]].first)
	})
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// inPools: a lies between the first and last address of a pool.
func (sp *space) inPools(a netip.Addr) bool {
	i := sort.Search(len(sp.byFirst), func(i int) bool {
		return a.Less(sp.pools[sp.byFirst[i]].first)
	})
	return i > 0 && !sp.pools[sp.byFirst[i-1]].last.Less(a)
}

// usable: a may be handed out.
func (sp *space) usable(a netip.Addr) bool {
	_, no := sp.excluded[a]
	return !no && sp.inPools(a)
}

// queue of leases, that which is unused longest first, linked through them.
type queue struct {
	head, tail *lease
	length     int
}

// push appends l, as the one used last.
func (q *queue) push(l *lease) {
	l.prev = q.tail
	if q.tail != nil {
		q.tail.next = l
	} else {
		q.head = l
	}
	q.tail = l
	q.length++
}

func (q *queue) remove(l *lease) {
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		q.head = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		q.tail = l.prev
	}
	l.prev, l.next = nil, nil
	q.length--
}

// neighbourly: the address can be taken over from another gateway.
func (sp *space) neighbourly(a netip.Addr) bool {
	if _, no := sp.excluded[a]; no {
		return false
	}
	for _, p := range sp.neighbours {
		if p.Contains(a) {
			return a != p.Addr() && (a.Is6() || a != lastOf(p)) || p.Bits() >= a.BitLen()-1
		}
	}
	return false
}
