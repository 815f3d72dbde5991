package ike

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Changes of the peer's address: by its word (MOBIKE, RFC 4555), or by what
// the data plane saw (a NAT that gave the peer another port). And of our own,
// where we are the one who moves.
//
// Who moves is whoever began the first IKE SA, also after the other side
// rekeyed it (RFC 4555 section 2.1): so Machine.ini is asked, not original.

// hintTries are the tries of a probe that go to a new address before the old
// one gets the rest.
const hintTries = 2

// updateAddresses moves the IKE SA to where the request came from (RFC 4555
// section 3.5), the Child SAs when the peer was found there, and returns what
// the answer has to say. Only the original initiator decides on addresses.
func (m *Machine) updateAddresses(now time.Time, inner []ikewire.Payload) []ikewire.Payload {
	if m.ini != nil || !m.peer.mobike {
		m.note(NoteUnexpected, "UPDATE_SA_ADDRESSES without MOBIKE")
		return nil
	}
	if n := ikewire.FindNotify(inner, ikewire.NotifyNoNATsAllowed); n != nil && !noNAT(n.Data, m.in.from) {
		return []ikewire.Payload{notify(ikewire.NotifyUnexpectedNATDetected, nil)}
	}
	if m.intoTunnel(m.in.from) {
		return []ikewire.Payload{notify(ikewire.NotifyUnacceptableAddresses, nil)}
	}
	moved := m.path != m.in.from
	m.path = m.in.from
	if _, between := natDetect(inner, m.spiI, m.spiR, m.path); !m.cfg.ForceUDP {
		m.natBetween = between
	}
	if moved {
		m.confirmPath(now)
	}
	return m.natPayloads(m.spiR, m.path)
}

// intoTunnel: a path to the peer's own virtual address would lead every packet
// back to where it came from.
func (m *Machine) intoTunnel(p path) bool {
	return slices.Contains(m.virtual, p.remote.Addr())
}

// confirmPath sees whether the peer is where it says (RFC 4555 section 3.7):
// the Child SAs, which carry far more than was asked with, follow only when it
// returns the COOKIE2 that was sent there. What was open goes there first.
func (m *Machine) confirmPath(now time.Time) {
	if r := &m.request; r.open {
		r.to, r.hinted = nil, path{}
		m.send(r.raw, m.path)
	}
	to := m.path
	m.begin(now, func(now time.Time) {
		cookie := make([]byte, 16)
		if m.path != to || m.state != stateEstablished || !m.random(now, cookie) {
			m.finish(now) // it moved on
			return
		}
		m.sendRequest(now, ikewire.Informational, []ikewire.Payload{notify(ikewire.NotifyCookie2, cookie)}, func(_ time.Time, _ Message, inner []ikewire.Payload) {
			if n := ikewire.FindNotify(inner, ikewire.NotifyCookie2); n == nil || !bytes.Equal(n.Data, cookie) {
				m.note(NoteMoveRefused, "COOKIE2")
			} else if m.path == to {
				m.moveChildren()
			}
		})
	})
}

// noNAT compares the addresses that the peer sent with those that we see (RFC
// 4555 section 4.2.6): source, destination, source port, destination port.
func noNAT(data []byte, seen path) bool {
	n := seen.remote.Addr().BitLen() / 8
	if len(data) != 2*n+4 {
		return false
	}
	source, _ := netip.AddrFromSlice(data[:n])
	destination, _ := netip.AddrFromSlice(data[n : 2*n])
	return source == seen.remote.Addr() && destination == seen.local.Addr() &&
		binary.BigEndian.Uint16(data[2*n:]) == seen.remote.Port() &&
		binary.BigEndian.Uint16(data[2*n+2:]) == seen.local.Port()
}

// addressHint: an authentic ESP packet came from elsewhere. It may have been
// forwarded by somebody who wants the downlink, so the peer is asked there; an
// answer from there moves the SAs. A request that is open already asks as well
// as any: the path it took may be dead, and so may be the address of an earlier
// hint, where a NAT went through several mappings.
func (m *Machine) addressHint(now time.Time, hint AddressHint) {
	to := path{local: hint.Local, remote: hint.Remote, marker: true}
	if m.state != stateEstablished || to == m.path || m.intoTunnel(to) || m.byInbound(hint.Inbound) == nil {
		return
	}
	r := &m.request
	if r.claimed {
		r.to, r.toUntil, r.hinted = &to, r.tries+hintTries-1, to
		if r.open {
			m.send(r.raw, to)
		}
		return
	}
	m.begin(now, func(now time.Time) {
		m.request.to, m.request.hinted = &to, to
		m.sendRequest(now, ikewire.Informational, nil, func(time.Time, Message, []ikewire.Payload) {})
	})
}

// answeredFrom has the SAs follow to where the peer was hinted to be, if it
// answered from there.
func (m *Machine) answeredFrom(from, hinted path) {
	switch {
	case hinted == path{} || m.state != stateEstablished || m.path == hinted:
	case from != hinted:
		m.note(NoteHintReverted, hinted.remote.String())
	default:
		m.path = hinted
		m.moveChildren()
	}
}

// NoteMoveRefused: the peer doesn't go on with us from our new address, or
// can't be told of it.
const NoteMoveRefused Note = "move_refused"

// move goes on from another address of ours.
func (m *Machine) move(now time.Time, in Move) {
	to := path{local: in.Local, remote: in.Remote, marker: true}
	if m.ini == nil || m.superseded || to == m.path || (m.state != stateEstablished && m.state != stateDeleting) {
		return
	}
	if !m.peer.mobike {
		m.note(NoteMoveRefused, "without MOBIKE")
		return
	}
	m.path = to
	if r := &m.request; r.open {
		// Whether the peer got it or its answer got lost on the old path, the
		// answer comes here.
		r.to, r.hinted = nil, path{}
		m.send(r.raw, m.path)
	}
	if m.state == stateEstablished {
		m.begin(now, func(now time.Time) { m.updatePeer(now, to) })
	}
}

// updatePeer sends UPDATE_SA_ADDRESSES for the path to. A later move has its
// own, which comes behind.
func (m *Machine) updatePeer(now time.Time, to path) {
	if m.path != to || m.state != stateEstablished || m.superseded {
		m.finish(now)
		return
	}
	payloads := append([]ikewire.Payload{notify(ikewire.NotifyUpdateSAAddresses, nil)}, m.natPayloads(m.spiR, to)...)
	m.sendRequest(now, ikewire.Informational, payloads, func(_ time.Time, _ Message, inner []ikewire.Payload) {
		if n := errorNotify(inner); n != nil {
			m.note(NoteMoveRefused, n.NotifyType.String())
			return
		}
		if m.path != to {
			return
		}
		if supported, between := natDetect(inner, m.spiI, m.spiR, to); supported {
			m.natBetween = between || m.cfg.ForceUDP
		}
		m.moveChildren()
	})
}
