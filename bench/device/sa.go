package device

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// maxChildren bounds the Child SAs of a device, reserved SPIs included.
const maxChildren = 8

// child is one pair of Child SAs. An SPI that is reserved has no transforms.
type child struct {
	inbound, outbound dataplane.SPI
	open, seal        esp.Transform
	window            esp.Window
	highest           uint64 // that was received
	next              uint64 // to be sent
	esn               bool
	used              int // order of UseOutbound, 0: never
}

// table of the Child SAs, by inbound SPI.
type table struct {
	children map[dataplane.SPI]*child
	uses     int
	out      *child // the one that is sent by
}

// reserve draws an SPI, with the number of a device that shares sockets, that isn't
// one of the reserved (RFC 4303 section 2.1).
// Errors: dataplane.ErrFull, those of rand.
func (t *table) reserve(rand io.Reader, number uint32) (dataplane.SPI, error) {
	if len(t.children) >= maxChildren {
		return 0, dataplane.ErrFull
	}
	for {
		var b [4]byte
		if _, err := io.ReadFull(rand, b[:]); err != nil {
			return 0, err
		}
		spi := dataplane.SPI(number32(binary.BigEndian.Uint32(b[:]), number))
		if spi >= 256 && t.children[spi] == nil {
			if t.children == nil {
				t.children = make(map[dataplane.SPI]*child, 1)
			}
			t.children[spi] = &child{inbound: spi}
			return spi, nil
		}
	}
}

func (t *table) applyAll(changes []dataplane.Change) []error {
	errs := make([]error, len(changes))
	for i, c := range changes {
		errs[i] = t.apply(c)
	}
	return errs
}

// apply carries out one change as dataplane.Backend does.
func (t *table) apply(change dataplane.Change) error {
	switch change := change.(type) {
	case dataplane.Install:
		return t.install(&change.Child)
	case dataplane.UseOutbound:
		c := t.children[change.Inbound]
		if c == nil || c.open == nil {
			return dataplane.ErrUnknownSPI
		}
		t.uses++
		c.used = t.uses
		t.out = c
	case dataplane.Move:
		// There is one socket and one gateway: all paths are the same.
		if c := t.children[change.Inbound]; c == nil || c.open == nil {
			return dataplane.ErrUnknownSPI
		}
	case dataplane.Regroup:
		// A device has no group of its own.
	case dataplane.Remove:
		if t.children[change.Inbound] == nil {
			return dataplane.ErrUnknownSPI
		}
		delete(t.children, change.Inbound)
		t.elect()
	}
	return nil
}

func (t *table) install(c *dataplane.Child) error {
	s := t.children[c.Inbound.SPI]
	if s == nil || s.open != nil {
		return dataplane.ErrNotReserved
	}
	if c.Path.Encapsulation != dataplane.EncapsulationUDP {
		return fmt.Errorf("%w: a device has no raw ESP", dataplane.ErrInvalid)
	}
	open, err := esp.New(c.Algorithm, c.Inbound.Keys, c.ESN)
	if err != nil {
		return err
	}
	seal, err := esp.New(c.Algorithm, c.Outbound.Keys, c.ESN)
	if err != nil {
		return err
	}
	s.open, s.seal, s.outbound, s.next, s.esn = open, seal, c.Outbound.SPI, 1, c.ESN
	return nil
}

// elect finds what is sent by after a removal: the one that was told last.
func (t *table) elect() {
	t.out = nil
	for _, c := range t.children {
		if c.used > 0 && (t.out == nil || c.used > t.out.used) {
			t.out = c
		}
	}
}

// installed counts Child SAs.
func (t *table) installed() (n int) {
	for _, c := range t.children {
		if c.open != nil {
			n++
		}
	}
	return n
}

// sequence numbers below this can be sent.
func (c *child) limit() uint64 {
	if c.esn {
		return math.MaxUint64
	}
	return 1 << 32
}

// decrypt opens an ESP packet in place. lost is by how many the holes in the
// sequence numbers grew: -1 if the packet filled one.
func (t *table) decrypt(packet []byte) (inner []byte, nextHeader byte, lost int64, drop Drop, ok bool) {
	if len(packet) < 8 {
		return nil, 0, 0, DropShort, false
	}
	c := t.children[dataplane.SPI(binary.BigEndian.Uint32(packet))]
	if c == nil || c.open == nil {
		return nil, 0, 0, DropUnknownSPI, false
	}
	seq, verdict := c.window.Check(binary.BigEndian.Uint32(packet[4:]), c.esn)
	if verdict != esp.Fresh {
		return nil, 0, 0, DropReplay, false
	}
	inner, nextHeader, err := c.open.Open(packet, seq)
	if err != nil {
		return nil, 0, 0, DropIntegrity, false
	}
	lost = -1
	if c.window.Advance(seq) {
		lost = int64(seq - c.highest - 1)
		c.highest = seq
	}
	return inner, nextHeader, lost, 0, true
}
