package xfrm

import (
	"errors"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/dataplane"
)

// margin is how many packets an outbound SA may still send while its successor
// is made. A move skips as many sequence numbers, where a packet is one number.
// With crypto offload a segmented frame counts as one packet and takes a number
// for each segment, as many as the hardware likes: then a move rebuilds the SAs.
const margin = 1 << 14

// segments of one frame at most, which the kernel itself makes of raw ESP behind
// the SA where it has esp4_offload: 64 KiB in TCP segments of 64 octets. ESP in UDP
// isn't segmented there.
const segments = 1 << 10

// skipped is how many sequence numbers margin packets can take.
func skipped(e dataplane.Encapsulation) uint64 {
	if e == dataplane.EncapsulationNone {
		return margin * segments
	}
	return margin
}

// retirement is how long an outbound SA stays after no policy names it: for
// packets that found the policy before.
const retirement = 50 * time.Millisecond

// move gives a child another path. In the kernel an inbound SA is known by our
// address and its SPI, an outbound one by the peer's.
func (b *Backend) move(change dataplane.Move) error {
	c := b.children[change.Inbound]
	if c == nil {
		return dataplane.ErrUnknownSPI
	}
	if err := b.checkPath(change.Path, nil); err != nil {
		return err
	}
	there := *c.Child
	there.Path = change.Path
	if moved := (&child{Child: &there}); !c.dead {
		if err := b.vacant(moved.inboundID(), moved.outboundID(), c); err != nil {
			return fmt.Errorf("move: %w", err)
		}
	}
	old := c.Path
	if c.dead || change.Path == old {
		c.Path = change.Path // a dead one is in no table
		return nil
	}
	var err error
	switch now := change.Path; {
	case b.abilities.Offload && old.Remote.Addr() != now.Remote.Addr(),
		old.Local.Addr() != now.Local.Addr() || old.Encapsulation != now.Encapsulation ||
			old.Encapsulation == dataplane.EncapsulationUDP && old.Local.Port() != now.Local.Port():
		err = b.rebuild(c, now)
	case old.Remote.Addr() != now.Remote.Addr():
		err = b.follow(c, now)
	default:
		err = b.retarget(c, now)
	}
	c.hinted = 0
	return err
}

// retarget changes the ports of ESP in UDP, in place.
func (b *Backend) retarget(c *child, path dataplane.Path) error {
	old := c.Path
	c.Path = path
	if path.Encapsulation == dataplane.EncapsulationNone {
		return nil // ports say nothing
	}
	var q batch
	b.updateOutbound(&q, c, 0)
	b.updateInbound(&q, c)
	if err := errors.Join(b.conn.do(&q, nil)...); err != nil {
		c.Path = old
		return explain("move", err)
	}
	return nil
}

// updateOutbound appends an update of ports and limits; limit, unless it is 0,
// is a hard limit of packets below its own.
func (b *Backend) updateOutbound(q *batch, c *child, limit uint64) {
	s := b.outboundState(c, replay{}, lifetime{})
	s.offload = 0 // stays what it is
	if hard := &s.limits.hard.Packets; limit != 0 && (*hard == 0 || limit < *hard) {
		*hard = limit
	}
	q.newSA(msgUpdSA, &s)
}

// updateInbound appends an update of the outer source that the kernel needs not
// tell us of. It can't change the address it compares with. Where that isn't the
// path's, a port that nobody has makes it tell of every source, the path's among
// them, which are then few a second.
func (b *Backend) updateInbound(q *batch, c *child) {
	quiet := c.quiet
	s := b.inboundState(c, replay{}, lifetime{})
	s.offload = 0 // stays what it is
	c.quiet = quiet
	if c.quiet.Addr() != c.Path.Remote.Addr() {
		s.src, s.sport = c.quiet.Addr(), 0
	}
	q.newSA(msgUpdSA, &s)
}

