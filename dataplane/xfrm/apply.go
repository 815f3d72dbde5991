package xfrm

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
)

// run collects the messages of changes that are sent together. What a change
// means is put into the model at once, and taken out again where the kernel
// refuses.
type run struct {
	b    *Backend
	errs []error
	q    batch
	// of says which change each message is for, and whose child.
	of []part
	// touched children by change, so that what came after a refusal fails, too.
	touched []*child
}

// part of a change.
type part struct {
	change int
	child  *child
	what   string
	// gone: that it isn't there is no error.
	gone bool
	// makes is the SA that the message makes; the zero value for others.
	makes stateID
	// offloaded is that SA where the hardware is to have it.
	offloaded *state
	// answer takes what the kernel says beside an acknowledgement.
	answer func(m message)
}

// refuse notes that there is no SA of the child's where one was to be made.
func (p *part) refuse(err error) {
	if err != nil && p.makes != (stateID{}) {
		p.child.refused = append(p.child.refused, p.makes)
	}
}

func (b *Backend) newRun(changes int) *run {
	r := &run{b: b, errs: make([]error, changes), touched: make([]*child, changes), q: b.spare.q, of: b.spare.of}
	b.spare = spare{}
	return r
}

// spare is the memory of the last run, for the next one.
type spare struct {
	q  batch
	of []part
}

// spareOctets is how much of it is kept.
const spareOctets = 1 << 20

// giveBack memory of a run that has nothing to send.
func (r *run) giveBack(of []part) {
	clear(of)
	if cap(r.q.buf) <= spareOctets && len(r.of) == 0 {
		r.b.spare = spare{r.q, of[:0]}
		r.q, r.of = batch{}, nil
	}
}

// note says what the message is for that was appended last.
func (r *run) note(p part) { r.of = append(r.of, p) }

func (b *Backend) Apply(changes []dataplane.Change) []error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.newRun(len(changes))
	for i, change := range changes {
		if b.over() {
			r.errs[i] = dataplane.ErrClosed
			continue
		}
		switch c := change.(type) {
		case dataplane.Install:
			r.errs[i] = r.install(i, &c.Child)
		case dataplane.UseOutbound:
			r.errs[i] = r.useOutbound(i, c.Inbound)
		case dataplane.Move:
			r.flush()
			r.errs[i] = b.move(c)
		case dataplane.Regroup:
			if b.children[c.Inbound] == nil {
				r.errs[i] = dataplane.ErrUnknownSPI
			}
		case dataplane.Remove:
			r.errs[i] = r.remove(i, c)
		}
	}
	r.flush()
	return r.errs
}

// install checks a child, and appends its SAs and the policies that let it in.
func (r *run) install(i int, c *dataplane.Child) error {
	b := r.b
	if _, ok := b.reserved[c.Inbound.SPI]; !ok {
		return dataplane.ErrNotReserved
	}
	n, err := b.newChild(c)
	if err != nil {
		return err
	}
	delete(b.reserved, c.Inbound.SPI)
	b.add(n)
	r.put(i, n, replay{}, replay{}, dataplane.ChildCounters{})
	return nil
}

// newChild checks a child and copies it; with an error nothing of its keys is
// kept.
func (b *Backend) newChild(c *dataplane.Child) (*child, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if !slices.Contains(b.features.Algorithms, c.Algorithm) {
		return nil, fmt.Errorf("%w: ESP %v", dataplane.ErrAlgorithm, c.Algorithm)
	}
	if err := b.checkPath(c.Path, c.VirtualIPs); err != nil {
		return nil, err
	}
	n := &child{Child: c, counted: dataplane.ChildCounters{Inbound: c.Inbound.SPI}}
	if err := b.vacant(n.inboundID(), n.outboundID(), nil); err != nil {
		return nil, err
	}
	if err := b.choosePolicies(n, c); err != nil {
		return nil, err
	}
	copied := *c
	copied.VirtualIPs, copied.Local, copied.Remote = slices.Clone(c.VirtualIPs), slices.Clone(c.Local), slices.Clone(c.Remote)
	copied.Inbound.Keys, copied.Outbound.Keys = c.Inbound.Keys.Clone(), c.Outbound.Keys.Clone()
	n.Child = &copied
	return n, nil
}

// choosePolicies works out the policies of a child.
func (b *Backend) choosePolicies(n *child, c *dataplane.Child) error {
	local, err := b.sidesOf(c.Local)
	if err != nil {
		return err
	}
	inward, err := cross(remoteSides(c.Remote, c.VirtualIPs), local)
	if err != nil {
		return err
	}
	if len(inward) == 0 {
		return fmt.Errorf("%w: traffic selectors that allow nothing to %v", dataplane.ErrInvalid, c.VirtualIPs)
	}
	for _, s := range inward {
		n.outbound = append(n.outbound, s.reversed())
	}
	n.inbound = inward
	pooled := slices.DeleteFunc(slices.Clone(c.VirtualIPs), func(a netip.Addr) bool { return !b.inPools(a) })
	if b.config.binding() == bindPolicies || len(pooled) == 0 {
		return nil // nothing else lets it in; pools may have come later
	}
	common, err := b.sidesOf(b.config.Common)
	if err != nil {
		return err
	}
	var everything []side
	for _, a := range c.VirtualIPs {
		everything = append(everything, side{hostPrefix(a), 0, 0, 0xFFFF})
	}
	usual, err := cross(everything, common)
	if same := err == nil && slices.Equal(inward, usual); same && len(pooled) == len(c.VirtualIPs) {
		n.inbound = nil // the shared policies say the same
		return nil
	}
	for _, a := range pooled {
		n.blocked = append(n.blocked, selector{src: hostPrefix(a), dst: anyPrefix(a)})
	}
	// One that allows everything has the place of the one that blocks.
	n.blocked = slices.DeleteFunc(n.blocked, func(s selector) bool { return slices.Contains(inward, s) })
	return nil
}

