package access

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/roster"
)

// group that is in force, or was when its devices came into it.
type (
	group      = roster.Group[groupState]
	groupState struct {
		acl.Group
		slot  uint32
		fresh bool // never was in force: there is nothing in its slot
	}
)

// rule and rules as in access.c.
type rule struct {
	Protocol, Allow uint8
	First, Last     uint16
	_               uint16
}

type rules struct {
	Count uint32
	_     uint32
	Rules [acl.MaxRulesPerAddress]rule
}

// remote is a key of a list: the network's length with the octet of its family,
// the family, the address from the front.
type remote [21]byte

func remoteOf(p netip.Prefix) (key remote) {
	binary.NativeEndian.PutUint32(key[:], uint32(8+p.Bits()))
	key[4] = 4
	if p.Addr().Is6() {
		key[4] = 6
	}
	copy(key[5:], p.Addr().AsSlice())
	return key
}

// SetGroups puts groups in force; the list of each is replaced as a whole. Groups
// that are no longer among them stay in force for the devices that are in them,
// and take no others. Errors: those of acl.CheckGroups, acl.ErrFull, ErrClosed,
// and those of the kernel for want of memory, with all of which nothing has
// changed.
func (a *Access) SetGroups(groups []acl.Group) error {
	if err := acl.CheckGroups(groups); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return ErrClosed
	}
	next, err := a.place(groups)
	if err != nil {
		return err
	}
	// All that may fail for want of memory comes before anything changes.
	lists := make(map[string]*ebpf.Map)
	defer func() {
		for _, m := range lists {
			m.Close()
		}
	}()
	for i, g := range groups {
		if old := next[i].Own.List; g.List == nil || old != nil && slices.Equal(old.Rules(), g.List.Rules()) {
			continue
		}
		if lists[g.Name], err = a.build(g.List); err != nil {
			delete(lists, g.Name)
			a.unplace(next)
			return fmt.Errorf("access list of group %q: %w", g.Name, err)
		}
	}
	for i, g := range groups {
		if err := a.publish(&next[i].Own, g, lists[g.Name]); err != nil {
			return fmt.Errorf("access list of group %q: %w", g.Name, err)
		}
	}
	a.table.Use(next)
	return a.retire()
}

// place gives each group a slot: that which it has, or had if there are devices
// in it yet.
func (a *Access) place(groups []acl.Group) ([]*group, error) {
	var next []*group
	for _, to := range groups {
		g := a.table.Find(to.Name)
		if g == nil {
			slot, ok := a.slots.take()
			if !ok {
				a.unplace(next)
				return nil, fmt.Errorf("%w: groups that were taken out of force still have devices", acl.ErrFull)
			}
			g = &group{Name: to.Name, Own: groupState{slot: slot, fresh: true}}
		}
		next = append(next, g)
	}
	return next, nil
}

func (a *Access) unplace(next []*group) {
	for _, g := range next {
		if g.Own.fresh {
			a.slots.give(g.Own.slot)
		}
	}
}

// build makes the inner map of a list.
func (a *Access) build(l *acl.List) (*ebpf.Map, error) {
	entries := l.Entries()
	spec := a.list.Copy()
	spec.MaxEntries = uint32(max(len(entries), 1))
	m, err := ebpf.NewMap(spec)
	if err != nil {
		return nil, err
	}
	keys, values := make([]remote, len(entries)), make([]rules, len(entries))
	for i, e := range entries {
		keys[i] = remoteOf(e.Remote)
		values[i].Count = uint32(len(e.Rules))
		for j, r := range e.Rules {
			to := &values[i].Rules[j]
			*to = rule{Protocol: r.Protocol, First: r.First, Last: r.Last}
			if r.Allow {
				to.Allow = 1
			}
		}
	}
	if err := errors.Join(put(m, keys, values)...); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// publish is one write for the list and one for the rest. A group that gets its
// first list has it before it stops to be open, so that no packet is judged
// without either.
func (a *Access) publish(g *groupState, to acl.Group, list *ebpf.Map) error {
	entry := programGroup{}
	entry.DeviceCost, entry.DeviceBurst = costOf(to.Device)
	entry.TotalCost, entry.TotalBurst = costOf(to.Total)
	if list != nil {
		if err := a.programs.Lists.Put(g.slot, list); err != nil {
			return err
		}
	}
	if to.List == nil {
		entry.Open = 1
	}
	if err := a.programs.Groups.Put(g.slot, entry); err != nil {
		return err
	}
	had := g.List != nil
	g.Group, g.fresh = to, false
	if to.List == nil && had {
		return a.programs.Lists.Delete(g.slot)
	}
	return nil
}

// retire frees the slots of former groups in which no device is.
func (a *Access) retire() error {
	var errs []error
	for _, g := range a.table.Retire() {
		slot := g.Own.slot
		a.slots.give(slot)
		errs = append(errs, a.programs.Groups.Put(slot, programGroup{}))
		if g.Own.List != nil {
			errs = append(errs, a.programs.Lists.Delete(slot))
		}
		errs = append(errs, a.programs.GroupUsages.Put(slot, programGroupUsage{}))
	}
	return errors.Join(errs...)
}

// costShift as in access.c.
const costShift = 20

// costOf a rate: nanoseconds for an octet in units of 2^-20, and the burst in
// nanoseconds.
func costOf(r acl.Rate) (cost, burst uint64) {
	if !r.Limited() {
		return 0, 0
	}
	const second = 1_000_000_000
	cost = max((second<<costShift+r.BytesPerSecond/2)/r.BytesPerSecond, 1)
	high, low := bits.Mul64(r.Burst, cost)
	return cost, high<<(64-costShift) | low>>costShift
}
