package ike

import (
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Where the peer may be without having said so: a NAT gave it another port, or
// somebody forwards its packets because he wants the downlink. It is asked
// there, and the Child SAs follow the answer.
//
// With MOBIKE the question is a COOKIE2, so that only who was reached there can
// answer. RFC 4555 section 3.8 allows to follow ESP packets, not IKE messages.
//
// Without MOBIKE nothing in an answer shows that its sender saw the question.
// RFC 7296 section 2.23 would have us follow any authentic packet; we follow an
// authentic answer to a request that went there, and that came from there. What
// is left: a device that was let in can send both the packet and the answer in
// somebody else's name, and have its own downlink sent there; and somebody who
// reads and sends on the device's link can win the race of the answers, until
// the device's next packet is the next hint. Neither sees a plain octet. A hint
// that comes to nothing has caused hintTries messages to its address, and no
// packet of a Child SA.

// hintTries are the tries of a request that go to a hinted address before the
// old one gets the rest.
const hintTries = 2

// PathProbed answers ProbePath: whether the peer answered on that path. Nothing
// has moved.
type PathProbed struct {
	Local, Remote netip.AddrPort
	Works         bool
}

// ProbePath asks an initiator whether the peer can be reached by another path
// (RFC 4555 section 3.10), by two tries; what is under way comes first. The
// answer is PathProbed. It is a no-op where the peer has no MOBIKE.
type ProbePath struct{ Local, Remote netip.AddrPort }

func (ProbePath) input()   {}
func (PathProbed) output() {}

// peerMoved: where an authenticated new request came from is where the IKE SA
// goes on (RFC 7296 section 2.23); with MOBIKE only the peer's word counts
// (RFC 4555 section 3.8).
func (m *Machine) peerMoved(from path) {
	if (!m.peer.mobike || m.state != stateEstablished) && !m.intoTunnel(from) {
		m.path = from
	}
}

// seenAt: a new request of a peer without MOBIKE is as good a hint as a packet.
func (m *Machine) seenAt(now time.Time, from path) {
	if m.ini == nil && !m.peer.mobike && m.natBetween && m.state == stateEstablished && m.carries {
		m.askAt(now, from)
	}
}

// addressHint: an authentic ESP packet came from elsewhere.
func (m *Machine) addressHint(now time.Time, hint AddressHint) {
	if m.state != stateEstablished || m.byInbound(hint.Inbound) == nil || m.ini != nil {
		return
	}
	m.askAt(now, path{local: hint.Local, remote: hint.Remote, marker: true})
}

// askAt asks the peer at an address. A request that is open asks there as well:
// the path it took may be dead, and so may be the address of an earlier hint,
// where a NAT went through several mappings.
func (m *Machine) askAt(now time.Time, to path) {
	at := m.childPath()
	if !m.acceptable(to) || (to.local == at.Local && to.remote == at.Remote) {
		return
	}
	r := &m.request
	if r.claimed && !r.held && (r.to == nil || *r.to != to) {
		r.to, r.toUntil = &to, r.tries+hintTries-1
		if !m.peer.mobike {
			r.hinted = to
		}
		if r.open {
			m.sendOpen(to)
		}
	}
	if r.claimed && !r.held && !m.peer.mobike {
		return // its answer will do
	}
	m.mobility.hint = to
	if m.mobility.hinting {
		return
	}
	m.mobility.hinting = true
	if !m.begin(now, m.askHinted) {
		m.mobility.hinting = false
	}
}

func (m *Machine) askHinted(now time.Time) {
	to, at := m.mobility.hint, m.childPath()
	m.mobility.hinting, m.mobility.hint = false, path{}
	if !m.carries || m.state != stateEstablished || !to.remote.IsValid() || (to.local == at.Local && to.remote == at.Remote) {
		m.finish(now)
		return
	}
	m.request.to = &to
	if !m.peer.mobike {
		m.request.hinted = to
		m.sendRequest(now, ikewire.Informational, nil, func(time.Time, Message, []ikewire.Payload) {})
		return
	}
	proof, ok := m.newProof(now, to)
	if !ok {
		return
	}
	m.request.proof = proof
	m.sendRequest(now, ikewire.Informational, []ikewire.Payload{notify(ikewire.NotifyCookie2, proof.cookie)}, func(now time.Time, in Message, inner []ikewire.Payload) {
		switch {
		case !m.returned(now, proof, inner):
		case proof.strayed || !from(in, to):
			m.note(NoteHintReverted, to.remote.String())
			m.settle(now) // it may have said something else meanwhile
		case m.carries:
			m.path = to
			m.moveChildren()
		}
	})
}

func from(in Message, p path) bool { return in.Remote == p.remote && in.Local == p.local }

// answeredFrom has the SAs of a peer without MOBIKE follow to where it was
// hinted to be, if it answered from there.
func (m *Machine) answeredFrom(in Message, hinted path) {
	switch {
	case !hinted.remote.IsValid() || m.state != stateEstablished || !m.carries:
	case !from(in, hinted):
		m.note(NoteHintReverted, hinted.remote.String())
	default:
		m.path = hinted
		m.moveChildren()
	}
}

// probePath tries a path and changes nothing.
func (m *Machine) probePath(now time.Time, in ProbePath) {
	to := path{local: in.Local, remote: in.Remote, marker: true}
	if m.ini == nil || !m.peer.mobike || m.state != stateEstablished || !m.carries {
		return
	}
	m.begin(now, func(now time.Time) {
		proof, ok := m.newProof(now, to)
		if m.state != stateEstablished || !ok {
			m.finish(now)
			return
		}
		m.request.to, m.request.proof = &to, proof
		m.sendRequest(now, ikewire.Informational, []ikewire.Payload{notify(ikewire.NotifyCookie2, proof.cookie)}, func(now time.Time, _ Message, inner []ikewire.Payload) {
			if m.returned(now, proof, inner) {
				m.emit(PathProbed{Local: to.local, Remote: to.remote, Works: !proof.strayed})
			}
		})
	})
}

// maxAlternatives of a device's further addresses that are tried for one
// request.
const maxAlternatives = 2

// sendAlternatives: a device that doesn't answer where it was may have lost that
// address and not know yet; the further ones that it told are tried, too, and
// where it was proven to be, if it isn't where it says. It moves nothing: only
// the device decides (RFC 4555 section 3.4).
func (m *Machine) sendAlternatives() {
	r := &m.request
	if m.ini != nil || !m.peer.mobike || r.tries <= hintTries || r.to != nil {
		return
	}
	if at := m.childPath(); at != m.wantedPath() {
		m.sendOpen(path{local: at.Local, remote: at.Remote, marker: true})
	}
	n := 0
	for _, a := range m.mobility.peer {
		to := path{local: m.path.local, remote: netip.AddrPortFrom(a, m.path.remote.Port()), marker: true}
		if n < maxAlternatives && a != m.path.remote.Addr() && a.Is4() == m.path.local.Addr().Is4() && m.acceptable(to) {
			m.sendOpen(to)
			n++
		}
	}
}
