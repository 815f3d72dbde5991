package ike

import (
	"errors"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// childState says what is being done to a Child SA.
type childState uint8

const (
	childInstalling childState = iota // the data plane was asked
	childUp
	childRekeying // our CREATE_CHILD_SA for it is open, or about to be
	childReplaced // the peer rekeyed it and is to delete it
	childDeleting // our DELETE is open, or about to be
)

// child is what a machine remembers of a Child SA; keys and counters are in
// the data plane.
type child struct {
	inbound, outbound dataplane.SPI
	algorithm         dataplane.Algorithm
	esn               bool
	group             uint16 // of its own key exchange; 0: none
	local, remote     []dataplane.Selector

	state            childState
	rekeyAt, expires time.Time
	// heir is the Child SA that the peer made in place of this one. It is
	// received already; sending changes over when this one is deleted (RFC
	// 7296 section 2.8).
	heir *child
	// lowNonce of the exchange that made heir, for the case that both sides
	// rekeyed at once (RFC 7296 section 2.8.1).
	lowNonce []byte
	// contended: the peer's request to rekey this one is being worked on, so
	// lowNonce is set and heir comes. lost: our own rekeying won meanwhile.
	contended, lost bool
}

// childSpec is what was agreed about a new Child SA.
type childSpec struct {
	child
	nonceI, nonceR []byte // of the exchange
	shared         []byte // of its own key exchange, or nil; erased by install
	ours           bool   // we began the exchange
	activate       bool   // send by it at once
}

// install derives the keys of a Child SA (RFC 7296 section 2.17), installs it
// and goes on when the data plane knows it, with an error or the child.
func (m *Machine) install(s childSpec, then func(now time.Time, c *child, err error)) {
	encryption, integrity, ok := s.algorithm.KeyLengths()
	if !ok {
		// Only what the data plane offers is negotiated.
		encryption, integrity = 0, 0
	}
	fromI, fromR := ikecrypto.ChildKeys(m.suite.PRF, m.skD, s.nonceI, s.nonceR, s.shared, encryption, integrity)
	clear(s.shared)
	inKeys, outKeys := dataplane.Keys(fromI), dataplane.Keys(fromR)
	if s.ours {
		inKeys, outKeys = outKeys, inKeys
	}
	// Known from now on, so that whatever ends the IKE SA removes it.
	c := new(child) // not a part of s, whose nonces it would keep
	*c = s.child
	m.children = append(m.children, c)
	m.keep(c.inbound)
	changes := []dataplane.Change{dataplane.Install{Child: dataplane.Child{
		Inbound:    dataplane.SA{SPI: c.inbound, Keys: inKeys},
		Outbound:   dataplane.SA{SPI: c.outbound, Keys: outKeys},
		Algorithm:  c.algorithm,
		ESN:        c.esn,
		VirtualIPs: m.virtual,
		Local:      c.local,
		Remote:     c.remote,
		Path:       m.childPath(),
		Soft:       shortBlock(c.algorithm, m.cfg.Soft, softBlocks),
		Hard:       shortBlock(c.algorithm, m.cfg.Hard, 2*softBlocks),
	}}}
	if s.activate {
		changes = append(changes, dataplane.UseOutbound{Inbound: c.inbound})
	}
	m.exportChild(c, inKeys, outKeys)
	id := m.newID()
	m.ask(id, Apply{ID: id, Wait: true, Changes: changes}, func(now time.Time, in Input) {
		inKeys.Erase()
		outKeys.Erase()
		done, _ := in.(Applied)
		switch {
		case done.Err != nil:
			m.drop(c)
			then(now, nil, done.Err)
			return
		case m.byInbound(c.inbound) != c:
			then(now, nil, errChildGone)
			return
		}
		c.state = childUp
		m.startLife(now, c)
		then(now, c, nil)
	})
}

// softBlocks of 64 bits under one key before it is replaced: far below the 2^32
// at which blocks repeat (CVE-2016-2183).
const softBlocks = 1 << 24

// shortBlock narrows limits for ciphers with blocks of 64 bits.
func shortBlock(a dataplane.Algorithm, l dataplane.Limits, blocks uint64) dataplane.Limits {
	if n := 8 * blocks; a.Encryption == dataplane.EncryptionTripleDES && (l.Bytes == 0 || l.Bytes > n) {
		l.Bytes = n
	}
	return l
}

// errChildGone: the peer deleted a Child SA before it was there.
var errChildGone = errors.New("deleted by the peer meanwhile")

func (m *Machine) exportChild(c *child, in, out dataplane.Keys) {
	if m.cfg.ExportKeys {
		m.emit(KeysDerived{Child: &ChildKeyLog{
			Gateway: m.path.local.Addr(), Peer: m.path.remote.Addr(), Algorithm: c.algorithm,
			Inbound:  dataplane.SA{SPI: c.inbound, Keys: in.Clone()},
			Outbound: dataplane.SA{SPI: c.outbound, Keys: out.Clone()},
		}})
	}
}

// tellChild is the news that a Child SA came after the first.
func (m *Machine) tellChild(c *child) {
	m.emit(ChildUp{Inbound: c.inbound, Outbound: c.outbound, ESP: c.algorithm.String(), LocalTS: c.local, RemoteTS: c.remote})
}

// drop takes a Child SA out of the data plane.
func (m *Machine) drop(c *child) {
	if m.forgetChild(c) {
		m.emit(Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: c.inbound}}})
		m.emit(ChildDown{Inbound: c.inbound})
	}
}

// forgetChild says whether it was known.
func (m *Machine) forgetChild(c *child) bool {
	i := slices.Index(m.children, c)
	if i < 0 {
		return false
	}
	m.children = append(m.children[:i:i], m.children[i+1:]...)
	if m.in.awaits == c {
		m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyTemporaryFailure)
	}
	return true
}

// removeChildren takes all Child SAs, and reserved SPIs, out of the data plane.
func (m *Machine) removeChildren() {
	for len(m.children) > 0 {
		m.drop(m.children[len(m.children)-1])
	}
	m.departed(time.Time{})
	for spi := range m.reserved {
		m.release(spi)
	}
}

// release gives a reserved SPI back.
func (m *Machine) release(spi dataplane.SPI) {
	m.keep(spi)
	m.emit(Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: spi}}})
}

// reserve asks for an inbound SPI. It is given back unless keep is called.
func (m *Machine) reserve(then func(now time.Time, spi dataplane.SPI, err error)) {
	o := Reserve{ID: m.newID()}
	if len(m.virtual) > 0 {
		o.Hint = m.virtual[0]
	}
	m.ask(o.ID, o, func(now time.Time, in Input) {
		switch in := in.(type) {
		case Reserved:
			if m.reserved == nil {
				m.reserved = make(map[dataplane.SPI]bool)
			}
			m.reserved[in.SPI] = true
			then(now, in.SPI, nil)
		case ReserveFailed:
			then(now, 0, in.Err)
		}
	})
}

// keep: the SPI is a Child SA's now.
func (m *Machine) keep(spi dataplane.SPI) {
	if delete(m.reserved, spi); len(m.reserved) == 0 {
		m.reserved = nil
	}
}

func (m *Machine) byInbound(spi dataplane.SPI) *child {
	for _, c := range m.children {
		if c.inbound == spi {
			return c
		}
	}
	return nil
}

func (m *Machine) byOutbound(spi dataplane.SPI) *child {
	for _, c := range m.children {
		if c.outbound == spi {
			return c
		}
	}
	return nil
}
