// Package roster keeps which devices there are, which of them has an address,
// and in which group each is, for whoever enforces access lists. It says what
// has to change; carrying that out, in maps or in tables, is the enforcer's.
//
// A device is what has the same virtual addresses: the Child SAs of a session,
// and of the one that replaces it. An address in two devices is that of the one
// told last, and returns to the other when that one goes.
//
// What lives here: the bookkeeping, without locks. What doesn't: the kernel, and
// what a group allows (package acl).
package roster

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/dataplane/slab"
)

// Group is in force, or was when its devices came into it. Own is the enforcer's.
type Group[G any] struct {
	Name    string
	Own     G
	devices int
}

// Empty says whether no device is in it.
func (g *Group[G]) Empty() bool { return g.devices == 0 }

// Device of one or several Child SAs. Own is the enforcer's.
type Device[G, D any] struct {
	Group     *Group[G]
	Own       D
	spis      int32
	addresses []netip.Addr // in alone where it is one
	alone     [1]netip.Addr
	home      *slab.Chunk[Device[G, D]]
}

// Table is what is known. It is used by one goroutine at a time.
type Table[G, D any] struct {
	groups map[string]*Group[G]
	former map[string]*Group[G] // not in force, but devices are still in them
	bySPI  map[uint32]*Device[G, D]
	owners map[netip.Addr]*Device[G, D]
	// older claims to an address, of which there are few, the last one first to have
	// it again.
	older map[netip.Addr][]*Device[G, D]
	count int

	// Where devices are: one for the next plan, and those that are gone.
	devices slab.Of[Device[G, D]]
	spare   *Device[G, D]
	gone    []*Device[G, D]
}

// New makes a table without groups.
func New[G, D any]() *Table[G, D] {
	return &Table[G, D]{
		groups: make(map[string]*Group[G]), former: make(map[string]*Group[G]),
		bySPI:  make(map[uint32]*Device[G, D]),
		owners: make(map[netip.Addr]*Device[G, D]), older: make(map[netip.Addr][]*Device[G, D]),
	}
}

// Find returns the group of a name, in force or with devices still in it; nil if
// there is none.
func (t *Table[G, D]) Find(name string) *Group[G] { return cmp.Or(t.groups[name], t.former[name]) }

// Unused are the groups in force, but for those of next, that no device is in.
func (t *Table[G, D]) Unused(next []*Group[G]) (unused []*Group[G]) {
	for _, g := range t.groups {
		if g.Empty() && !slices.Contains(next, g) {
			unused = append(unused, g)
		}
	}
	return unused
}

// Use puts groups in force. Others take no more devices; those that have none
// come out of Retire.
func (t *Table[G, D]) Use(next []*Group[G]) {
	for name, g := range t.groups {
		t.former[name] = g
	}
	t.groups = make(map[string]*Group[G], len(next))
	for _, g := range next {
		t.groups[g.Name] = g
		delete(t.former, g.Name)
	}
}

// Retire forgets the groups that are not in force and have no devices any more,
// and returns them.
func (t *Table[G, D]) Retire() (gone []*Group[G]) {
	for name, g := range t.former {
		if g.Empty() {
			gone = append(gone, g)
			delete(t.former, name)
		}
	}
	return gone
}

// Move of an address. From is nil where nobody had it, To where nobody gets it.
// Each has the group in which it was, or will be.
type Move[G, D any] struct {
	Address            netip.Addr
	From, To           *Device[G, D]
	FromGroup, ToGroup *Group[G]
}

// Addition is what making a Child SA known comes to.
type Addition[G, D any] struct {
	Device *Device[G, D]
	Group  *Group[G] // that the device comes into
	New    bool      // the table doesn't know the device yet
	Other  bool      // the SPI is new, or was another device's
	Moves  []Move[G, D]
	Gone   *Device[G, D] // which loses its last Child SA by it, or nil

	spi       uint32
	addresses []netip.Addr
}

