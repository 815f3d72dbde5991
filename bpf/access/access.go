package access

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/roamgate/roamgate/bpf/acl"
	"github.com/roamgate/roamgate/bpf/acl/roster"
)

// Errors.
var (
	// ErrUnavailable: this kernel, or this user, can't have the programs.
	ErrUnavailable = errors.New("BPF programs can't be loaded")
	// ErrClosed: after Close and after Release.
	ErrClosed = errors.New("access is closed")
)

// MaxDevices that Config.MaxDevices may ask for.
const MaxDevices = 1 << 20

// Config of an Access.
type Config struct {
	// Interface index of the TUN or xfrm interface.
	Interface int
	// MaxDevices that are known at once, 1 to MaxDevices.
	MaxDevices int
	// BindSA: packets from devices are decrypted by this kernel, and their
	// sources are compared with the virtual addresses of the inbound SPI. Where
	// a TUN interface carries packets, whoever decrypts has to do that.
	BindSA bool
	// Pins is a folder of its own below a bpffs, made where it is missing. Empty,
	// or where there is no bpffs, what is enforced ends with the process.
	Pins string

	// clsact even where there is tcx, and an offset of IP headers, for tests.
	clsact     bool
	linkHeader uint32
}

// Access is a pair of programs with their maps. Its methods may be called from
// any goroutine.
type Access struct {
	config   Config
	programs programObjects
	list     *ebpf.MapSpec // of an inner map

	mu       sync.Mutex
	closed   bool
	table    *roster.Table[groupState, deviceState]
	slots    slots // of groups
	devices  slots
	links    []link.Link // in, out
	pinned   bool
	clsacted *clsact
}

// slots of an array, given out from zero on.
type slots struct {
	max, next uint32
	free      []uint32
}

func (s *slots) take() (uint32, bool) {
	if n := len(s.free); n > 0 {
		slot := s.free[n-1]
		s.free = s.free[:n-1]
		return slot, true
	}
	if s.next == s.max {
		return 0, false
	}
	s.next++
	return s.next - 1, true
}

func (s *slots) give(slot uint32) { s.free = append(s.free, slot) }

// Open loads programs and maps; no packet meets them before Attach. No group is
// in force, so no device can be added yet. Errors: ErrUnavailable, wrapped.
func Open(c Config) (*Access, error) {
	if c.MaxDevices < 1 || c.MaxDevices > MaxDevices {
		return nil, fmt.Errorf("%d devices, want 1 to %d", c.MaxDevices, MaxDevices)
	}
	spec, err := loadProgram()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	n := uint32(c.MaxDevices)
	spec.Maps[programMapDevices].MaxEntries = n
	spec.Maps[programMapUsages].MaxEntries = n
	// Two addresses, and while keys are being changed more than one Child SA.
	spec.Maps[programMapAddresses].MaxEntries = 2 * n
	if c.BindSA {
		spec.Maps[programMapSas].MaxEntries = 4 * n
	}
	if err := errors.Join(
		spec.Variables[programVarBindSa].Set(c.BindSA),
		spec.Variables[programVarLinkHeader].Set(c.linkHeader),
	); err != nil {
		return nil, err
	}
	a := &Access{
		config: c, list: spec.Maps[programMapLists].InnerMap,
		table: roster.New[groupState, deviceState](), slots: slots{max: acl.MaxGroups}, devices: slots{max: n},
	}
	if err := spec.LoadAndAssign(&a.programs, nil); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return a, nil
}

// Close takes the programs from the interface, pins included. It is safe to
// call twice.
func (a *Access) Close() error { return a.end(true) }

// Release ends this Access and leaves in force what is pinned, for a successor
// to take over.
func (a *Access) Release() error { return a.end(false) }

func (a *Access) end(detach bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.closed = true
	var err error
	if detach {
		err = a.detach()
	}
	for _, l := range a.links {
		err = errors.Join(err, l.Close())
	}
	return errors.Join(err, a.programs.Close())
}
