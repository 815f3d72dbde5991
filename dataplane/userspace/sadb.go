package userspace

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

const (
	// restTime is how long an SPI rests before it is handed out again: longer than
	// any packet or retransmission for it is under way.
	restTime = 2 * time.Minute
	// slotRest is how long its slot does while there are others: a fleet that is
	// rekeyed within restTime doesn't take twice the table.
	slotRest = 10 * time.Second
)

// sa is a slot: a Child SA, a reserved SPI, or nothing. It has no pointers, so
// that garbage collection never walks the table, and what each packet needs
// stands at its beginning.
type sa struct {
	spi         dataplane.SPI // inbound; 0 while the slot is free
	outboundSPI uint32
	state       saState
	esn         bool
	// active: UseOutbound was applied.
	active bool
	// told: events that are not repeated.
	softTold, hardTold bool
	// has4 and has6: virtual4 and virtual6 are set; first6: in the other order.
	has4, has6, first6 bool
	// remoteVirtual: the remote selectors are the virtual addresses, so that
	// nothing is left to be compared.
	remoteVirtual bool
	// at is the local end of the path.
	at uint8
	// innerMTU of the path.
	innerMTU uint16
	// cipher is 1 + the place of the transforms in the cache; 0: they aren't there.
	cipher uint32
	policy policyRef
	keys   keyRef
	// peer is the far end of the path.
	peer endpoint
	// next is the lowest sequence number never sent; 0 when all are used up.
	next       uint64
	counters   counters
	hard, soft dataplane.Limits
	virtual4   [4]byte
	virtual6   [16]byte
	window     esp.Window

	// older4 and older6 are the next older active children of the addresses.
	older4, older6 dataplane.SPI
	// activation orders children: the highest is the newest.
	activation uint64
	// hinted is when AddressChanged was last told.
	hinted time.Duration

	// Of the slot, not of the SA. used: it had an SPI before, with the tag of
	// lastSPI; freed says when that ended.
	used    bool
	lastSPI dataplane.SPI
	freed   time.Duration
	// half is when the last SPI with a tag of the other half was freed.
	half time.Duration
	// early: the slot was handed out before it had rested.
	early bool
}

type saState uint8

const (
	saFree saState = iota
	saReserved
	saInstalled
)

// endpoint is a netip.AddrPort without a pointer.
type endpoint struct {
	addr [16]byte
	port uint16
	v6   bool
}

func endpointOf(a netip.AddrPort) endpoint {
	return endpoint{addr: a.Addr().As16(), port: a.Port(), v6: a.Addr().Is6()}
}

func (e *endpoint) addrPort() netip.AddrPort {
	if e.v6 {
		return netip.AddrPortFrom(netip.AddrFrom16(e.addr), e.port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(e.addr[12:])), e.port)
}

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

// has says whether a is a virtual address of s.
func (s *sa) has(a netip.Addr) bool {
	if a.Is4() {
		return s.has4 && a.As4() == s.virtual4
	}
	return s.has6 && a.As16() == s.virtual6
}

