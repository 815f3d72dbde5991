package access

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"

	"github.com/roamgate/roamgate/bpf/acl"
)

// group that is in force, or was when its devices came into it.
type group struct {
	acl.Group
	slot    uint32
	devices int
	fresh   bool // never was in force: there is nothing in its slot
}

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
	for _, g := range groups {
		if old := next[g.Name].List; g.List == nil || old != nil && slices.Equal(old.Rules(), g.List.Rules()) {
			continue
		}
		if lists[g.Name], err = a.build(g.List); err != nil {
			delete(lists, g.Name)
			a.unplace(next)
			return fmt.Errorf("access list of group %q: %w", g.Name, err)
		}
	}
	for _, g := range groups {
		if err := a.publish(next[g.Name], g, lists[g.Name]); err != nil {
			return fmt.Errorf("access list of group %q: %w", g.Name, err)
		}
	}
	for _, g := range next {
		delete(a.former, g)
	}
	for name, g := range a.groups {
		if next[name] == nil {
			a.former[g] = struct{}{}
			err = errors.Join(err, a.retire(g))
		}
	}
	a.groups = next
	return err
}

// place gives each group a slot: that which it has, or had if there are devices
// in it yet.
func (a *Access) place(groups []acl.Group) (map[string]*group, error) {
	next := make(map[string]*group, len(groups))
	former := make(map[string]*group, len(a.former))
	for g := range a.former {
		former[g.Name] = g
	}
	for _, g := range groups {
		if old := cmp.Or(a.groups[g.Name], former[g.Name]); old != nil {
			next[g.Name] = old
			continue
		}
		slot, ok := a.slots.take()
		if !ok {
			a.unplace(next)
			return nil, fmt.Errorf("%w: groups that were taken out of force still have devices", acl.ErrFull)
		}
		next[g.Name] = &group{Group: acl.Group{Name: g.Name}, slot: slot, fresh: true}
	}
	return next, nil
}

func (a *Access) unplace(next map[string]*group) {
	for _, g := range next {
		if g.fresh {
			a.slots.give(g.slot)
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
func (a *Access) publish(g *group, to acl.Group, list *ebpf.Map) error {
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

// retire frees the slot of a former group when no device is in it.
func (a *Access) retire(g *group) error {
	if _, former := a.former[g]; !former || g.devices > 0 {
		return nil
	}
	delete(a.former, g)
	a.slots.give(g.slot)
	err := a.programs.Groups.Put(g.slot, programGroup{})
	if g.List != nil {
		err = errors.Join(err, a.programs.Lists.Delete(g.slot))
	}
	return errors.Join(err, a.programs.GroupUsages.Put(g.slot, programGroupUsage{}))
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
