// Package layered keeps the layers before and behind a backend in step with
// it: what filters outside and what enforces access lists inside know each
// Child SA before the backend accepts it, and until after it was removed.
//
// What lives here: the order of those steps. What doesn't: any filter, any
// list, any forwarding.
package layered

import (
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/roamgate/roamgate/dataplane"
)

// Backend is a dataplane.Backend whose Child SAs every layer knows. What isn't
// a change goes straight to the backend below.
type Backend struct {
	dataplane.Backend
	layers []dataplane.Layer

	mu    sync.Mutex // so that layers and backend see one order of changes
	known map[dataplane.SPI]struct{}
}

// New puts layers around a backend that has no Child SA yet. Who made the
// layers closes them, after the backend.
func New(below dataplane.Backend, layers ...dataplane.Layer) *Backend {
	return &Backend{Backend: below, layers: layers, known: make(map[dataplane.SPI]struct{})}
}

// Apply has every layer admit what is to be installed, the backend carry out
// what they admitted, and the layers forget what was removed or refused.
func (b *Backend) Apply(changes []dataplane.Change) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	errs := make([]error, len(changes))
	var children []*dataplane.Child
	var asked []int // the index of each child's change
	for i, c := range changes {
		if _, ok := c.(dataplane.Install); !ok {
			continue
		}
		install := c.(dataplane.Install) // a copy, for the layers
		spi := install.Child.Inbound.SPI
		if _, twice := b.known[spi]; twice {
			errs[i] = dataplane.ErrNotReserved
			continue
		}
		b.known[spi] = struct{}{}
		children, asked = append(children, &install.Child), append(asked, i)
	}
	for i, err := range b.admit(children) {
		errs[asked[i]] = err
	}
	allowed, of := make([]dataplane.Change, 0, len(changes)), make([]int, 0, len(changes))
	for i, c := range changes {
		if errs[i] == nil {
			allowed, of = append(allowed, c), append(of, i)
		}
	}
	for i, err := range b.Backend.Apply(allowed) {
		errs[of[i]] = err
	}
	var gone []dataplane.SPI
	for _, i := range asked {
		if errs[i] != nil {
			gone = append(gone, changes[i].(dataplane.Install).Child.Inbound.SPI)
		}
	}
	for i, c := range changes {
		switch c := c.(type) {
		case dataplane.Regroup:
			if errs[i] == nil {
				errs[i] = b.regroup(c)
			}
		case dataplane.Remove:
			// Whatever else went wrong, a backend that isn't closed doesn't know it
			// any more. What is left of it below, the layers stop.
			if _, ours := b.known[c.Inbound]; ours && !errors.Is(errs[i], dataplane.ErrClosed) {
				gone = append(gone, c.Inbound)
			}
		}
	}
	slices.Sort(gone)
	b.forget(slices.Compact(gone))
	return errs
}

// admit asks one layer after the other for those that the ones before it
// admitted. The first error of a child is its error; what layers before
// admitted is for the caller to forget.
func (b *Backend) admit(children []*dataplane.Child) []error {
	errs := make([]error, len(children))
	for _, l := range b.layers {
		var left []*dataplane.Child
		var of []int
		for i, c := range children {
			if errs[i] == nil {
				left, of = append(left, c), append(of, i)
			}
		}
		if len(left) == 0 {
			break
		}
		for i, err := range l.Admit(left) {
			errs[of[i]] = err
		}
	}
	return errs
}

// regroup tells every layer, and returns the first error.
func (b *Backend) regroup(c dataplane.Regroup) (first error) {
	for _, l := range b.layers {
		if err := l.Regroup(c.Inbound, c.Group); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (b *Backend) forget(gone []dataplane.SPI) {
	for _, spi := range gone {
		delete(b.known, spi)
	}
	if len(gone) == 0 {
		return
	}
	for _, l := range b.layers {
		l.Forget(gone)
	}
}

// Import has every layer admit what a predecessor exported; all or, with an
// error, none of them.
func (b *Backend) Import(states []dataplane.ChildState) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	children := make([]*dataplane.Child, len(states))
	added := make([]dataplane.SPI, 0, len(states))
	for i := range states {
		children[i] = &states[i].Child
		spi := children[i].Inbound.SPI
		if _, twice := b.known[spi]; twice {
			return dataplane.ErrNotReserved
		}
		added = append(added, spi)
	}
	for _, spi := range added {
		b.known[spi] = struct{}{}
	}
	for _, err := range b.admit(children) {
		if err != nil {
			b.forget(added)
			return err
		}
	}
	if err := b.Backend.Import(states); err != nil {
		b.forget(added)
		return err
	}
	return nil
}

// Close ends forwarding; the layers forget every Child SA.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.Backend.Close()
	b.forget(slices.Collect(maps.Keys(b.known)))
	return err
}