// Plan says what Commit will do. Until then nothing changes. Errors:
// acl.ErrGroup, wrapped.
func (t *Table[G, D]) Plan(d acl.Device) (p Addition[G, D], err error) {
	g := t.groups[d.Group]
	if g == nil {
		return p, fmt.Errorf("%w: %q", acl.ErrGroup, d.Group)
	}
	former := t.bySPI[d.SPI]
	device := former
	if former == nil || !same(former.addresses, d.Addresses) {
		device = t.of(d.Addresses)
	}
	p = Addition[G, D]{Device: device, Group: g, spi: d.SPI}
	if device == nil {
		if t.spare == nil {
			d, home := t.devices.Get()
			d.home, t.spare = home, d
		}
		p.Device, p.New = t.spare, true
	}
	p.Other = former != p.Device
	if former != nil && p.Other && former.spis == 1 {
		p.Gone = former
	}
	for _, a := range d.Addresses {
		if slices.Contains(p.addresses, a) {
			continue
		}
		p.addresses = append(p.addresses, a)
		if owner := t.owner(a); owner != p.Device || owner.Group != g {
			p.Moves = append(p.Moves, move(a, owner, p.Device, g))
		}
	}
	if p.Gone != nil {
		for _, a := range former.addresses {
			if t.owner(a) == former && !slices.Contains(p.addresses, a) {
				p.Moves = append(p.Moves, t.handBack(a, former, nil))
			}
		}
	}
	return p, nil
}

func move[G, D any](a netip.Addr, from, to *Device[G, D], group *Group[G]) Move[G, D] {
	m := Move[G, D]{Address: a, From: from, To: to, ToGroup: group}
	if from != nil {
		m.FromGroup = from.Group
	}
	return m
}

// same addresses, in whatever order and however often.
func same(a, b []netip.Addr) bool {
	within := func(a, b []netip.Addr) bool {
		return !slices.ContainsFunc(a, func(x netip.Addr) bool { return !slices.Contains(b, x) })
	}
	return within(a, b) && within(b, a)
}

// of is the device of these addresses; nil if there is none, or no address.
func (t *Table[G, D]) of(addresses []netip.Addr) *Device[G, D] {
	if len(addresses) == 0 {
		return nil
	}
	if d := t.owners[addresses[0]]; d != nil && same(d.addresses, addresses) {
		return d
	}
	for _, d := range t.older[addresses[0]] {
		if same(d.addresses, addresses) {
			return d
		}
	}
	return nil
}

// owner of an address, nil if there is none.
func (t *Table[G, D]) owner(a netip.Addr) *Device[G, D] { return t.owners[a] }

// handBack leads an address to whoever claimed it last, but for those that go.
func (t *Table[G, D]) handBack(a netip.Addr, from *Device[G, D], going []*Device[G, D]) Move[G, D] {
	next := func(to *Device[G, D]) bool { return to != nil && to != from && !slices.Contains(going, to) }
	if to := t.owners[a]; next(to) {
		return move(a, from, to, to.Group)
	}
	for _, to := range slices.Backward(t.older[a]) {
		if next(to) {
			return move(a, from, to, to.Group)
		}
	}
	return move(a, from, nil, nil)
}

// Commit carries out a plan; nothing may have changed since Plan.
func (t *Table[G, D]) Commit(p Addition[G, D]) {
	d := p.Device
	if p.New {
		t.spare = nil
		t.count++
	}
	if d.addresses = p.addresses; len(p.addresses) == 1 {
		d.addresses = append(d.alone[:0], p.addresses[0])
	}
	for _, a := range d.addresses {
		t.claim(a, d)
	}
	if p.Other {
		if former := t.bySPI[p.spi]; former != nil {
			former.spis--
		}
		t.bySPI[p.spi] = d
		d.spis++
	}
	t.Join(d, p.Group)
	if p.Gone != nil {
		t.forget(p.Gone)
	}
}

