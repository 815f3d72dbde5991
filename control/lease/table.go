package lease

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dataplane/slab"
)

const (
	// maxDevice is the longest name of a device, in octets.
	maxDevice = 1024
	// wishInterval is how often a device may leave an address for another one
	// that it wants: each time leaves a free address behind.
	wishInterval = int64(time.Hour)
	// maxFree is how many free addresses of a family are remembered, and
	// forgetAtOnce how many are forgotten when another one becomes free.
	maxFree      = 65536
	forgetAtOnce = 2
)

// lease is an address that is or was assigned. It is in a queue if it is in
// the pools and not live: the idle queue if it belongs to a device, else the
// free queue.
type lease struct {
	home       *slab.Chunk[lease]
	key        key
	device     *device // nil: free
	prev, next *lease
	// since is when it was assigned; used is when its session began or ended,
	// or when it became free. Unix time in nanoseconds.
	since, used int64
	pooled      bool // lies in the pools
	stale       bool // used or live is not yet on disk; key is in table.stale
}

func (l *lease) live() bool { return l.device != nil && l.device.session != 0 }

// device exists as long as it has a lease.
type device struct {
	home    *slab.Chunk[device]
	name    string
	session SessionID // current one; 0: idle
	leases  [numFamilies]*lease
	// wished is when it last left an address for one that it wants; 0: never, as
	// far as this process knows.
	wished int64
}

// mayWish says whether a device with an address may have the one that it wants.
func (d *device) mayWish(now int64) bool { return d.wished == 0 || now-d.wished >= wishInterval }

// tally is what rollback restores by copying.
type tally struct {
	idle, free [numFamilies]queue
	forgot     [numFamilies]bool // free addresses behind the cursors were forgotten
	assigned   int               // leases with a device
	outside    int               // of these, outside the pools
	live       int               // devices with a session
	exhausted, displaced,
	reassigned uint64
}

// table decides who has which address. It does no I/O and reads no clock: now
// comes in, as Unix time in nanoseconds. What it changed since begin can be
// rolled back, for when it can't be written.
type table struct {
	tally
	devices map[string]*device
	leases  map[key]*lease
	spaces  [numFamilies]space
	maxFree int

	// changed lists addresses whose entry in the file is wrong since begin,
	// stale those of which only the time of last use or being live is.
	changed, stale []key

	places

	undo       []func()
	saved      tally
	savedStale int // length
}

func newTable(spaces [numFamilies]space) *table {
	return &table{
		devices: make(map[string]*device),
		leases:  make(map[key]*lease),
		spaces:  spaces,
		maxFree: maxFree,
	}
}

// begin starts a batch: what was done before stays.
func (t *table) begin() {
	clear(t.undo) // let go of what the functions hold
	t.giveBack()
	t.undo, t.changed = t.undo[:0], t.changed[:0]
	t.saved, t.savedStale = t.tally, len(t.stale)
}

// rollback takes back what was done since begin.
func (t *table) rollback() {
	for _, f := range slices.Backward(t.undo) {
		f()
	}
	t.tally, t.stale = t.saved, t.stale[:t.savedStale]
	t.gone, t.goneDevices = t.gone[:0], t.goneDevices[:0]
	t.begin()
}

// acquire answers a request that was checked. With readOnly a request that
// would change an assignment gets ErrStore.
func (t *table) acquire(req Request, now int64, readOnly bool) (Grant, error) {
	f := req.Family
	d := t.devices[req.Device]
	if req.Additional && (d == nil || d.session != req.Session) {
		return Grant{}, ErrNotCurrent
	}
	if len(t.spaces[f].pools) == 0 {
		return Grant{}, ErrNoPool
	}
	var had *lease
	if d != nil {
		had = d.leases[f]
	}
	grant := Grant{}
	// An address of a neighbour's is kept by those who bring it along.
	keeps := had != nil && (had.pooled || req.Entitled && had.key.addr() == req.Want)
	moves := d != nil && d.session == 0 && (req.Entitled || d.mayWish(now)) && t.vacant(f, req)
	if !keeps || moves {
		k, ok := t.choose(f, req)
		if !ok {
			t.exhausted++
			return Grant{}, ErrExhausted
		}
		if readOnly {
			return Grant{}, ErrStore
		}
		d = t.assign(k, req.Device, now)
		grant.New = true
		if keeps && !req.Entitled {
			t.editDevice(d).wished = now
		}
	}
	grant.Address = d.leases[f].key.addr()
	grant.Displaced = t.begun(d, req.Session, now)
	return grant, nil
}

