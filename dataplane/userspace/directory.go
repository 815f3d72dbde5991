package userspace

import (
	"net/netip"
	"sync"
	"sync/atomic"
)

// directory is what the loops share: which of them has the children of a virtual
// address, and how many children there are. Packets that come where they belong
// don't ask it.
type directory struct {
	loops int
	max   int64
	// taken counts reserved and installed slots.
	taken       atomic.Int64
	activations atomic.Uint64

	mu      sync.RWMutex
	holders map[[16]byte]holder // by virtual address
}

// holder of a virtual address.
type holder struct {
	children uint32 // installed, in all loops
	loop     uint8  // that has the newest
}

func newDirectory(loops, maxChildren int) *directory {
	return &directory{loops: loops, max: int64(maxChildren), holders: make(map[[16]byte]holder)}
}

// take one of the places for children; false when there is none.
func (d *directory) take() bool {
	if d.taken.Add(1) > d.max {
		d.taken.Add(-1)
		return false
	}
	return true
}

func (d *directory) giveBack() { d.taken.Add(-1) }

// activate is higher each time.
func (d *directory) activate() uint64 { return d.activations.Add(1) }

// owner is the loop for children of an address: the one that has them, or else
// one by its octets.
func (d *directory) owner(addr netip.Addr) uint8 {
	if h, ok := d.holder(addr); ok {
		return h.loop
	}
	return homeLoop(addr, d.loops)
}

// homeLoop spreads addresses over loops, neighbours in turn.
func homeLoop(addr netip.Addr, loops int) uint8 {
	b := addr.As16()
	var sum uint32
	for _, octet := range b {
		sum = sum*31 + uint32(octet)
	}
	return uint8(sum % uint32(loops))
}

func (d *directory) holder(addr netip.Addr) (holder, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	h, ok := d.holders[addr.As16()]
	return h, ok
}

// occupy notes that a child of an address was installed in a loop.
func (d *directory) occupy(addr netip.Addr, loop uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h, ok := d.holders[addr.As16()]
	if !ok {
		h.loop = loop
	}
	h.children++
	d.holders[addr.As16()] = h
}

// vacate is the inverse.
func (d *directory) vacate(addr netip.Addr) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.holders[addr.As16()]
	if h.children--; h.children == 0 {
		delete(d.holders, addr.As16())
		return
	}
	d.holders[addr.As16()] = h
}

// lead: the newest child of an occupied address is in that loop.
func (d *directory) lead(addr netip.Addr, loop uint8) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.holders[addr.As16()]
	h.loop = loop
	d.holders[addr.As16()] = h
}