// virtualIPs in the order in which they were given.
func (s *sa) virtualIPs() []netip.Addr {
	var list []netip.Addr
	if s.has4 {
		list = append(list, netip.AddrFrom4(s.virtual4))
	}
	if s.has6 {
		list = append(list, netip.AddrFrom16(s.virtual6))
	}
	if s.first6 && len(list) == 2 {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

const (
	chunkBits = 8
	chunkLen  = 1 << chunkBits
)

// table is the slots of one member, in chunks that come when they are needed
// and stay where they are.
type table struct {
	chunks []*[chunkLen]sa
	slots  uint32 // that there may be
}

// at returns a slot, nil where it doesn't exist yet.
func (t *table) at(slot uint32) *sa {
	chunk := slot >> chunkBits
	if chunk >= uint32(len(t.chunks)) || t.chunks[chunk] == nil {
		return nil
	}
	return &t.chunks[chunk][slot&(chunkLen-1)]
}

// make returns a slot below slots.
func (t *table) make(slot uint32) *sa {
	chunk := int(slot >> chunkBits)
	for len(t.chunks) <= chunk {
		t.chunks = append(t.chunks, nil)
	}
	if t.chunks[chunk] == nil {
		t.chunks[chunk] = new([chunkLen]sa)
	}
	return &t.chunks[chunk][slot&(chunkLen-1)]
}

// sadb is the SAs of one loop, which alone may touch it.
type sadb struct {
	member, loop uint8
	// directory is what all loops know.
	directory *directory
	// tables by member: the SPIs of this process and those that it imported
	// from the other one.
	tables   [2]table
	policies policies
	keys     keyArena
	ciphers  cipherCache
	// fresh is the lowest slot of the own table that may never have been used.
	fresh uint32
	// resting are freed slots of the own table, the longest free first.
	resting queue
	// returned are slots of the own table whose SPI was never installed; they
	// need no rest.
	returned []uint32

	// newest active child of each virtual address, by its 16 octets.
	newest map[[16]byte]dataplane.SPI
	// aside are the same of addresses whose newest child is in another loop.
	aside map[[16]byte]dataplane.SPI
}

func newSADB(member, loop uint8, maxChildren, maxCiphers int, d *directory) *sadb {
	db := &sadb{
		member: member, loop: loop, directory: d, fresh: firstSlot,
		newest: make(map[[16]byte]dataplane.SPI), aside: make(map[[16]byte]dataplane.SPI),
	}
	// Twice the children: half of the slots may rest.
	db.tables[member].slots = uint32(min(firstSlot+2*maxChildren, maxSlots))
	db.tables[member^1].slots = maxSlots
	db.ciphers.max = maxCiphers
	return db
}

// find returns the slot that has spi now, reserved or installed, or nil.
func (db *sadb) find(spi dataplane.SPI) *sa {
	s := db.tables[memberOf(spi)].at(slotOf(spi))
	if s == nil || s.spi != spi || spi == 0 {
		return nil
	}
	return s
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
		for _, chunk := range db.tables[m].chunks {
			if chunk == nil {
				continue
			}
			for i := range chunk {
				if s := &chunk[i]; s.state == saInstalled && !yield(s) {
					return
				}
			}
		}
	}
}

// reserve draws an SPI.
func (db *sadb) reserve(now time.Duration) (dataplane.SPI, error) {
	if !db.directory.take() {
		return 0, dataplane.ErrFull
	}
	slot, ok := db.freeSlot(now)
	if !ok {
		db.directory.giveBack()
		return 0, dataplane.ErrFull
	}
	s := db.tables[db.member].make(slot)
	tag := uint8(rand.Uint32N(tags))
	if s.used {
		tag = nextTag(s.lastSPI)
		if tag%halfTags == 0 {
			s.half = s.freed
		}
	}
	s.spi = makeSPI(db.member, db.loop, slot, tag)
	s.state = saReserved
	s.used = true
	return s.spi, nil
}

// halfTags: tags are given in turn, and a slot that has not rested goes from one
// half of them to the other only when no SPI of that half was used for restTime.
const halfTags = tags / 2

func nextTag(last dataplane.SPI) uint8 { return (tagOf(last) + 1) % tags }

// restedTag says whether the SPI after the last one has rested.
func (s *sa) restedTag(now time.Duration) bool {
	return nextTag(s.lastSPI)%halfTags != 0 || s.half == 0 || now-s.half >= restTime
}

// freeSlot prefers a slot that was used before, which keeps the table dense. When
// all rest, the one that has rested longest is woken: devices that come and go
// quickly must not keep others out.
func (db *sadb) freeSlot(now time.Duration) (uint32, bool) {
	own := &db.tables[db.member]
	if last := len(db.returned) - 1; last >= 0 {
		slot := db.returned[last]
		db.returned = db.returned[:last]
		return slot, true
	}
	if slot, ok := db.resting.first(); ok {
		s := own.at(slot)
		rested := now-s.freed >= restTime
		if rested || now-s.freed >= slotRest && s.restedTag(now) {
			db.resting.pop()
			s.early = !rested
			return slot, true
		}
	}
	for ; db.fresh < own.slots; db.fresh++ {
		if s := own.at(db.fresh); s == nil || !s.used {
			db.fresh++
			return db.fresh - 1, true
		}
	}
	if slot, ok := db.resting.first(); ok && own.at(slot).restedTag(now) {
		db.resting.pop()
		own.at(slot).early = true
		return slot, true
	}
	return 0, false
}

// free erases a slot and lays it to rest. A slot that had rested and was only
// reserved can be used at once: nobody had keys to send anything to its SPI, and
// the next one has another tag.
func (db *sadb) free(s *sa, now time.Duration) {
	db.unroute(s)
	spi, installed := s.spi, s.state == saInstalled
	if installed {
		db.take(s)
	}
	half, early := s.half, s.early
	*s = sa{used: true, lastSPI: spi, freed: now, half: half}
	db.directory.giveBack()
	switch {
	case memberOf(spi) != db.member:
	case installed || early:
		db.resting.push(slotOf(spi))
	default:
		db.returned = append(db.returned, slotOf(spi))
	}
}

// take is the inverse of put.
func (db *sadb) take(s *sa) {
	for _, addr := range s.virtualIPs() {
		db.directory.vacate(addr)
	}
	db.ciphers.drop(s)
	db.keys.free(s.keys)
	db.policies.release(s.policy)
}

// route makes s the newest child of its addresses.
func (db *sadb) route(s *sa) {
	db.unroute(s)
	s.active = true
	s.activation = db.directory.activate()
	for _, addr := range s.virtualIPs() {
		key := addr.As16()
		db.retake(addr)
		*s.older(addr) = db.newest[key]
		db.newest[key] = s.spi
		db.directory.lead(addr, db.loop)
	}
}

func (db *sadb) unroute(s *sa) {
	if !s.active {
		return
	}
	s.active = false
	for _, addr := range s.virtualIPs() {
		key := addr.As16()
		heads := db.newest
		if _, ok := heads[key]; !ok {
			heads = db.aside
		}
		at := heads[key]
		if at == s.spi {
			if older := *s.older(addr); older != 0 {
				heads[key] = older
			} else {
				delete(heads, key)
			}
			continue
		}
		for at != 0 {
			link := db.find(at).older(addr)
			if *link == s.spi {
				*link = *s.older(addr)
				break
			}
			at = *link
		}
	}
	s.older4, s.older6 = 0, 0
}

// older is the link to the next older child of that address.
func (s *sa) older(addr netip.Addr) *dataplane.SPI {
	if addr.Is4() {
		return &s.older4
	}
	return &s.older6
}

// yield: another loop has the newest child of that address from now on.
func (db *sadb) yield(addr netip.Addr) {
	key := addr.As16()
	if spi, ok := db.newest[key]; ok {
		db.aside[key] = spi
		delete(db.newest, key)
	}
}

// retake is the inverse.
func (db *sadb) retake(addr netip.Addr) {
	key := addr.As16()
	if spi, ok := db.aside[key]; ok {
		db.newest[key] = spi
		delete(db.aside, key)
	}
}

// leads says whether an active child of that address is here and not aside.
func (db *sadb) leads(addr netip.Addr) bool {
	_, ok := db.newest[addr.As16()]
	return ok
}

// waiting is the activation of the newest child of an address that was yielded, 0
// where there is none.
func (db *sadb) waiting(addr netip.Addr) uint64 {
	if s := db.find(db.aside[addr.As16()]); s != nil {
		return s.activation
	}
	return 0
}

// place gives an imported SPI its slot, reserved; ErrFull where that is beyond
// the table, ErrInvalid where it is not free.
func (db *sadb) place(spi dataplane.SPI) (*sa, error) {
	m, slot := memberOf(spi), slotOf(spi)
	t := &db.tables[m]
	if slot < firstSlot || loopOf(spi) != db.loop {
		return nil, dataplane.ErrInvalid
	}
	if slot >= t.slots || !db.directory.take() {
		return nil, dataplane.ErrFull
	}
	s := t.make(slot)
	if s.used && m == db.member || s.state != saFree {
		db.directory.giveBack()
		return nil, dataplane.ErrInvalid
	}
	s.spi, s.state, s.used = spi, saReserved, true
	return s, nil
}

// unplace undoes place.
func (db *sadb) unplace(spi dataplane.SPI) {
	if s := db.find(spi); s != nil {
		*s = sa{}
		db.directory.giveBack()
	}
}

// queue of slots, first in, first out.
type queue struct {
	ring        []uint32
	head, count int
}

func (q *queue) first() (uint32, bool) {
	if q.count == 0 {
		return 0, false
	}
	return q.ring[q.head], true
}

func (q *queue) pop() {
	q.head = (q.head + 1) % len(q.ring)
	q.count--
}

func (q *queue) push(slot uint32) {
	if q.count == len(q.ring) {
		ring := make([]uint32, max(64, 2*len(q.ring)))
		for i := range q.count {
			ring[i] = q.ring[(q.head+i)%len(q.ring)]
		}
		q.ring, q.head = ring, 0
	}
	q.ring[(q.head+q.count)%len(q.ring)] = slot
	q.count++
}