// vacant: the request asks for an address that can be handed out and belongs
// to nobody.
func (t *table) vacant(f Family, req Request) bool {
	if !req.Want.IsValid() || familyOf(req.Want) != f {
		return false
	}
	if !t.spaces[f].usable(req.Want) && !(req.Entitled && t.spaces[f].neighbourly(req.Want)) {
		return false
	}
	l := t.leases[keyOf(req.Want)]
	return l == nil || l.device == nil
}

// choose picks the address for a device that needs one, by the order in the
// package comment.
func (t *table) choose(f Family, req Request) (key, bool) {
	if t.vacant(f, req) {
		return keyOf(req.Want), true
	}
	if k, ok := t.neverAssigned(f); ok {
		return k, true
	}
	if l := t.free[f].head; l != nil {
		return l.key, true
	}
	if t.forgot[f] {
		t.rewind(f)
		if k, ok := t.neverAssigned(f); ok {
			return k, true
		}
	}
	if l := t.idle[f].head; l != nil {
		return l.key, true
	}
	return key{}, false
}

// neverAssigned moves the pools' cursors over addresses that have a lease or
// are excluded. It passes each address once in the life of the pools, and once
// more after each rewind.
func (t *table) neverAssigned(f Family) (key, bool) {
	sp := &t.spaces[f]
	for i := range sp.pools {
		p := &sp.pools[i]
		if !p.next.IsValid() {
			continue
		}
		was := p.next
		for p.next.IsValid() {
			_, no := sp.excluded[p.next]
			if !no && t.leases[keyOf(p.next)] == nil {
				break
			}
			if p.next == p.last {
				p.next = netip.Addr{}
			} else {
				p.next = p.next.Next()
			}
		}
		if p.next != was {
			t.undo = append(t.undo, func() { p.next = was })
		}
		if p.next.IsValid() {
			return keyOf(p.next), true
		}
	}
	return key{}, false
}

// rewind sends the cursors back to look for what was forgotten. As many
// addresses as are remembered are assigned between two times, so that the way of
// the cursors has its price paid.
func (t *table) rewind(f Family) {
	t.forgot[f] = false
	pools := t.spaces[f].pools
	for i := range pools {
		p := &pools[i]
		was := p.next
		t.undo = append(t.undo, func() { p.next = was })
		p.next = p.first
	}
}

// forget drops what is free longest where more than enough is.
func (t *table) forget(f Family) {
	for range forgetAtOnce {
		if t.free[f].length <= t.maxFree {
			return
		}
		l := t.free[f].head
		t.unlink(&t.free[f], l)
		t.drop(l)
		t.changed = append(t.changed, l.key)
		t.forgot[f] = true
	}
}

// assign gives the address to the device, whose earlier one of that family it
// leaves, and takes it from the idle device that has it.
func (t *table) assign(k key, name string, now int64) *device {
	l := t.leases[k]
	switch {
	case l == nil:
		l = t.newLease(lease{key: k, pooled: t.spaces[k.family()].usable(k.addr())})
		if !l.pooled {
			t.outside++
		}
		t.undo = append(t.undo, func() { delete(t.leases, k); l.home.Put(l) })
	case l.device == nil && l.pooled:
		t.unlink(&t.free[k.family()], l)
	case l.device == nil: // it was free when its pool went
		t.outside++
	default:
		t.reassigned++
		if l.pooled {
			t.unlink(&t.idle[k.family()], l)
		}
		t.detach(l)
	}
	d := t.devices[name]
	if d == nil {
		d = t.newDevice(name)
		t.undo = append(t.undo, func() { delete(t.devices, name); d.home.Put(d) })
	}
	had := d.leases[k.family()]
	t.editDevice(d).leases[k.family()] = l
	t.edit(l).device = d
	l.since, l.used = now, now
	t.assigned++
	t.changed = append(t.changed, k)
	if d.session == 0 && l.pooled {
		t.link(&t.idle[k.family()], l)
	}
	if had != nil {
		t.vacate(had, now)
	}
	return d
}

// vacate frees an address that its device has left already or leaves now. One
// outside the pools is forgotten.
func (t *table) vacate(l *lease, now int64) {
	f := l.key.family()
	if l.pooled && !l.live() {
		t.unlink(&t.idle[f], l)
	}
	if !l.pooled {
		t.outside--
	}
	if l.device.leases[f] == l {
		t.detach(l)
	} else {
		t.edit(l).device = nil
		t.assigned--
	}
	t.changed = append(t.changed, l.key)
	if l.pooled {
		t.edit(l).used = now
		t.link(&t.free[f], l)
		t.forget(f)
		return
	}
	t.drop(l)
}