// follow goes to another address of the peer without a moment in which there is
// no outbound SA, and none in which a sequence number could be sent twice: see
// the package comment. There is no offload.
func (b *Backend) follow(c *child, path dataplane.Path) error {
	last, used, err := b.outboundReplay(c)
	switch {
	case gone(err):
		b.bury(c, nil)
		return nil
	case err != nil:
		return explain("move", err)
	}
	skip := skipped(c.Path.Encapsulation)
	if !c.ESN && last.out+skip > lowHalf {
		return b.rebuild(c, path) // there aren't as many numbers left
	}
	r := b.newRun(1)
	r.dismiss(0, c, nil) // it may have the place where c goes
	r.flush()
	var q batch
	b.updateOutbound(&q, c, used.packets+margin)
	if err := errors.Join(b.conn.do(&q, nil)...); err != nil {
		return explain("move", err)
	}

	old, oldID := c.Path, c.outboundID()
	b.dropOutbound(c)
	c.Path = path
	last.out += skip
	successor := b.outboundState(c, last, used)
	q.newSA(msgNewSA, &successor)
	if err := errors.Join(b.conn.do(&q, nil)...); err != nil {
		c.Path = old
		b.outbounds[oldID] = c
		b.updateOutbound(&q, c, 0)
		return explain("move", errors.Join(err, errors.Join(b.conn.do(&q, nil)...)))
	}
	b.outbounds[c.outboundID()] = c

	if path.Encapsulation == dataplane.EncapsulationUDP {
		b.updateInbound(&r.q, c)
		r.note(part{child: c, what: "inbound SA"})
	}
	b.rewrite(r, c)
	r.flush()
	c.retired, c.retiredUsed = oldID, used
	b.retired[oldID] = c
	time.AfterFunc(retirement, func() { b.dismissLater(c, oldID) })
	return r.errs[0]
}

// dismissLater removes an outbound SA that a child has moved away from.
func (b *Backend) dismissLater(c *child, id stateID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over() || b.children[c.Inbound.SPI] != c || c.retired != id {
		return
	}
	r := b.newRun(1)
	r.dismiss(0, c, nil)
	r.flush()
}

// dismiss appends the removal of a child's retired SA. What it has sent since its
// successor began is added to the child's counters, and to final, which may be
// nil.
func (r *run) dismiss(i int, c *child, final *dataplane.ChildCounters) {
	if c.retired == (stateID{}) {
		return
	}
	id, used := c.retired, c.retiredUsed
	r.b.dropRetired(c)
	r.q.byID(msgGetSA, id)
	r.note(part{change: i, child: c, what: "last counters", gone: true, answer: func(m message) {
		report, ok := parseSA(m.body)
		if !ok {
			return
		}
		for _, to := range []*dataplane.ChildCounters{&c.counted, final} {
			if to != nil {
				to.PacketsOut += report.lifetime.packets - used.packets
				to.BytesOut += report.lifetime.bytes - used.bytes
			}
		}
	}})
	r.q.byID(msgDelSA, id)
	r.note(part{change: i, child: c, what: "removal of an SA", gone: true})
}

// rewrite appends the policies that name a child's path.
func (b *Backend) rewrite(r *run, c *child) {
	for _, key := range c.outwardKeys() {
		if held := b.claims[key]; held != nil && len(held.holders) > 0 && held.decider() == c {
			r.policy(0, c, key)
		}
	}
}

// outboundReplay asks for the sequence number, and for how much was sent. The
// number may be ahead of the other, never behind.
func (b *Backend) outboundReplay(c *child) (last replay, used lifetime, err error) {
	var q batch
	s := b.outboundState(c, replay{}, lifetime{})
	q.getReplay(&s)
	answered := false
	errs := b.conn.do(&q, func(_ int, m message) {
		last, used, answered = parseAE(m.body)
	})
	if err = errs[0]; err == nil && !answered {
		err = errLostWord
	}
	return last, used, err
}

// rebuild makes both SAs anew at another place of the kernel's table, or in
// another form, with the state in which the old ones ended.
func (b *Backend) rebuild(c *child, path dataplane.Path) error {
	r := b.newRun(1)
	r.dismiss(0, c, nil)
	r.flush()
	words, err := b.end([]*child{c})
	if err != nil {
		b.bury(c, nil)
		return explain("move", err)
	}
	b.dropOutbound(c)
	c.Path = path
	b.outbounds[c.outboundID()] = c
	last := words[c]
	b.countDrops(c, &last.in)
	c.dropCounts = dropCounts{} // the new SA counts from 0
	q := b.newRun(1)
	q.makeSA(0, c, "inbound SA", b.inboundState(c, last.in.replay, last.in.lifetime))
	q.makeSA(0, c, "outbound SA", b.outboundState(c, last.out.replay, last.out.lifetime))
	b.rewrite(q, c)
	of, errs := q.send()
	for i, p := range of {
		p.refuse(errs[i])
	}
	if err := errors.Join(errs...); err != nil {
		b.bury(c, nil)
		return explain("move", err)
	}
	return nil
}
