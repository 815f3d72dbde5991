package userspace

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// prepared is what of an installation needs neither the loop nor its time: the
// checks and the key schedules.
type prepared struct {
	child              *dataplane.Child
	open, seal         esp.Transform
	virtual4, virtual6 netip.Addr
	at                 *local
	innerMTU           int
}

// prepare checks a child and copies it. On an error nothing of the keys is kept.
func prepare(c *dataplane.Child, ls locals, pathMTU int) (_ *prepared, err error) {
	p := &prepared{child: cloneChild(c)}
	defer func() {
		if err != nil {
			p.child.EraseKeys()
		}
	}()
	if err = c.Validate(); err != nil {
		return nil, err
	}
	if p.open, err = esp.New(c.Algorithm, c.Inbound.Keys, c.ESN); err != nil {
		return nil, err
	}
	if p.seal, err = esp.New(c.Algorithm, c.Outbound.Keys, c.ESN); err != nil {
		return nil, err
	}
	if p.open.HeaderLen() < tun.HeaderLen {
		// The virtio header is laid over the ESP header.
		return nil, fmt.Errorf("%w: ESP header shorter than the virtio header", dataplane.ErrAlgorithm)
	}
	for _, a := range c.VirtualIPs {
		if a.Is4() {
			p.virtual4 = a
		} else {
			p.virtual6 = a
		}
	}
	if p.at, err = ls.forPath(c.Path); err != nil {
		return nil, err
	}
	p.innerMTU, err = innerMTU(pathMTU, p.seal, c.Path.Remote.Addr().Is6())
	return p, err
}

// put makes the slot the prepared child's; its SPI is there already.
func (p *prepared) put(s *sa) {
	s.state = saInstalled
	s.esn = p.child.ESN
	s.virtual4, s.virtual6 = p.virtual4, p.virtual6
	s.open, s.seal = p.open, p.seal
	s.outboundSPI = uint32(p.child.Outbound.SPI)
	s.innerMTU = p.innerMTU
	s.next = 1
	s.at, s.peer = p.at, p.child.Path.Remote
	s.localSelectors, s.remoteSelectors = p.child.Local, p.child.Remote
	s.hard, s.soft = p.child.Hard, p.child.Soft
	s.child = p.child
}

func cloneChild(c *dataplane.Child) *dataplane.Child {
	clone := *c
	clone.VirtualIPs = slices.Clone(c.VirtualIPs)
	clone.Local = slices.Clone(c.Local)
	clone.Remote = slices.Clone(c.Remote)
	clone.Inbound.Keys = c.Inbound.Keys.Clone()
	clone.Outbound.Keys = c.Outbound.Keys.Clone()
	return &clone
}
