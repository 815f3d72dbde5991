package dptest

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

const (
	fakeMaxChildren = 4096
	fakeFirstSPI    = 0x1000
	fakeQueue       = 1024
)

// Fake is a dataplane.Backend in memory: it keeps the state of children, carries
// no packets, and lets a test be the network. It blocks on channels and mutexes
// only, so it may live in a testing/synctest bubble.
type Fake struct {
	locals []netip.Addr
	events chan<- dataplane.Event
	inbox  chan dataplane.Datagram
	sent   chan dataplane.Datagram
	done   chan struct{} // closed by Close and by Export

	mu       sync.Mutex
	nextSPI  dataplane.SPI
	children map[dataplane.SPI]*fakeChild
	uses     int
	changes  []dataplane.Change
	drops    dataplane.Drops
	refusal  error
}

// fakeChild is a reserved SPI, or an installed child.
type fakeChild struct {
	state     dataplane.ChildState
	installed bool
	used      int // order of UseOutbound
}

var (
	_ dataplane.Backend      = (*Fake)(nil)
	_ dataplane.IKETransport = (*Fake)(nil)
)

const (
	fakeIKEPort   = 500
	fakeEncapPort = 4500
)

// NewFake returns a fake with sockets on ports 500 and 4500 of local, and of
// others if there are any.
func NewFake(local netip.Addr, events chan<- dataplane.Event, others ...netip.Addr) *Fake {
	return &Fake{
		locals: append([]netip.Addr{local}, others...),
		events: events,
		inbox:  make(chan dataplane.Datagram, fakeQueue),
		sent:   make(chan dataplane.Datagram, fakeQueue),
		done:   make(chan struct{}),

		nextSPI:  fakeFirstSPI,
		children: make(map[dataplane.SPI]*fakeChild),
	}
}

// Refuse makes Reserve and every change fail with err from now on, until it is
// called with nil.
func (f *Fake) Refuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refusal = err
}

// Changes returns the changes that succeeded so far, in order.
func (f *Fake) Changes() []dataplane.Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.changes)
}

// Child returns an installed child as it is now.
func (f *Fake) Child(inbound dataplane.SPI) (dataplane.ChildState, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, ok := f.children[inbound]
	if !ok || !c.installed {
		return dataplane.ChildState{}, false
	}
	return cloneState(c.state), true
}

// Outbound returns the inbound SPI of the child that carries packets to a
// virtual address: the one that was told to last. Selectors are not looked at.
func (f *Fake) Outbound(virtual netip.Addr) (spi dataplane.SPI, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	newest := 0
	for inbound, c := range f.children {
		if c.used > newest && slices.Contains(c.state.Child.VirtualIPs, virtual) {
			spi, ok, newest = inbound, true, c.used
		}
	}
	return spi, ok
}

// SetCounters replaces the counters of the child c.Inbound, if it is installed.
func (f *Fake) SetCounters(c dataplane.ChildCounters) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if child, ok := f.children[c.Inbound]; ok && child.installed {
		child.state.Counters = c
	}
}

// Tell sends an event as a backend does: it is lost if there is no room.
func (f *Fake) Tell(e dataplane.Event) bool {
	select {
	case f.events <- e:
		return true
	default:
		f.count(dataplane.ReasonEventsLost)
		return false
	}
}

// Deliver makes d arrive from the network; it is copied. It is dropped if its
// reader is far behind.
func (f *Fake) Deliver(d dataplane.Datagram) bool {
	d.Data = bytes.Clone(d.Data)
	select {
	case f.inbox <- d:
		return true
	default:
		f.count(dataplane.ReasonIKEQueueFull)
		return false
	}
}

// Sent gives what was sent to the network, without marker.
func (f *Fake) Sent() <-chan dataplane.Datagram { return f.sent }

func (f *Fake) count(r dataplane.Reason) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.drops[r]++
}

