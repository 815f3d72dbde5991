package userspace

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
	"github.com/roamgate/roamgate/dataplane/esp"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// prepared is what of an installation needs neither the loop nor its time: the
// checks and the key schedules.
type prepared struct {
	child              *dataplane.Child
	open, seal         esp.Transform
	virtual4, virtual6 netip.Addr
	innerMTU           int
}

// prepare checks a child and copies it. On an error nothing of the keys is kept.
func prepare(c *dataplane.Child, socket *encap.Socket, pathMTU int) (_ *prepared, err error) {
	p := &prepared{child: cloneChild(c)}
	defer func() {
		if err != nil {
			eraseKeys(p.child)
		}
	}()
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
	if c.Outbound.SPI < 256 {
		return nil, fmt.Errorf("%w: outbound SPI %d is reserved", dataplane.ErrInvalid, c.Outbound.SPI)
	}
	if err = p.takeVirtualIPs(c.VirtualIPs); err != nil {
		return nil, err
	}
	if !validSelectors(c.Local) || !validSelectors(c.Remote) {
		return nil, fmt.Errorf("%w: traffic selectors", dataplane.ErrInvalid)
	}
	if err = checkPath(c.Path, socket); err != nil {
		return nil, err
	}
	p.innerMTU, err = innerMTU(pathMTU, p.seal, c.Path.Remote.Addr().Is6())
	return p, err
}

func (p *prepared) takeVirtualIPs(addrs []netip.Addr) error {
	for _, a := range addrs {
		slot := &p.virtual4
		if a.Is6() {
			slot = &p.virtual6
		}
		if !a.IsValid() || a.Is4In6() || a.Zone() != "" || slot.IsValid() {
			return fmt.Errorf("%w: virtual addresses %v", dataplane.ErrInvalid, addrs)
		}
		*slot = a
	}
	if len(addrs) == 0 {
		return fmt.Errorf("%w: no virtual address", dataplane.ErrInvalid)
	}
	return nil
}

func checkPath(path dataplane.Path, socket *encap.Socket) error {
	if path.Encapsulation != dataplane.EncapsulationUDP || path.Local != socket.Local() || !socket.Reaches(path.Remote) {
		return fmt.Errorf("%w: path %v to %v", dataplane.ErrInvalid, path.Local, path.Remote)
	}
	return nil
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
	s.peer = p.child.Path.Remote
	s.localSelectors, s.remoteSelectors = p.child.Local, p.child.Remote
	s.hard, s.soft = p.child.Hard, p.child.Soft
	s.child = p.child
}

func cloneChild(c *dataplane.Child) *dataplane.Child {
	clone := *c
	clone.VirtualIPs = slices.Clone(c.VirtualIPs)
	clone.Local = slices.Clone(c.Local)
	clone.Remote = slices.Clone(c.Remote)
	clone.Inbound.Keys = cloneKeys(c.Inbound.Keys)
	clone.Outbound.Keys = cloneKeys(c.Outbound.Keys)
	return &clone
}

func cloneKeys(k dataplane.Keys) dataplane.Keys {
	return dataplane.Keys{Encryption: bytes.Clone(k.Encryption), Integrity: bytes.Clone(k.Integrity)}
}

// eraseKeys clears the key octets. The key schedules inside the transforms
// can't be reached; they go with the garbage.
func eraseKeys(c *dataplane.Child) {
	for _, k := range []dataplane.Keys{c.Inbound.Keys, c.Outbound.Keys} {
		clear(k.Encryption)
		clear(k.Integrity)
	}
}
