package xfrm

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
)

// Export removes the Child SAs from the kernel and yields them, the one whose
// UseOutbound came last at the end. The keys are copies; who gets them erases
// them. A Child SA whose last state the kernel did not tell isn't among them: its
// device connects anew. The sockets stay open until Close. Errors: ErrClosed, for
// a second Export too.
func (b *Backend) Export(yield func(dataplane.ChildState) bool) error {
	b.mu.Lock()
	if b.over() {
		b.mu.Unlock()
		return dataplane.ErrClosed
	}
	b.exported = true
	states, lost := b.states()
	b.mu.Unlock()
	b.transport.end()
	if lost != nil {
		b.config.Logger.Error("Child SAs can't be handed over", slog.Any("error", lost))
	}
	for i, s := range states {
		if !yield(s) {
			for _, rest := range states[i+1:] {
				rest.Child.EraseKeys()
			}
			break
		}
	}
	return nil
}

// states ends all children.
func (b *Backend) states() (states []dataplane.ChildState, lost error) {
	children := slices.SortedStableFunc(maps.Values(b.children), func(x, y *child) int {
		return cmp.Or(cmp.Compare(x.activation, y.activation), cmp.Compare(x.Inbound.SPI, y.Inbound.SPI))
	})
	r := b.newRun(1)
	for _, c := range children {
		r.dismiss(0, c, nil)
	}
	r.flush()
	words, lost := b.end(children)
	for _, c := range children {
		w, ok := words[c]
		if !ok {
			continue // dead, or lost
		}
		b.countDrops(c, &w.in)
		s := dataplane.ChildState{
			Child: *c.Child, Active: c.active,
			NextSequence: w.out.replay.out + 1, Replay: w.in.replay.in, ReplayWindow: w.in.replay.window(),
			Counters: c.counters(&w.in, &w.out),
		}
		s.Child.VirtualIPs, s.Child.Local, s.Child.Remote = slices.Clone(c.VirtualIPs), slices.Clone(c.Local), slices.Clone(c.Remote)
		s.Child.Inbound.Keys, s.Child.Outbound.Keys = c.Inbound.Keys.Clone(), c.Outbound.Keys.Clone()
		states = append(states, s)
	}
	return states, lost
}

// Import installs children under the SPIs that the predecessor drew. Errors:
// those of Install; ErrFull; ErrInvalid where an SPI is not free, or a state could
// not have been exported.
func (b *Backend) Import(states []dataplane.ChildState) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over() {
		return dataplane.ErrClosed
	}
	if len(b.reserved)+len(b.children)+len(states) > b.config.MaxChildren {
		return dataplane.ErrFull
	}
	children := make([]*child, 0, len(states))
	err := b.importable(states, &children)
	if err != nil {
		for _, c := range children {
			c.EraseKeys()
		}
		return err
	}
	r := b.newRun(len(states))
	for i, c := range children {
		s := &states[i]
		b.add(c)
		c.counted = dataplane.ChildCounters{Inbound: c.Inbound.SPI, LastIn: s.Counters.LastIn, LastOut: s.Counters.LastOut}
		restored := replayOf(s)
		r.put(i, c, restored, restored, s.Counters)
	}
	for i, c := range children {
		if states[i].Active {
			r.errs[i] = r.useOutbound(i, c.Inbound.SPI)
		}
	}
	r.flush()
	if err := errors.Join(r.errs...); err != nil {
		for _, c := range children {
			if b.children[c.Inbound.SPI] == c {
				b.discard(c)
			}
			delete(b.reserved, c.Inbound.SPI)
		}
		return err
	}
	return nil
}

// importable checks states and appends their children.
func (b *Backend) importable(states []dataplane.ChildState, children *[]*child) error {
	heirs := newModel() // of them alone
	for i := range states {
		s := &states[i]
		spi := s.Child.Inbound.SPI
		if heirs.children[spi] != nil || !b.isFree(spi) || s.NextSequence == 0 {
			return fmt.Errorf("import %#08x: %w: SPI in use, or no next sequence number", uint32(spi), dataplane.ErrInvalid)
		}
		c, err := b.newChild(&s.Child)
		if err != nil {
			return fmt.Errorf("import %#08x: %w", uint32(spi), err)
		}
		*children = append(*children, c)
		if err := heirs.vacant(c.inboundID(), c.outboundID(), nil); err != nil {
			return fmt.Errorf("import %#08x: %w", uint32(spi), err)
		}
		heirs.add(c)
	}
	return nil
}
