package userspace

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// Export stops the loop's forwarding, IKE included, and yields the children, the
// one whose UseOutbound came last at the end, so that importing them in order
// keeps the order of UseOutbound. The keys are copies; who gets them erases
// them. The sockets stay open until Close, so that what arrives in between is
// dropped by the kernel rather than refused. Errors: ErrClosed, for a second
// Export too.
func (b *Backend) Export(yield func(dataplane.ChildState) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.exported {
		return dataplane.ErrClosed
	}
	var states []dataplane.ChildState
	err := b.loop.do(func() {
		// The senders are empty between rounds: next is the last word.
		b.loop.forwarding = false
		states = b.loop.states()
	})
	if err != nil {
		return err
	}
	b.exported = true
	b.transport.close()
	for _, s := range states {
		if !yield(s) {
			break
		}
	}
	return nil
}

func (l *loop) states() []dataplane.ChildState {
	var children []*sa
	for s := range l.all {
		children = append(children, s)
	}
	slices.SortStableFunc(children, func(a, b *sa) int { return cmp.Compare(a.activation, b.activation) })
	states := make([]dataplane.ChildState, len(children))
	for i, s := range children {
		highest, bitmap := s.window.Export()
		states[i] = dataplane.ChildState{
			Child: *cloneChild(s.child), Active: s.active,
			NextSequence: s.next,
			Replay:       highest, ReplayWindow: bitmap,
			Counters: l.export(s),
		}
	}
	return states
}

// export is the counters of an SA for others.
func (l *loop) export(s *sa) dataplane.ChildCounters {
	c := dataplane.ChildCounters{
		Inbound: s.spi,
		BytesIn: s.counters.bytesIn, PacketsIn: s.counters.packetsIn,
		BytesOut: s.counters.bytesOut, PacketsOut: s.counters.packetsOut,
	}
	if s.counters.lastIn != 0 {
		c.LastIn = l.epoch.Add(s.counters.lastIn)
	}
	if s.counters.lastOut != 0 {
		c.LastOut = l.epoch.Add(s.counters.lastOut)
	}
	return c
}

// since is the inverse for one time.
func (l *loop) since(t time.Time) time.Duration {
	if t.IsZero() {
		return 0
	}
	if d := t.Sub(l.epoch); d != 0 {
		return d
	}
	return 1
}

// Import installs children under the SPIs that the predecessor drew. Its Config
// has the other Member, or nothing was reserved yet. Errors: those of Install;
// ErrFull; ErrInvalid where an SPI is not free or could not have been drawn by a
// backend like this one, or a state could not have been exported.
func (b *Backend) Import(states []dataplane.ChildState) error {
	ready := make([]*prepared, len(states))
	var err error
	for i := range states {
		if ready[i], err = prepareState(&states[i], b); err != nil {
			err = fmt.Errorf("import %#08x: %w", uint32(states[i].Child.Inbound.SPI), err)
			break
		}
	}
	if err == nil {
		closed := b.loop.do(func() { err = b.loop.takeOver(states, ready) })
		if closed != nil {
			err = closed
		}
	}
	if err != nil {
		for _, p := range ready {
			if p != nil {
				p.child.EraseKeys()
			}
		}
	}
	return err
}

func prepareState(state *dataplane.ChildState, b *Backend) (*prepared, error) {
	if state.NextSequence == 0 {
		return nil, fmt.Errorf("%w: no next sequence number", dataplane.ErrInvalid)
	}
	return prepare(&state.Child, b.locals, b.config.PathMTU)
}

// takeOver installs all of the children or none.
func (l *loop) takeOver(states []dataplane.ChildState, ready []*prepared) error {
	if !l.forwarding {
		return dataplane.ErrClosed
	}
	l.makeRoomFor(states)
	for i := range states {
		s, err := l.place(states[i].Child.Inbound.SPI)
		if err != nil {
			for j := range i {
				l.unplace(states[j].Child.Inbound.SPI)
			}
			return fmt.Errorf("import %#08x: %w", uint32(states[i].Child.Inbound.SPI), err)
		}
		l.resume(s, &states[i], ready[i])
	}
	for i := range states {
		if states[i].Active {
			l.route(l.installed(states[i].Child.Inbound.SPI))
		}
	}
	return nil
}

func (l *loop) makeRoomFor(states []dataplane.ChildState) {
	highest, found := uint32(0), false
	for i := range states {
		if spi := states[i].Child.Inbound.SPI; memberOf(spi) != l.member {
			highest, found = max(highest, slotOf(spi)), true
		}
	}
	if found {
		l.makeRoom(highest)
	}
}

// resume puts an SA where its predecessor left it.
func (l *loop) resume(s *sa, state *dataplane.ChildState, p *prepared) {
	p.put(s)
	l.occupy(s)
	s.next = state.NextSequence
	s.window.Import(state.Replay, state.ReplayWindow)
	s.counters = counters{
		bytesIn: state.Counters.BytesIn, packetsIn: state.Counters.PacketsIn,
		bytesOut: state.Counters.BytesOut, packetsOut: state.Counters.PacketsOut,
		lastIn: l.since(state.Counters.LastIn), lastOut: l.since(state.Counters.LastOut),
	}
}
