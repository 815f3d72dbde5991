package access

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/acl"
)

// device is what has the same virtual addresses: the Child SAs of a session, and
// of the one that replaces it.
type device struct {
	key       string // acl.Device.Key
	slot      uint32
	group     *group
	spis      int
	addresses []netip.Addr // but those that another device took over
}

func addressOf(a netip.Addr) programAddress { return programAddress{Octets: a.As16()} }

// spiOf is an SPI as the kernel has it, in network byte order.
func spiOf(spi uint32) [4]byte {
	return [4]byte{byte(spi >> 24), byte(spi >> 16), byte(spi >> 8), byte(spi)}
}

// Add makes Child SAs known, and returns one error for each, nil where it did.
// An SPI that is known gets what is new. Errors: acl.ErrGroup, acl.ErrFull,
// ErrClosed, and those of the kernel.
func (a *Access) Add(devices []acl.Device) []error {
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := make([]error, len(devices))
	var w writes
	for i, d := range devices {
		if errs[i] = a.add(&w, i, d); errs[i] != nil {
			continue
		}
	}
	for i, err := range w.flush(&a.programs) {
		if err != nil && errs[i] == nil {
			errs[i] = err
			_ = a.remove([]uint32{devices[i].SPI}) // what there is of it
		}
	}
	// Nothing leads to these any more.
	if err := a.release(w.gone); err != nil {
		errs[len(errs)-1] = errors.Join(errs[len(errs)-1], err)
	}
	for _, g := range w.left {
		if err := a.retire(g); err != nil {
			errs[len(errs)-1] = errors.Join(errs[len(errs)-1], err)
		}
	}
	return errs
}

// writes that are made together, each with the index of the device for which.
type writes struct {
	slots   []uint32
	devices []programDevice
	ofSlot  []int

	fresh   []uint32
	zeroes  []programUsage
	ofFresh []int

	spis  [][4]byte
	owner []uint32
	ofSPI []int

	addresses []programAddress
	at        []uint32
	ofAddress []int

	gone []*device // that lost their last Child SA
	left []*group  // by a device
}

func (a *Access) add(w *writes, i int, d acl.Device) error {
	if a.closed {
		return ErrClosed
	}
	g := a.groups[d.Group]
	if g == nil {
		return fmt.Errorf("%w: %q", acl.ErrGroup, d.Group)
	}
	key, former := d.Key(), a.bySPI[d.SPI]
	known := former
	if former == nil || former.key != key {
		known = a.byKey[key]
	}
	if known == nil {
		slot, ok := a.devices.take()
		if !ok {
			return fmt.Errorf("%w: %d devices", acl.ErrFull, a.config.MaxDevices)
		}
		known = &device{key: key, slot: slot}
		if key != "" {
			a.byKey[key] = known
		}
		w.fresh, w.zeroes, w.ofFresh = append(w.fresh, slot), append(w.zeroes, programUsage{}), append(w.ofFresh, i)
	}
	if former != known {
		a.bySPI[d.SPI] = known
		known.spis++
		if former != nil {
			if former.spis--; former.spis == 0 {
				w.gone = append(w.gone, a.forget(former))
			}
		}
		if a.config.BindSA {
			w.spis, w.owner, w.ofSPI = append(w.spis, spiOf(d.SPI)), append(w.owner, known.slot), append(w.ofSPI, i)
		}
	}
	for _, addr := range d.Addresses {
		key := addressOf(addr)
		if owner := a.byAddr[key]; owner == known {
			continue
		} else if owner != nil {
			owner.addresses = slices.DeleteFunc(owner.addresses, func(x netip.Addr) bool { return x == addr })
		}
		a.byAddr[key] = known
		known.addresses = append(known.addresses, addr)
		w.addresses, w.at, w.ofAddress = append(w.addresses, key), append(w.at, known.slot), append(w.ofAddress, i)
	}
	if old := known.group; old != nil && old != g {
		w.left = append(w.left, old)
	}
	a.join(known, g)
	w.slots, w.devices, w.ofSlot = append(w.slots, known.slot), append(w.devices, programDevice{Group: g.slot}), append(w.ofSlot, i)
	return nil
}

// join changes a device's group on this side of the maps.
func (a *Access) join(d *device, g *group) {
	old := d.group
	d.group = g
	g.devices++
	if old != nil {
		old.devices--
	}
}

// flush writes what a device is before any address leads to it.
func (w *writes) flush(p *programObjects) map[int]error {
	failed := make(map[int]error)
	note := func(of []int, errs []error) {
		for i, err := range errs {
			if err != nil && failed[of[i]] == nil {
				failed[of[i]] = err
			}
		}
	}
	note(w.ofFresh, put(p.Usages, w.fresh, w.zeroes))
	note(w.ofSlot, put(p.Devices, w.slots, w.devices))
	note(w.ofSPI, put(p.Sas, w.spis, w.owner))
	note(w.ofAddress, put(p.Addresses, w.addresses, w.at))
	return failed
}