func (f *Fake) Features() dataplane.Features {
	return dataplane.Features{Name: "fake", Algorithms: esp.Supported(), ESN: true, MaxChildren: fakeMaxChildren}
}

// Reserve counts SPIs up, so none comes a second time.
func (f *Fake) Reserve(netip.Addr) (dataplane.SPI, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.isClosed():
		return 0, dataplane.ErrClosed
	case f.refusal != nil:
		return 0, f.refusal
	case len(f.children) >= fakeMaxChildren:
		return 0, dataplane.ErrFull
	}
	for f.children[f.nextSPI] != nil { // imported
		f.nextSPI++
	}
	spi := f.nextSPI
	f.nextSPI++
	f.children[spi] = new(fakeChild)
	return spi, nil
}

func (f *Fake) Apply(changes []dataplane.Change) []error {
	f.mu.Lock()
	defer f.mu.Unlock()
	errs := make([]error, len(changes))
	for i, c := range changes {
		switch {
		case f.isClosed():
			errs[i] = dataplane.ErrClosed
		case f.refusal != nil:
			errs[i] = f.refusal
		default:
			errs[i] = f.apply(c)
		}
	}
	return errs
}

func (f *Fake) apply(change dataplane.Change) error {
	switch c := change.(type) {
	case dataplane.Install:
		child, ok := f.children[c.Child.Inbound.SPI]
		if !ok || child.installed {
			return dataplane.ErrNotReserved
		}
		if err := f.check(&c.Child); err != nil {
			return err
		}
		child.state = cloneState(dataplane.ChildState{Child: c.Child, NextSequence: 1})
		child.state.Counters.Inbound = c.Child.Inbound.SPI
		child.installed = true
		change = dataplane.Install{Child: cloneState(child.state).Child}
	case dataplane.UseOutbound:
		child, ok := f.children[c.Inbound]
		if !ok || !child.installed {
			return dataplane.ErrUnknownSPI
		}
		f.use(child)
	case dataplane.Move:
		child, ok := f.children[c.Inbound]
		if !ok || !child.installed {
			return dataplane.ErrUnknownSPI
		}
		if err := f.checkPath(c.Path); err != nil {
			return err
		}
		child.state.Child.Path = c.Path
	case dataplane.Regroup:
		child, ok := f.children[c.Inbound]
		if !ok || !child.installed {
			return dataplane.ErrUnknownSPI
		}
		child.state.Child.Group = c.Group
	case dataplane.Remove:
		child := f.children[c.Inbound]
		if child == nil {
			return dataplane.ErrUnknownSPI
		}
		if c.Final != nil {
			*c.Final = child.state.Counters
		}
		delete(f.children, c.Inbound)
		change = dataplane.Remove{Inbound: c.Inbound}
	}
	f.changes = append(f.changes, change)
	return nil
}

func (f *Fake) use(c *fakeChild) {
	f.uses++
	c.used = f.uses
	c.state.Active = true
}

func (f *Fake) checkPath(p dataplane.Path) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Encapsulation != dataplane.EncapsulationUDP || p.Local.Port() != fakeEncapPort || !slices.Contains(f.locals, p.Local.Addr()) {
		return dataplane.ErrInvalid
	}
	for _, c := range f.children {
		if c.installed && slices.Contains(c.state.Child.VirtualIPs, p.Remote.Addr()) {
			return dataplane.ErrInvalid
		}
	}
	return nil
}

func (f *Fake) check(c *dataplane.Child) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if slices.Contains(c.VirtualIPs, c.Path.Remote.Addr()) {
		return dataplane.ErrInvalid
	}
	return f.checkPath(c.Path)
}

func (f *Fake) Counters(yield func(dataplane.ChildCounters) bool) {
	for _, s := range f.states() {
		if !yield(s.Counters) {
			return
		}
	}
}

