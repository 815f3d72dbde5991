package ike

import (
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/dataplane"
)

// child is what a machine remembers of its Child SA; keys and counters are in
// the data plane.
type child struct {
	inbound, outbound dataplane.SPI
}

// install derives the keys of the Child SA (RFC 7296 section 2.17), installs
// it and goes on when the data plane knows it.
func (m *Machine) install(now time.Time, then func(time.Time)) {
	hs := m.handshake
	a := hs.auth
	alg := a.choice.algorithm
	encryption, integrity, ok := alg.KeyLengths()
	if !ok {
		m.closed(now, CloseInternal, "unknown ESP algorithm "+alg.String(), false)
		return
	}
	fromI, fromR := ikecrypto.ChildKeys(m.suite.PRF, m.keys.D, hs.nonceI, hs.nonceR, nil, encryption, integrity)
	inKeys, outKeys := dataplane.Keys(fromI), dataplane.Keys(fromR)
	if m.initiator() {
		inKeys, outKeys = outKeys, inKeys
	}
	m.child.outbound = a.choice.peerSPI
	encapsulation := dataplane.EncapsulationNone
	if hs.natBetween {
		encapsulation = dataplane.EncapsulationUDP
	}
	c := dataplane.Child{
		Inbound:    dataplane.SA{SPI: m.child.inbound, Keys: inKeys},
		Outbound:   dataplane.SA{SPI: m.child.outbound, Keys: outKeys},
		Algorithm:  alg,
		VirtualIPs: a.addrs,
		Local:      m.summary.LocalTS,
		Remote:     m.summary.RemoteTS,
		Path:       dataplane.Path{Local: m.path.local, Remote: m.path.remote, Encapsulation: encapsulation},
		Soft:       m.cfg.Soft,
		Hard:       m.cfg.Hard,
	}
	if m.cfg.ExportKeys {
		m.emit(KeysDerived{Child: &ChildKeyLog{
			Gateway: m.path.local.Addr(), Peer: m.path.remote.Addr(), Algorithm: alg,
			Inbound:  dataplane.SA{SPI: c.Inbound.SPI, Keys: cloneKeys(inKeys)},
			Outbound: dataplane.SA{SPI: c.Outbound.SPI, Keys: cloneKeys(outKeys)},
		}})
	}
	m.workID++
	m.ask(Apply{ID: m.workID, Wait: true, Changes: []dataplane.Change{
		dataplane.Install{Child: c}, dataplane.UseOutbound{Inbound: c.Inbound.SPI},
	}}, func(now time.Time, in Input) {
		eraseKeys(inKeys, outKeys)
		if done, ok := in.(Applied); ok && done.Err != nil {
			m.installFailed(now, done.Err)
			return
		}
		then(now)
	})
}

func (m *Machine) installFailed(now time.Time, err error) {
	if m.initiator() {
		m.closed(now, CloseInternal, "data plane: "+err.Error(), false)
		return
	}
	m.refuse(now, CloseInternal, "data plane: "+err.Error())
}

// removeChild takes the Child SA, or the reserved SPI, out of the data plane.
func (m *Machine) removeChild() {
	if m.child == nil {
		return
	}
	m.emit(Apply{Changes: []dataplane.Change{dataplane.Remove{Inbound: m.child.inbound}}})
	m.child = nil
}

func cloneKeys(k dataplane.Keys) dataplane.Keys {
	return dataplane.Keys{Encryption: clone(k.Encryption), Integrity: clone(k.Integrity)}
}

func eraseKeys(keys ...dataplane.Keys) {
	for _, k := range keys {
		clear(k.Encryption)
		clear(k.Integrity)
	}
}
