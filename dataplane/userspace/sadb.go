package userspace

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// restTime is how long a slot rests before its next SPI: longer than any packet
// or retransmission for the last one is under way.
const restTime = 2 * time.Minute

// sa is a slot: a Child SA, a reserved SPI, or nothing.
type sa struct {
	spi   dataplane.SPI // inbound; 0 while the slot is free
	state saState
	esn   bool
	// active: UseOutbound was applied.
	active bool
	// told: events that are not repeated.
	softTold, hardTold bool

	virtual4, virtual6 netip.Addr // invalid where there is none
	open, seal         esp.Transform
	outboundSPI        uint32
	// innerMTU of the path, and next, the lowest sequence number never sent; 0
	// when all are used up.
	innerMTU int
	next     uint64
	counters counters
	// at and peer are the ends of the path.
	at     *local
	peer   netip.AddrPort
	window esp.Window
	// Read-only parts of child that each packet needs.
	localSelectors, remoteSelectors []dataplane.Selector
	hard, soft                      dataplane.Limits

	// child is ours, keys included.
	child *dataplane.Child
	// activation orders the children of an address: the highest is the newest.
	activation uint64
	// hinted is when AddressChanged was last told.
	hinted time.Duration

	// Of the slot, not of the SA. used: it had an SPI before, with the tag of
	// lastSPI; freed says when that ended.
	used    bool
	lastSPI dataplane.SPI
	freed   time.Duration
}

type saState uint8

const (
	saFree saState = iota
	saReserved
	saInstalled
)

// counters of an SA. Times are those of the loop's clock, never when 0.
type counters struct {
	bytesIn, packetsIn   uint64
	bytesOut, packetsOut uint64
	lastIn, lastOut      time.Duration
}

// reached says whether one of the limits is used up by both directions together.
func (c *counters) reached(l *dataplane.Limits) bool {
	return l.Bytes != 0 && c.bytesIn+c.bytesOut >= l.Bytes || l.Packets != 0 && c.packetsIn+c.packetsOut >= l.Packets
}

// sadb is the table of SAs of one loop, which alone may touch it.
type sadb struct {
	member, loop uint8
	maxChildren  int
	// taken counts reserved and installed slots.
	taken int
	// tables by member: the SPIs of this process and those that it imported
	// from the other one. Slots stay where they are.
	tables [2][]sa
	// fresh is the lowest slot of the own table that may never have been used.
	fresh uint32
	// resting is a ring of freed slots of the own table, the longest free first.
	resting              []uint32
	restingAt, restCount int

	// returned are slots of the own table whose SPI was never installed; they
	// need no rest.
	returned []uint32

	// virtual counts the installed children of each virtual address.
	virtual map[netip.Addr]int
	// routes: the children that carry packets to a virtual address, newest first.
	routes      map[netip.Addr][]*sa
	activations uint64
}

func newSADB(member, loop uint8, maxChildren int) *sadb {
	// Twice the children: half of the slots may rest.
	slots := min(firstSlot+2*maxChildren, maxSlots)
	db := &sadb{
		member: member, loop: loop, maxChildren: maxChildren,
		fresh: firstSlot, resting: make([]uint32, slots),
		virtual: make(map[netip.Addr]int),
		routes:  make(map[netip.Addr][]*sa),
	}
	db.tables[member] = make([]sa, slots)
	return db
}

// find returns the slot that has spi now, reserved or installed, or nil.
func (db *sadb) find(spi dataplane.SPI) *sa {
	table := db.tables[memberOf(spi)]
	slot := slotOf(spi)
	if int(slot) >= len(table) || table[slot].spi != spi || spi == 0 {
		return nil
	}
	return &table[slot]
}

// installed is find for installed ones only.
func (db *sadb) installed(spi dataplane.SPI) *sa {
	s := db.find(spi)
	if s == nil || s.state != saInstalled {
		return nil
	}
	return s
}

// all calls yield for each installed SA.
func (db *sadb) all(yield func(*sa) bool) {
	for m := range db.tables {
		for i := range db.tables[m] {
			if s := &db.tables[m][i]; s.state == saInstalled && !yield(s) {
				return
			}
		}
	}
}