// states of the installed children, the newest UseOutbound last.
func (f *Fake) states() []dataplane.ChildState {
	f.mu.Lock()
	defer f.mu.Unlock()
	var installed []*fakeChild
	for _, c := range f.children {
		if c.installed {
			installed = append(installed, c)
		}
	}
	slices.SortFunc(installed, func(a, b *fakeChild) int {
		return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.state.Child.Inbound.SPI, b.state.Child.Inbound.SPI))
	})
	states := make([]dataplane.ChildState, len(installed))
	for i, c := range installed {
		states[i] = cloneState(c.state)
	}
	return states
}

func (f *Fake) Drops() dataplane.Drops {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.drops
}

func (f *Fake) Transport() dataplane.IKETransport { return f }

// Receive is that of IKETransport; messages come from Deliver.
func (f *Fake) Receive(batch []dataplane.Datagram) (n int, err error) {
	select {
	case <-f.done:
		return 0, dataplane.ErrClosed
	default:
	}
	for n < len(batch) {
		var got dataplane.Datagram
		if n == 0 {
			select {
			case got = <-f.inbox:
			case <-f.done:
				return 0, dataplane.ErrClosed
			}
		} else {
			select {
			case got = <-f.inbox:
			default:
				return n, nil
			}
		}
		got.Data = batch[n].Data[:copy(batch[n].Data, got.Data)]
		batch[n] = got
		n++
	}
	return n, nil
}

// Send is that of IKETransport; messages go to Sent, and what it has no room
// for, or a Local that isn't ours, counts as refused.
func (f *Fake) Send(batch []dataplane.Datagram) (int, error) {
	for n, d := range batch {
		select {
		case <-f.done:
			return n, dataplane.ErrClosed
		default:
		}
		port := uint16(fakeIKEPort)
		if d.Marker {
			port = fakeEncapPort
		}
		if d.Local.Port() != port || !slices.Contains(f.locals, d.Local.Addr()) {
			f.count(dataplane.ReasonOutsideSend)
			return n, dataplane.ErrInvalid
		}
		d.Data = bytes.Clone(d.Data)
		select {
		case f.sent <- d:
		default:
			f.count(dataplane.ReasonOutsideSend)
			return n, nil
		}
	}
	return len(batch), nil
}

func (f *Fake) Export(yield func(dataplane.ChildState) bool) error {
	if !f.end() {
		return dataplane.ErrClosed
	}
	for _, s := range f.states() {
		if !yield(s) {
			break
		}
	}
	return nil
}

func (f *Fake) Import(states []dataplane.ChildState) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isClosed() {
		return dataplane.ErrClosed
	}
	seen := make(map[dataplane.SPI]bool)
	for i := range states {
		spi := states[i].Child.Inbound.SPI
		if err := f.check(&states[i].Child); err != nil {
			return err
		}
		if seen[spi] || f.children[spi] != nil || states[i].NextSequence == 0 {
			return dataplane.ErrInvalid
		}
		seen[spi] = true
	}
	if len(f.children)+len(states) > fakeMaxChildren {
		return dataplane.ErrFull
	}
	for _, s := range states {
		child := &fakeChild{state: cloneState(s), installed: true}
		f.children[s.Child.Inbound.SPI] = child
		if s.Active {
			f.use(child)
		}
	}
	return nil
}

// Close forgets the children. What was recorded stays.
func (f *Fake) Close() error {
	f.end()
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.children)
	return nil
}

// end closes done; false if it was.
func (f *Fake) end() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.isClosed() {
		return false
	}
	close(f.done)
	return true
}

func (f *Fake) isClosed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

func cloneState(s dataplane.ChildState) dataplane.ChildState {
	c := &s.Child
	c.VirtualIPs, c.Local, c.Remote = slices.Clone(c.VirtualIPs), slices.Clone(c.Local), slices.Clone(c.Remote)
	c.Inbound.Keys, c.Outbound.Keys = c.Inbound.Keys.Clone(), c.Outbound.Keys.Clone()
	s.ReplayWindow = slices.Clone(s.ReplayWindow)
	return s
}