// put writes all entries in one call, or where the kernel can't or one of them
// fails, each by itself. It returns an error for each, or nothing.
func put[K, V any](m *ebpf.Map, keys []K, values []V) []error {
	if len(keys) == 0 {
		return nil
	}
	if n, err := m.BatchUpdate(keys, values, nil); err == nil && n == len(keys) {
		return nil
	}
	errs := make([]error, len(keys))
	for i := range keys {
		errs[i] = m.Put(keys[i], values[i])
	}
	return errs
}

// take deletes all entries, as put.
func take[K any](m *ebpf.Map, keys []K) error {
	if len(keys) == 0 {
		return nil
	}
	if n, err := m.BatchDelete(keys, nil); err == nil && n == len(keys) {
		return nil
	}
	var errs []error
	for i := range keys {
		if err := m.Delete(keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Regroup puts the device of a Child SA into another group, from the next packet
// on. Errors: acl.ErrGroup, also for an SPI that isn't known, ErrClosed, and
// those of the kernel.
func (a *Access) Regroup(spi uint32, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, g := a.bySPI[spi], a.groups[name]
	switch {
	case a.closed:
		return ErrClosed
	case g == nil || d == nil:
		return fmt.Errorf("%w: %q for SPI %08x", acl.ErrGroup, name, spi)
	case d.group == g:
		return nil
	}
	if err := a.programs.Devices.Put(d.slot, programDevice{Group: g.slot}); err != nil {
		return err
	}
	old := d.group
	a.join(d, g)
	return a.retire(old)
}

// Remove forgets Child SAs, and devices with their last one. Unknown SPIs are
// passed over. Errors are those of the kernel.
func (a *Access) Remove(spis []uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	return a.remove(spis)
}

func (a *Access) remove(spis []uint32) error {
	var keys [][4]byte
	var gone []*device
	for _, spi := range spis {
		d := a.bySPI[spi]
		if d == nil {
			continue
		}
		delete(a.bySPI, spi)
		if a.config.BindSA {
			keys = append(keys, spiOf(spi))
		}
		if d.spis--; d.spis == 0 {
			gone = append(gone, a.forget(d))
		}
	}
	return errors.Join(take(a.programs.Sas, keys), a.release(gone))
}

// forget a device on this side of the maps, but for its addresses and its slot.
func (a *Access) forget(d *device) *device {
	if a.byKey[d.key] == d {
		delete(a.byKey, d.key)
	}
	return d
}

// release addresses, and slots when nothing leads to them any more.
func (a *Access) release(gone []*device) error {
	var addresses []programAddress
	for _, d := range gone {
		for _, addr := range d.addresses {
			key := addressOf(addr)
			delete(a.byAddr, key)
			addresses = append(addresses, key)
		}
	}
	err := take(a.programs.Addresses, addresses)
	for _, d := range gone {
		d.group.devices--
		err = errors.Join(err, a.retire(d.group))
		a.devices.give(d.slot)
	}
	return err
}

// Usage of a device.
type Usage struct {
	Addresses []netip.Addr
	Group     string
	// Passed and Dropped by direction; Dropped counts packets.
	Passed  [acl.NumDirections]acl.Count
	Dropped [acl.NumDirections]uint64
	// Last packet that passed by direction, to some milliseconds; zero if none did.
	Last [acl.NumDirections]time.Time
}

// Usage calls yield for each device until it returns false. Errors are those of
// the kernel.
func (a *Access) Usage(yield func(Usage) bool) error {
	type known struct {
		slot      uint32
		group     string
		addresses []netip.Addr
	}
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return ErrClosed
	}
	var all []known
	seen := make(map[*device]bool, len(a.bySPI))
	for _, d := range a.bySPI {
		if !seen[d] {
			seen[d] = true
			all = append(all, known{d.slot, d.group.Name, slices.Clone(d.addresses)})
		}
	}
	a.mu.Unlock()
	var clock unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &clock); err != nil {
		return err
	}
	boot := time.Now().Add(-time.Duration(clock.Nano()))
	for _, k := range all {
		var u programUsage
		if err := a.programs.Usages.Lookup(k.slot, &u); err != nil {
			return err
		}
		out := Usage{Addresses: k.addresses, Group: k.group, Dropped: u.Dropped}
		for d := range acl.NumDirections {
			out.Passed[d] = acl.Count{Packets: u.Packets[d], Bytes: u.Bytes[d]}
			if u.Last[d] != 0 {
				out.Last[d] = boot.Add(time.Duration(u.Last[d]))
			}
		}
		if !yield(out) {
			return nil
		}
	}
	return nil
}

// Counters of all packets since Open. Errors are those of the kernel.
func (a *Access) Counters() (acl.Counters, error) {
	var all acl.Counters
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return all, ErrClosed
	}
	for d := range acl.NumDirections {
		for v := range acl.NumVerdicts {
			var cpus []programCount
			if err := a.programs.Counts.Lookup(uint32(d*acl.NumVerdicts+v), &cpus); err != nil {
				return all, err
			}
			for _, c := range cpus {
				all[d][v].Packets += c.Packets
				all[d][v].Bytes += c.Bytes
			}
		}
	}
	return all, nil
}