// reserve draws an SPI.
func (db *sadb) reserve(now time.Duration) (dataplane.SPI, error) {
	if db.taken >= db.maxChildren {
		return 0, dataplane.ErrFull
	}
	slot, ok := db.freeSlot(now)
	if !ok {
		return 0, dataplane.ErrFull
	}
	s := &db.tables[db.member][slot]
	tag := uint8(rand.Uint32N(tags))
	for s.used && tag == tagOf(s.lastSPI) {
		tag = uint8(rand.Uint32N(tags))
	}
	s.spi = makeSPI(db.member, db.loop, slot, tag)
	s.state = saReserved
	s.used = true
	db.taken++
	return s.spi, nil
}

// freeSlot prefers a slot that was used before, which keeps the table dense.
func (db *sadb) freeSlot(now time.Duration) (uint32, bool) {
	table := db.tables[db.member]
	if last := len(db.returned) - 1; last >= 0 {
		slot := db.returned[last]
		db.returned = db.returned[:last]
		return slot, true
	}
	if db.restCount > 0 {
		if slot := db.resting[db.restingAt]; now-table[slot].freed >= restTime {
			db.restingAt = (db.restingAt + 1) % len(db.resting)
			db.restCount--
			return slot, true
		}
	}
	for ; int(db.fresh) < len(table); db.fresh++ {
		if !table[db.fresh].used {
			db.fresh++
			return db.fresh - 1, true
		}
	}
	return 0, false
}

// free erases a slot and lays it to rest. A slot that was only reserved can be
// used at once: nobody had keys to send anything to its SPI, and the next one
// has another tag.
func (db *sadb) free(s *sa, now time.Duration) {
	db.unroute(s)
	spi, installed := s.spi, s.state == saInstalled
	if s.child != nil {
		db.vacate(s)
		s.child.EraseKeys()
	}
	*s = sa{used: true, lastSPI: spi, freed: now}
	db.taken--
	switch {
	case memberOf(spi) != db.member:
	case installed:
		db.resting[(db.restingAt+db.restCount)%len(db.resting)] = slotOf(spi)
		db.restCount++
	default:
		db.returned = append(db.returned, slotOf(spi))
	}
}

// occupy notes the virtual addresses of an SA that was installed.
func (db *sadb) occupy(s *sa) {
	for _, addr := range s.child.VirtualIPs {
		db.virtual[addr]++
	}
}

// vacate is the inverse.
func (db *sadb) vacate(s *sa) {
	for _, addr := range s.child.VirtualIPs {
		if db.virtual[addr]--; db.virtual[addr] == 0 {
			delete(db.virtual, addr)
		}
	}
}

// route makes s the newest child of its addresses.
func (db *sadb) route(s *sa) {
	db.unroute(s)
	s.active = true
	db.activations++
	s.activation = db.activations
	for _, addr := range s.child.VirtualIPs {
		db.routes[addr] = slices.Insert(db.routes[addr], 0, s)
	}
}

func (db *sadb) unroute(s *sa) {
	if !s.active {
		return
	}
	for _, addr := range s.child.VirtualIPs {
		left := slices.DeleteFunc(db.routes[addr], func(other *sa) bool { return other == s })
		if len(left) == 0 {
			delete(db.routes, addr)
		} else {
			db.routes[addr] = left
		}
	}
	s.active = false
}

// makeRoom provides the table for SPIs that the other member drew, up to
// slot. It can't grow later.
func (db *sadb) makeRoom(slot uint32) {
	if other := db.member ^ 1; db.tables[other] == nil {
		db.tables[other] = make([]sa, max(int(slot)+1, len(db.tables[db.member])))
	}
}

// place gives an imported SPI its slot; ErrFull where that is beyond the table,
// ErrInvalid where it is not free.
func (db *sadb) place(spi dataplane.SPI) (*sa, error) {
	m, slot := memberOf(spi), slotOf(spi)
	if int(slot) >= len(db.tables[m]) || db.taken >= db.maxChildren {
		return nil, dataplane.ErrFull
	}
	s := &db.tables[m][slot]
	if s.used && m == db.member || s.state != saFree || loopOf(spi) != db.loop || slot < firstSlot {
		return nil, dataplane.ErrInvalid
	}
	s.spi, s.state, s.used = spi, saInstalled, true
	db.taken++
	return s, nil
}

// unplace undoes place.
func (db *sadb) unplace(spi dataplane.SPI) {
	if s := db.find(spi); s != nil {
		db.vacate(s)
		*s = sa{}
		db.taken--
	}
}
