package userspace

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// Export stops the loops' forwarding, IKE included, and yields the children, the
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
	// The senders are empty between rounds: what is noted now is the last word. All
	// loops stop before the first is asked.
	for _, l := range b.loops {
		if err := l.do(func() { l.forwarding = false }); err != nil {
			return err
		}
	}
	var states []exported
	for _, l := range b.loops {
		if err := l.do(func() { states = l.states(states) }); err != nil {
			return err
		}
	}
	slices.SortStableFunc(states, func(a, b exported) int { return cmp.Compare(a.activation, b.activation) })
	b.exported = true
	b.transport.close()
	for i, s := range states {
		if !yield(s.ChildState) {
			for _, rest := range states[i+1:] {
				rest.Child.EraseKeys()
			}
			break
		}
	}
	return nil
}

// exported is a child's state and its place among others.
type exported struct {
	dataplane.ChildState
	activation uint64
}

func (l *loop) states(list []exported) []exported {
	for s := range l.all {
		highest, bitmap := s.window.Export()
		list = append(list, exported{dataplane.ChildState{
			Child: l.child(s), Active: s.active,
			NextSequence: s.next,
			Replay:       highest, ReplayWindow: bitmap,
			Counters: l.export(s),
		}, s.activation})
	}
	return list
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
	for i := range states {
		var err error
		if ready[i], err = prepareState(&states[i], b); err != nil {
			return importError(&states[i], err)
		}
	}
	b.changes.Lock()
	defer b.changes.Unlock()
	if err := b.forwards(); err != nil {
		return err
	}
	for i := range states {
		if err := b.place(states[i].Child.Inbound.SPI); err != nil {
			for j := range i {
				b.unplace(states[j].Child.Inbound.SPI)
			}
			return importError(&states[i], err)
		}
	}
	// Nothing can fail from here on, so none of them sends before all are there.
	for i := range states {
		l := b.loopFor(states[i].Child.Inbound.SPI)
		var t touched
		err := l.do(func() {
			s := l.find(states[i].Child.Inbound.SPI)
			l.resume(s, &states[i], ready[i])
			t.addrs = s.virtualIPs()
		})
		if err != nil {
			return err // closed
		}
		b.settle(l, &t)
	}
	return nil
}

// forwards is ErrClosed after Export and Close.
func (b *Backend) forwards() (err error) {
	closed := b.loops[0].do(func() {
		if !b.loops[0].forwarding {
			err = dataplane.ErrClosed
		}
	})
	if closed != nil {
		return closed
	}
	return err
}

func importError(s *dataplane.ChildState, err error) error {
	return fmt.Errorf("import %#08x: %w", uint32(s.Child.Inbound.SPI), err)
}

// place reserves the slot of an imported SPI in its loop.
func (b *Backend) place(spi dataplane.SPI) (err error) {
	n := int(loopOf(spi))
	if n >= len(b.loops) {
		return dataplane.ErrInvalid
	}
	l := b.loops[n]
	closed := l.do(func() { _, err = l.place(spi) })
	if closed != nil {
		return closed
	}
	return err
}

func (b *Backend) unplace(spi dataplane.SPI) {
	l := b.loopFor(spi)
	_ = l.do(func() { l.sadb.unplace(spi) })
}

func prepareState(state *dataplane.ChildState, b *Backend) (*prepared, error) {
	if state.NextSequence == 0 {
		return nil, fmt.Errorf("%w: no next sequence number", dataplane.ErrInvalid)
	}
	return prepare(&state.Child, b.loops[0].locals, b.config.PathMTU)
}

// resume puts an SA where its predecessor left it.
func (l *loop) resume(s *sa, state *dataplane.ChildState, p *prepared) {
	l.put(s, p)
	s.next = state.NextSequence
	s.window.Import(state.Replay, state.ReplayWindow)
	s.counters = counters{
		bytesIn: state.Counters.BytesIn, packetsIn: state.Counters.PacketsIn,
		bytesOut: state.Counters.BytesOut, packetsOut: state.Counters.PacketsOut,
		lastIn: l.since(state.Counters.LastIn), lastOut: l.since(state.Counters.LastOut),
	}
	if state.Active {
		l.route(s)
	}
}