// claim an address: it is d's from now on.
func (t *Table[G, D]) claim(a netip.Addr, d *Device[G, D]) {
	t.unclaim(a, d)
	if owner := t.owners[a]; owner != nil {
		t.older[a] = append(t.older[a], owner)
	}
	t.owners[a] = d
}

// unclaim an address; it is that of the last other claim, if there is one.
func (t *Table[G, D]) unclaim(a netip.Addr, d *Device[G, D]) {
	older := slices.DeleteFunc(t.older[a], func(x *Device[G, D]) bool { return x == d })
	if t.owners[a] == d {
		delete(t.owners, a)
		if last := len(older) - 1; last >= 0 {
			t.owners[a] = older[last]
			older = slices.Delete(older, last, last+1)
		}
	}
	if t.older[a] = older; len(older) == 0 {
		delete(t.older, a)
	}
}

// Join changes the group of a device.
func (t *Table[G, D]) Join(d *Device[G, D], g *Group[G]) {
	if d.Group != nil {
		d.Group.devices--
	}
	if d.Group = g; g != nil {
		g.devices++
	}
}

// Device of an SPI, nil if it isn't known.
func (t *Table[G, D]) Device(spi uint32) *Device[G, D] { return t.bySPI[spi] }

// Regroup says which device is to come into which group; Join does it. Errors:
// acl.ErrGroup, also for an SPI that isn't known, wrapped.
func (t *Table[G, D]) Regroup(spi uint32, name string) (*Device[G, D], *Group[G], error) {
	d, g := t.bySPI[spi], t.groups[name]
	if d == nil || g == nil {
		return nil, nil, fmt.Errorf("%w: %q for SPI %08x", acl.ErrGroup, name, spi)
	}
	return d, g, nil
}

// Remove forgets Child SAs, and devices with their last one; unknown SPIs are
// passed over. It returns which SPIs were known, the devices that are gone, and
// where their addresses lead now.
func (t *Table[G, D]) Remove(spis []uint32) (known []uint32, gone []*Device[G, D], moves []Move[G, D]) {
	for _, spi := range spis {
		d := t.bySPI[spi]
		if d == nil {
			continue
		}
		known = append(known, spi)
		delete(t.bySPI, spi)
		if d.spis--; d.spis == 0 {
			gone = append(gone, d)
		}
	}
	for _, d := range gone {
		for _, a := range d.addresses {
			if t.owner(a) == d {
				moves = append(moves, t.handBack(a, d, gone))
			}
		}
	}
	for _, d := range gone {
		t.forget(d)
	}
	return known, gone, moves
}

func (t *Table[G, D]) forget(d *Device[G, D]) {
	t.count--
	for _, a := range d.addresses {
		t.unclaim(a, d)
	}
	t.Join(d, nil)
	t.gone = append(t.gone, d)
}

// Settle says that nobody points to a device any more that is gone; its place will be
// another one's. Enforcers call it before they change anything.
func (t *Table[G, D]) Settle() {
	for i, d := range t.gone {
		d.home.Put(d)
		t.gone[i] = nil
	}
	t.gone = t.gone[:0]
}

// Len is the number of devices.
func (t *Table[G, D]) Len() int { return t.count }

// Addresses that lead to a device.
func (t *Table[G, D]) Addresses(d *Device[G, D]) (owned []netip.Addr) {
	for _, a := range d.addresses {
		if t.owner(a) == d {
			owned = append(owned, a)
		}
	}
	return owned
}

// Devices are all that are known.
func (t *Table[G, D]) Devices() []*Device[G, D] {
	all := make([]*Device[G, D], 0, t.count)
	seen := make(map[*Device[G, D]]bool, t.count)
	for _, d := range t.bySPI {
		if !seen[d] {
			seen[d] = true
			all = append(all, d)
		}
	}
	return all
}
