package userspace

import (
	"log/slog"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
)

// Apply has each change carried out by the loop of its SPI; changes that follow
// each other for one loop go together.
func (b *Backend) Apply(changes []dataplane.Change) []error {
	errs := make([]error, len(changes))
	ready := make([]*prepared, len(changes))
	for i, c := range changes {
		if _, ok := c.(dataplane.Install); ok {
			install := c.(dataplane.Install) // a copy, that the loop may keep
			ready[i], errs[i] = prepare(&install.Child, b.loops[0].locals, b.config.PathMTU)
		}
	}
	b.changes.Lock()
	defer b.changes.Unlock()
	var t touched
	for from := 0; from < len(changes); {
		l := b.loopFor(inboundOf(changes[from]))
		to := from + 1
		for to < len(changes) && b.loopFor(inboundOf(changes[to])) == l {
			to++
		}
		closed := l.do(func() {
			for i := from; i < to; i++ {
				errs[i] = l.apply(changes[i], ready[i], errs[i], &t)
			}
			t.orphans = slices.DeleteFunc(t.orphans, l.leads)
		})
		for i := from; i < to && closed != nil; i++ {
			errs[i] = closed
		}
		b.settle(l, &t)
		t.addrs, t.orphans = t.addrs[:0], t.orphans[:0]
		from = to
	}
	return errs
}

// inboundOf is the SPI that a change is about.
func inboundOf(c dataplane.Change) dataplane.SPI {
	switch c := c.(type) {
	case dataplane.Install:
		return c.Child.Inbound.SPI
	case dataplane.UseOutbound:
		return c.Inbound
	case dataplane.Move:
		return c.Inbound
	case dataplane.Regroup:
		return c.Inbound
	case dataplane.Remove:
		return c.Inbound
	}
	return 0
}

// touched are virtual addresses whose children in a loop were changed. Of orphans
// that loop has lost its newest child, and the last one that it may use.
type touched struct{ addrs, orphans []netip.Addr }

// settle tells the other loops and the steering what became of virtual addresses
// whose children in loop l were changed.
func (b *Backend) settle(l *loop, t *touched) {
	if len(b.loops) == 1 {
		return
	}
	for _, addr := range t.orphans {
		if h, ok := b.directory.holder(addr); ok && h.loop == l.sadb.loop {
			b.adopt(addr)
		}
	}
	for _, addr := range t.addrs {
		h, ok := b.directory.holder(addr)
		// An older child of the address in another loop is one only where a device
		// has come back with another set of addresses.
		for _, other := range b.loops {
			if ok && other != l && h.loop == l.sadb.loop && h.children > 1 {
				_ = other.do(func() { other.yield(addr) })
			}
		}
		if !b.steered() {
			continue
		}
		var err error
		if ok {
			err = b.config.Steering.Own(addr, int(h.loop))
		} else {
			err = b.config.Steering.Disown(addr)
		}
		if err != nil {
			b.config.Logger.Debug("steering", slog.Any("address", addr), slog.Any("error", err))
		}
	}
}

// adopt gives an address to the loop with the newest of the children that were
// put aside for the one that is gone.
func (b *Backend) adopt(addr netip.Addr) {
	var heir *loop
	var newest uint64
	for _, other := range b.loops {
		var activation uint64
		_ = other.do(func() { activation = other.waiting(addr) })
		if activation > newest {
			heir, newest = other, activation
		}
	}
	if heir != nil {
		_ = heir.do(func() {
			heir.retake(addr)
			heir.directory.lead(addr, heir.sadb.loop)
		})
	}
}

// apply carries out one change between two rounds. For an Install, p and
// refused are what prepare made of it. To t it adds the virtual addresses
// whose children have changed.
func (l *loop) apply(c dataplane.Change, p *prepared, refused error, t *touched) error {
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
		l.put(s, p)
		t.addrs = append(t.addrs, p.child.VirtualIPs...)
	case dataplane.UseOutbound:
		s := l.installed(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		l.route(s)
		t.addrs = append(t.addrs, s.virtualIPs()...)
	case dataplane.Move:
		s := l.installed(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		return l.move(s, c.Path)
	case dataplane.Regroup:
		s := l.installed(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		l.regroup(s, c.Group)
	case dataplane.Remove:
		s := l.find(c.Inbound)
		if s == nil {
			return dataplane.ErrUnknownSPI
		}
		if c.Final != nil && s.state == saInstalled {
			*c.Final = l.export(s)
		}
		addrs := s.virtualIPs()
		t.addrs = append(t.addrs, addrs...)
		if s.active {
			t.orphans = append(t.orphans, addrs...)
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
	mtu, err := innerMTU(l.config.PathMTU, l.policies.at(s.policy).layout, path.Remote.Addr().Is6())
	if err != nil {
		return err
	}
	s.at, s.peer, s.innerMTU = uint8(at), endpointOf(path.Remote), uint16(mtu)
	s.hinted = 0
	return nil
}

// regroup only notes the group, for a successor.
func (l *loop) regroup(s *sa, group string) {
	p := *l.policies.at(s.policy)
	p.group = group
	before := s.policy
	s.policy = l.policies.hold(&p)
	l.policies.release(before)
}
