package userspace

import (
	"net/netip"
	"sync"

	"github.com/roamgate/roamgate/dataplane"
)

// Backend is a dataplane.Backend on one packet loop. All children use ESP in
// UDP, each from one of the Encap addresses of its Config.
type Backend struct {
	config    Config
	locals    locals
	transport *transport
	loop      *loop

	// mu orders Export and Close among themselves.
	mu       sync.Mutex
	exported bool
	closed   bool
}

var _ dataplane.Backend = (*Backend)(nil)

// New binds the sockets and starts the loop. Events that find the channel full
// are lost. Errors: ErrConfig, encap.ErrAddress, and those of the system.
func New(config Config, events chan<- dataplane.Event) (_ *Backend, err error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	b := &Backend{config: config}
	defer func() {
		if err != nil {
			b.locals.close()
		}
	}()
	if b.locals, err = listen(config.Locals, config.Interface, sendBufferLen(config.PathMTU)); err != nil {
		return nil, err
	}
	queue := newIKEQueue()
	b.transport = &transport{queue: queue, locals: b.locals, closed: make(chan struct{})}
	if b.loop, err = newLoop(config, b.locals, queue, events); err != nil {
		return nil, err
	}
	go b.loop.run()
	return b, nil
}

// Locals are those of Config, with the ports that were drawn where it has 0. A
// path starts from one of the Encap addresses.
func (b *Backend) Locals() []Local {
	bound := make([]Local, len(b.locals))
	for i, at := range b.locals {
		bound[i] = Local{IKE: at.ike.Local(), Encap: at.encap.Local()}
	}
	return bound
}

func (b *Backend) Features() dataplane.Features {
	f := features()
	f.MaxChildren = b.config.MaxChildren
	return f
}

// Reserve draws an SPI of the loop that owns hint; there is one.
func (b *Backend) Reserve(hint netip.Addr) (spi dataplane.SPI, err error) {
	closed := b.loop.do(func() {
		if !b.loop.forwarding {
			err = dataplane.ErrClosed
			return
		}
		spi, err = b.loop.reserve(b.loop.now)
	})
	if closed != nil {
		return 0, closed
	}
	return spi, err
}

func (b *Backend) Apply(changes []dataplane.Change) []error {
	errs := make([]error, len(changes))
	ready := make([]*prepared, len(changes))
	for i, c := range changes {
		if install, ok := c.(dataplane.Install); ok {
			ready[i], errs[i] = prepare(&install.Child, b.locals, b.config.PathMTU)
		}
	}
	closed := b.loop.do(func() {
		for i, c := range changes {
			errs[i] = b.loop.apply(c, ready[i], errs[i])
		}
	})
	for i, p := range ready {
		if closed != nil {
			errs[i] = closed
		}
		if p != nil && errs[i] != nil {
			p.child.EraseKeys()
		}
	}
	return errs
}

// apply carries out one change between two rounds. For an Install, p and
// refused are what prepare made of it.
func (l *loop) apply(c dataplane.Change, p *prepared, refused error) error {
	if !l.forwarding {
		return dataplane.ErrClosed
	}
	switch c := c.(type) {
	case dataplane.Install:
		s := l.find(c.Child.Inbound.SPI)
		if s == nil || s.state != saReserved {
			return dataplane.ErrNotReserved
		}
		if refused != nil {
			return refused
		}
		if err := l.checkOutside(p.child.Path, p.child.VirtualIPs); err != nil {
			return err
		}
		p.put(s)
		l.occupy(s)
	case dataplane.UseOutbound:
		s := l.installed(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		l.route(s)
	case dataplane.Move:
		s := l.installed(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		return l.move(s, c.Path)
	case dataplane.Regroup:
		if l.installed(c.Inbound) == nil {
			return dataplane.ErrUnknownSPI
		}
	case dataplane.Remove:
		s := l.find(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		if c.Final != nil && s.state == saInstalled {
			*c.Final = l.export(s)
		}
		l.free(s, l.now)
	}
	return nil
}

// move: nothing is in a sender now, so no packet of the old path follows one of
// the new. The path's family decides what fits through it.
func (l *loop) move(s *sa, path dataplane.Path) error {
	at, err := l.locals.forPath(path)
	if err != nil {
		return err
	}
	if err := l.checkOutside(path, nil); err != nil {
		return err
	}
	mtu, err := innerMTU(l.config.PathMTU, s.seal, path.Remote.Addr().Is6())
	if err != nil {
		return err
	}
	s.child.Path = path
	s.at, s.peer, s.innerMTU = at, path.Remote, mtu
	s.hinted = 0
	return nil
}

func (b *Backend) Drops() dataplane.Drops {
	var drops dataplane.Drops
	if b.loop.do(func() { drops = b.loop.drops }) != nil {
		drops = b.loop.drops // it has ended, nobody writes any more
	}
	drops[dataplane.ReasonOutsideSend] += b.transport.refused.Load()
	return drops
}

func (b *Backend) Transport() dataplane.IKETransport { return b.transport }

// Close ends the loop, erases keys and closes the sockets. The inside device
// stays open.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	if err := b.loop.do(b.loop.end); err != nil {
		return err
	}
	<-b.loop.done
	if !b.exported {
		b.transport.close()
	}
	return b.locals.close()
}

// end erases what the loop knows; it leaves after this round.
func (l *loop) end() {
	for s := range l.all {
		l.free(s, l.now)
	}
	l.forwarding = false
	l.ended = true
}

// Counters takes the counters in pieces, so that forwarding is never held up by
// the number of children.
func (b *Backend) Counters(yield func(dataplane.ChildCounters) bool) {
	const piece = 1024
	found := make([]dataplane.ChildCounters, 0, piece)
	for member := range uint8(2) {
		for from, more := 0, true; more; from += piece {
			found = found[:0]
			closed := b.loop.do(func() {
				table := b.loop.tables[member]
				for i := from; i < min(from+piece, len(table)); i++ {
					if table[i].state == saInstalled {
						found = append(found, b.loop.export(&table[i]))
					}
				}
				more = from+piece < len(table)
			})
			if closed != nil {
				return
			}
			for _, c := range found {
				if !yield(c) {
					return
				}
			}
		}
	}
}
