package access

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/roster"
)

// device is what has the same virtual addresses; what the enforcer keeps of it
// is its slot in the maps.
type (
	device      = roster.Device[groupState, deviceState]
	deviceState struct{ slot uint32 }
)

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
	a.table.Settle()
	errs := make([]error, len(devices))
	w := writes{dead: make(map[netip.Addr]struct{})}
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
	if err := errors.Join(a.release(w.dead, w.gone), a.retire()); err != nil {
		errs[len(errs)-1] = errors.Join(errs[len(errs)-1], err)
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

	gone []*device               // that lost their last Child SA
	dead map[netip.Addr]struct{} // that lead nowhere in the end
}

func (a *Access) add(w *writes, i int, d acl.Device) error {
	if a.closed {
		return ErrClosed
	}
	p, err := a.table.Plan(d)
	if err != nil {
		return err
	}
	known := p.Device
	if p.New {
		slot, ok := a.devices.take()
		if !ok {
			return fmt.Errorf("%w: %d devices", acl.ErrFull, a.config.MaxDevices)
		}
		known.Own.slot = slot
		w.fresh, w.zeroes, w.ofFresh = append(w.fresh, slot), append(w.zeroes, programUsage{}), append(w.ofFresh, i)
	}
	a.table.Commit(p)
	if p.Other && a.config.BindSA {
		w.spis, w.owner, w.ofSPI = append(w.spis, spiOf(d.SPI)), append(w.owner, known.Own.slot), append(w.ofSPI, i)
	}
	for _, m := range p.Moves {
		w.lead(i, m)
	}
	if p.Gone != nil {
		w.gone = append(w.gone, p.Gone)
	}
	w.slots, w.devices, w.ofSlot = append(w.slots, known.Own.slot), append(w.devices, programDevice{Group: p.Group.Own.slot}), append(w.ofSlot, i)
	return nil
}

// lead an address to a device, or nowhere, after all that is there already.
func (w *writes) lead(i int, m roster.Move[groupState, deviceState]) {
	switch {
	case m.To == nil:
		w.dead[m.Address] = struct{}{}
	case m.From != m.To:
		delete(w.dead, m.Address)
		w.addresses, w.at, w.ofAddress = append(w.addresses, addressOf(m.Address)), append(w.at, m.To.Own.slot), append(w.ofAddress, i)
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
	if a.closed {
		return ErrClosed
	}
	d, g, err := a.table.Regroup(spi, name)
	if err != nil || d.Group == g {
		return err
	}
	if err := a.programs.Devices.Put(d.Own.slot, programDevice{Group: g.Own.slot}); err != nil {
		return err
	}
	a.table.Join(d, g)
	return a.retire()
}

// Remove forgets Child SAs, and devices with their last one. Unknown SPIs are
// passed over. Errors are those of the kernel.
func (a *Access) Remove(spis []uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.Settle()
	if a.closed {
		return nil
	}
	return a.remove(spis)
}

func (a *Access) remove(spis []uint32) error {
	known, gone, moves := a.table.Remove(spis)
	var keys [][4]byte
	if a.config.BindSA {
		for _, spi := range known {
			keys = append(keys, spiOf(spi))
		}
	}
	w := writes{dead: make(map[netip.Addr]struct{})}
	for _, m := range moves {
		w.lead(0, m)
	}
	err := take(a.programs.Sas, keys)
	return errors.Join(err, w.flush(&a.programs)[0], a.release(w.dead, gone), a.retire())
}

// release addresses, and then the slots to which nothing leads any more.
func (a *Access) release(dead map[netip.Addr]struct{}, gone []*device) error {
	keys := make([]programAddress, 0, len(dead))
	for addr := range dead {
		keys = append(keys, addressOf(addr))
	}
	err := take(a.programs.Addresses, keys)
	for _, d := range gone {
		a.devices.give(d.Own.slot)
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
	for _, d := range a.table.Devices() {
		all = append(all, known{d.Own.slot, d.Group.Name, a.table.Addresses(d)})
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
