package userspace

import (
	"fmt"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// prepared is what of an installation needs neither the loop nor its time: the
// checks, and copies of what the caller may change. Its keys are the caller's.
type prepared struct {
	child    *dataplane.Child
	policy   policy
	at       int
	innerMTU int
}

// prepare checks a child.
func prepare(c *dataplane.Child, ls locals, pathMTU int) (*prepared, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	for _, keys := range []dataplane.Keys{c.Inbound.Keys, c.Outbound.Keys} {
		if err := esp.Check(c.Algorithm, keys); err != nil {
			return nil, err
		}
	}
	layout, err := esp.LayoutOf(c.Algorithm)
	if err != nil {
		return nil, err
	}
	if layout.HeaderLen() < tun.HeaderLen {
		// The virtio header is laid over the ESP header.
		return nil, fmt.Errorf("%w: ESP header shorter than the virtio header", dataplane.ErrAlgorithm)
	}
	p := &prepared{child: c, policy: policy{algorithm: c.Algorithm, layout: layout, local: slices.Clone(c.Local), group: c.Group}}
	if !remoteIsVirtual(c) {
		p.policy.remote = slices.Clone(c.Remote)
	}
	if p.at, err = ls.forPath(c.Path); err != nil {
		return nil, err
	}
	p.innerMTU, err = innerMTU(pathMTU, layout, c.Path.Remote.Addr().Is6())
	return p, err
}

// put makes the slot the prepared child's; its SPI is there already.
func (db *sadb) put(s *sa, p *prepared) {
	c := p.child
	s.state = saInstalled
	s.esn = c.ESN
	for i, a := range c.VirtualIPs {
		if a.Is4() {
			s.virtual4, s.has4 = a.As4(), true
		} else {
			s.virtual6, s.has6, s.first6 = a.As16(), true, i == 0
		}
		db.directory.occupy(a, db.loop)
	}
	s.outboundSPI = uint32(c.Outbound.SPI)
	s.innerMTU = uint16(p.innerMTU)
	s.next = 1
	s.at, s.peer = uint8(p.at), endpointOf(c.Path.Remote)
	s.hard, s.soft = c.Hard, c.Soft
	s.remoteVirtual = len(p.policy.remote) == 0
	s.policy = db.policies.hold(&p.policy)
	s.keys = db.keys.put(c)
}

// child tells an installed child as it was told, keys copied.
func (l *loop) child(s *sa) dataplane.Child {
	p := l.policies.at(s.policy)
	in, out := l.keys.get(s.keys, p.algorithm)
	c := dataplane.Child{
		Inbound:   dataplane.SA{SPI: s.spi, Keys: in.Clone()},
		Outbound:  dataplane.SA{SPI: dataplane.SPI(s.outboundSPI), Keys: out.Clone()},
		Algorithm: p.algorithm, ESN: s.esn, VirtualIPs: s.virtualIPs(),
		Local: slices.Clone(p.local), Remote: slices.Clone(p.remote),
		Path:  dataplane.Path{Local: l.locals[s.at].Encap.Local(), Remote: s.peer.addrPort()},
		Group: p.group, Hard: s.hard, Soft: s.soft,
	}
	if s.remoteVirtual {
		for _, a := range c.VirtualIPs {
			c.Remote = append(c.Remote, dataplane.Selector{First: a, Last: a, LastPort: 0xFFFF})
		}
	}
	return c
}