// put appends the SAs of a child and the policies that let it in.
func (r *run) put(i int, c *child, in, out replay, counters dataplane.ChildCounters) {
	b := r.b
	r.touched[i] = c
	r.makeSA(i, c, "inbound SA", b.inboundState(c, in, lifetime{bytes: counters.BytesIn, packets: counters.PacketsIn}))
	r.makeSA(i, c, "outbound SA", b.outboundState(c, out, lifetime{bytes: counters.BytesOut, packets: counters.PacketsOut}))
	for _, key := range c.inwardKeys() {
		b.hold(c, key)
		r.policy(i, c, key)
	}
}

// policy appends what makes the kernel agree with the claim on a policy.
func (r *run) policy(i int, c *child, key policyKey) {
	held := r.b.claims[key]
	p := part{change: i, child: c, what: "policy"}
	switch {
	case len(held.holders) == 0:
		delete(r.b.claims, key)
		if !held.made {
			return
		}
		p.gone = true
		r.q.delPolicy(key, r.b.config.IfID)
	case held.made:
		now := policyFor(key, held.decider(), r.b.config.IfID)
		r.q.putPolicy(msgUpdPolicy, &now)
	default:
		held.made = true
		first := policyFor(key, held.decider(), r.b.config.IfID)
		r.q.putPolicy(msgNewPolicy, &first)
	}
	r.note(p)
}

// releaseAll gives up the policies that a child holds.
func (r *run) releaseAll(i int, c *child, keys []policyKey) {
	for _, key := range keys {
		held := r.b.claims[key]
		if held == nil || !slices.Contains(held.holders, c) {
			continue
		}
		decided := held.decider() == c
		held.release(c)
		if decided || len(held.holders) == 0 {
			r.policy(i, c, key)
		}
	}
}

func (r *run) useOutbound(i int, spi dataplane.SPI) error {
	c := r.b.children[spi]
	if c == nil {
		return dataplane.ErrUnknownSPI
	}
	r.touched[i] = c
	r.b.uses++
	c.active, c.activation = true, r.b.uses
	if c.dead {
		return nil
	}
	for _, key := range c.outwardKeys() {
		if held := r.b.claims[key]; held != nil && held.decider() == c {
			continue
		}
		r.b.hold(c, key)
		r.policy(i, c, key)
	}
	return nil
}

// remove takes policies first, so that nothing looks for an SA that is gone.
func (r *run) remove(i int, change dataplane.Remove) error {
	b := r.b
	if _, ok := b.reserved[change.Inbound]; ok {
		delete(b.reserved, change.Inbound)
		return nil
	}
	c := b.children[change.Inbound]
	if c == nil {
		return dataplane.ErrUnknownSPI
	}
	if change.Final != nil {
		*change.Final = c.counted
	}
	r.takeOut(i, c, change.Final)
	b.forget(c)
	b.lay(c.Inbound.SPI)
	c.EraseKeys()
	return nil
}

// takeOut appends what removes a child from the kernel; its last counters are
// added to final, which may be nil.
func (r *run) takeOut(i int, c *child, final *dataplane.ChildCounters) {
	r.releaseAll(i, c, slices.Concat(c.outwardKeys(), c.inwardKeys()))
	r.dismiss(i, c, final)
	if c.dead {
		return
	}
	for _, id := range []stateID{c.outboundID(), c.inboundID()} {
		if slices.Contains(c.refused, id) {
			continue
		}
		inbound := id == c.inboundID()
		r.q.byID(msgGetSA, id)
		r.note(part{change: i, child: c, what: "last counters", gone: true, answer: func(m message) {
			if report, ok := parseSA(m.body); ok {
				if inbound {
					r.b.countDrops(c, &report)
				}
				if final != nil {
					addReport(final, inbound, &report)
				}
			}
		}})
		r.q.byID(msgDelSA, id)
		r.note(part{change: i, child: c, what: "removal of an SA", gone: true})
	}
}

// flush sends what was collected. A child of which the kernel refused something
// is removed as a whole, and the changes that went on with it fail.
func (r *run) flush() {
	if r.q.len() == 0 {
		return
	}
	refused := make(map[*child]int)
	of, errs := r.send()
	for i, err := range errs {
		p := of[i]
		p.refuse(err)
		if err == nil || p.gone && gone(err) {
			continue
		}
		if r.errs[p.change] == nil {
			r.errs[p.change] = explain(p.what, err)
		}
		if r.b.children[p.child.Inbound.SPI] == p.child {
			refused[p.child] = p.change
		}
	}
	for i, c := range r.touched {
		if first, ok := refused[c]; ok && c != nil && i > first && r.errs[i] == nil {
			r.errs[i] = dataplane.ErrUnknownSPI
		}
	}
	clear(r.touched)
	r.giveBack(of)
	for c := range refused {
		r.b.discard(c)
	}
}

// discard takes a child out of kernel and model after a refusal. Its SPI is as
// it was before: reserved.
func (b *Backend) discard(c *child) {
	undo := b.newRun(1)
	undo.takeOut(0, c, nil)
	b.forget(c)
	b.reserved[c.Inbound.SPI] = struct{}{}
	c.EraseKeys()
	for _, err := range b.conn.do(&undo.q, nil) {
		if err != nil && !gone(err) {
			b.config.Logger.Error("XFRM: not taken back", slog.Any("error", err))
		}
	}
}