// detach parts a lease, which is in no queue, from its idle device, and forgets
// the device if that was its last one.
func (t *table) detach(l *lease) {
	d := l.device
	t.editDevice(d).leases[l.key.family()] = nil
	t.edit(l).device = nil
	t.assigned--
	if d.leases == [numFamilies]*lease{} {
		delete(t.devices, d.name)
		t.goneDevices = append(t.goneDevices, d)
		t.undo = append(t.undo, func() { t.devices[d.name] = d })
	}
}

// begun makes the session the current one and returns the one before it.
func (t *table) begun(d *device, s SessionID, now int64) (displaced SessionID) {
	if d.session == s {
		return 0
	}
	displaced = d.session
	if displaced != 0 {
		t.displaced++
	} else {
		t.live++
		t.eachPooled(d, func(l *lease) { t.unlink(&t.idle[l.key.family()], l) })
	}
	t.editDevice(d).session = s
	t.touch(d, now)
	return displaced
}

// end makes the device idle if the session is its current one.
func (t *table) end(name string, s SessionID, now int64) {
	d := t.devices[name]
	if d == nil || s == 0 || d.session != s {
		return
	}
	t.live--
	t.editDevice(d).session = 0
	t.touch(d, now)
	t.eachPooled(d, func(l *lease) { t.link(&t.idle[l.key.family()], l) })
}

// release frees what an idle device has.
func (t *table) release(name string, now int64, readOnly bool) error {
	d := t.devices[name]
	switch {
	case d == nil:
		return ErrUnknownDevice
	case d.session != 0:
		return ErrInUse
	case readOnly:
		return ErrStore
	}
	for _, l := range d.leases {
		if l != nil {
			t.vacate(l, now)
		}
	}
	return nil
}

func (t *table) eachPooled(d *device, do func(*lease)) {
	for _, l := range d.leases {
		if l != nil && l.pooled {
			do(l)
		}
	}
}

// touch notes that the device was seen; that gets to the file later.
func (t *table) touch(d *device, now int64) {
	for _, l := range d.leases {
		if l == nil {
			continue
		}
		t.edit(l).used = now
		if !l.stale {
			l.stale = true
			t.stale = append(t.stale, l.key)
		}
	}
}

// takeStale returns up to n addresses whose entry in the file is out of date.
func (t *table) takeStale(n int) []key {
	var keys []key
	for len(t.stale) > 0 && len(keys) < n {
		k := t.stale[len(t.stale)-1]
		t.stale = t.stale[:len(t.stale)-1]
		if l := t.leases[k]; l != nil && l.stale {
			keys = append(keys, k)
		}
	}
	return keys
}

// restore puts back what the file says. rebuild has to follow.
func (t *table) restore(k key, e entry) error {
	l := t.newLease(lease{key: k, since: e.since, used: e.used})
	if e.device == "" {
		return nil
	}
	d := t.devices[e.device]
	if d == nil {
		d = t.newDevice(e.device)
	}
	if other := d.leases[k.family()]; other != nil {
		return fmt.Errorf("device %q has both %v and %v", e.device, other.key.addr(), k.addr())
	}
	d.leases[k.family()], l.device = l, d
	if e.live { // and isn't any more
		l.stale = true
		t.stale = append(t.stale, k)
	}
	return nil
}

// rebuild fits the leases to the spaces. It looks at every lease.
func (t *table) rebuild(spaces [numFamilies]space) {
	t.begin()
	t.spaces = spaces
	t.idle, t.free = [numFamilies]queue{}, [numFamilies]queue{}
	t.forgot = [numFamilies]bool{}
	t.assigned, t.outside = 0, 0
	var waiting []*lease
	for _, l := range t.leases {
		l.prev, l.next = nil, nil
		l.pooled = t.spaces[l.key.family()].usable(l.key.addr())
		if l.device != nil {
			t.assigned++
			if !l.pooled {
				t.outside++
			}
		}
		if l.pooled && !l.live() {
			waiting = append(waiting, l)
		}
	}
	slices.SortFunc(waiting, func(a, b *lease) int {
		if c := cmp.Compare(a.used, b.used); c != 0 {
			return c
		}
		return a.key.compare(b.key)
	})
	for _, l := range waiting {
		if l.device == nil {
			t.free[l.key.family()].push(l)
		} else {
			t.idle[l.key.family()].push(l)
		}
	}
	for f := range t.spaces {
		t.neverAssigned(Family(f)) // the long way of the cursors is made here
	}
	t.begin()
}
