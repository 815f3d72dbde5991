package xfrm

import "github.com/roamgate/roamgate/dataplane"

const (
	// lowHalf: without ESN the sequence numbers end here.
	lowHalf = 1<<32 - 1
	// mappingAge is how often, in seconds, the kernel repeats itself about the
	// outer source of an inbound SA (XFRMA_MTIMER_THRESH).
	mappingAge = 1
)

// inboundState describes the inbound SA of a child.
func (b *Backend) inboundState(c *child, r replay, l lifetime) state {
	r.out = 0
	s := b.stateOf(c, &c.Inbound, r, l)
	s.id, s.src = c.inboundID(), c.Path.Remote.Addr()
	if b.config.binding() == bindSA {
		s.source = c.VirtualIPs[0]
	}
	if c.Path.Encapsulation == dataplane.EncapsulationUDP {
		s.sport, s.dport = c.Path.Remote.Port(), c.Path.Local.Port()
	}
	c.quiet = c.Path.Remote
	return s
}

// outboundState describes the outbound SA. Where its sequence numbers end is a
// hard limit of the kernel, so that it is told.
func (b *Backend) outboundState(c *child, r replay, l lifetime) state {
	s := b.stateOf(c, &c.Outbound, replay{out: r.out}, l)
	s.outbound = true
	s.id, s.src = c.outboundID(), c.Path.Local.Addr()
	if c.Path.Encapsulation == dataplane.EncapsulationUDP {
		s.sport, s.dport = c.Path.Local.Port(), c.Path.Remote.Port()
	}
	if end := l.packets + lowHalf - min(r.out, lowHalf); !c.ESN && (s.limits.hard.Packets == 0 || end < s.limits.hard.Packets) {
		s.limits.hard.Packets = max(end, 1) // 0 would be none; it is used up before anything is sent
	}
	return s
}

func (b *Backend) stateOf(c *child, sa *dataplane.SA, r replay, l lifetime) state {
	if l.packets != 0 {
		l.used = uint64(b.config.Now().Unix())
	}
	return state{
		reqid: c.reqid, ifID: b.config.IfID, alg: c.Algorithm, keys: sa.Keys, esn: c.ESN,
		limits: limits{c.Soft, c.Hard}, replay: r, lifetime: l,
		copyDSCP: b.config.CopyDSCP, directed: b.abilities.Direction, offload: b.offloadOf(c.Path.Encapsulation),
	}
}
