package ike

import (
	"bytes"
	"crypto/subtle"
	"net/netip"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// MOBIKE (RFC 4555). There are two paths: that of the IKE SA, which follows the
// peer's word at once, and that of the Child SAs, which follows when the peer
// was found there. settle brings the second to the first.
//
// Who decides is whoever began the first IKE SA, also after the other side
// rekeyed it (RFC 4555 section 2.1): so Machine.ini is asked, not original.
//
//	mobike.go     UPDATE_SA_ADDRESSES and the return routability check
//	hint.go       what the data plane saw, and paths that are tried
//	addresses.go  further addresses of both sides
//	nat.go        NATs that are found, forbidden, and forget

// mobility is where an IKE SA and its Child SAs are, and what is on its way.
type mobility struct {
	children dataplane.Path // of the Child SAs, proven
	settling bool           // a task that settles waits for its turn
	// updateDue: the peer is to be told of our path. updating: it is being told.
	updateDue, updating bool
	told                bool   // by this IKE SA's peer, where it is
	refused             int    // UNEXPECTED_NAT_DETECTED in a row
	mapped              []byte // our address as the peer last saw it, hashed
	hint                path   // where the peer may be; the newest
	hinting             bool   // a task that asks there waits for its turn
	own                 []netip.Addr
	announced           bool         // own was given by Announce
	peer                []netip.Addr // its further addresses
}

// pathProof is a return routability check that is under way (RFC 4555 section
// 3.7): whoever returns the cookie was reached at the path, if the cookie was
// sent nowhere else. Our requests follow the peer while they are open, so a
// peer could collect at one address what proves another.
type pathProof struct {
	of      path
	cookie  []byte
	strayed bool
}

func (m *Machine) newProof(now time.Time, of path) (*pathProof, bool) {
	p := &pathProof{of: of, cookie: make([]byte, 16)}
	return p, m.random(now, p.cookie)
}

// returned: the answer has the cookie, and nothing but this one. If not, the
// IKE SA is closed (RFC 4555 section 3.7).
func (m *Machine) returned(now time.Time, p *pathProof, inner []ikewire.Payload) bool {
	n := ikewire.FindNotify(inner, ikewire.NotifyCookie2)
	if n != nil && subtle.ConstantTimeCompare(n.Data, p.cookie) == 1 {
		return true
	}
	m.note(NoteMoveRefused, "COOKIE2")
	if m.state == stateEstablished {
		m.closeDetail = "COOKIE2 did not come back"
		m.sendDelete(now, CloseMalformed)
	}
	return false
}

// wantedPath is the outer way that Child SAs are to take: that of the IKE SA.
func (m *Machine) wantedPath() dataplane.Path {
	p := dataplane.Path{Local: m.path.local, Remote: m.path.remote, Encapsulation: dataplane.EncapsulationNone}
	if m.natBetween {
		p.Encapsulation = dataplane.EncapsulationUDP
	}
	return p
}

// childPath is where Child SAs send. The handshake proves the first one, as far
// as the addresses go at which the answer to IKE_SA_INIT was received.
func (m *Machine) childPath() dataplane.Path {
	c := &m.mobility.children
	if c.Remote.IsValid() {
		return *c
	}
	*c = m.wantedPath()
	if m.handshake != nil && m.handshake.from.remote.IsValid() {
		c.Local = netip.AddrPortFrom(m.handshake.from.local.Addr(), c.Local.Port())
		c.Remote = netip.AddrPortFrom(m.handshake.from.remote.Addr(), c.Remote.Port())
	}
	return *c
}

// proveAuth: an IKE_AUTH from another address than IKE_SA_INIT could be sent in
// somebody else's name. The peer is asked there.
func (m *Machine) proveAuth(now time.Time) {
	switch {
	case m.ini != nil || !m.unsettled():
	case m.peer.mobike:
		m.settle(now)
	default:
		m.askAt(now, m.path)
	}
}

// moveChildren gives all Child SAs the path of the IKE SA.
func (m *Machine) moveChildren() {
	if m.childPath() == m.wantedPath() {
		return
	}
	m.mobility.children = m.wantedPath()
	var changes []dataplane.Change
	for _, c := range m.children {
		changes = append(changes, dataplane.Move{Inbound: c.inbound, Path: m.mobility.children})
	}
	if len(changes) > 0 {
		m.emit(Apply{Changes: changes})
	}
	m.emit(Moved{Local: m.path.local, Remote: m.path.remote})
}

// mobilityRequest takes what an INFORMATIONAL request says of addresses, and
// returns what the answer says. settle: the Child SAs are to follow afterwards.
func (m *Machine) mobilityRequest(inner []ikewire.Payload) (answer []ikewire.Payload, settle bool) {
	has := func(t ikewire.NotifyType) bool { return ikewire.FindNotify(inner, t) != nil }
	if n := ikewire.FindNotify(inner, ikewire.NotifyCookie2); n != nil && len(n.Data) >= 8 && len(n.Data) <= 64 {
		answer = append(answer, notify(ikewire.NotifyCookie2, n.Data)) // section 4.2.5: as it came
	}
	update := has(ikewire.NotifyUpdateSAAddresses)
	further := has(ikewire.NotifyAdditionalIP4Address) || has(ikewire.NotifyAdditionalIP6Address) || has(ikewire.NotifyNoAdditionalAddresses)
	switch {
	case !m.peer.mobike && (update || further), m.ini != nil && update:
		m.note(NoteUnexpected, "change of addresses without MOBIKE")
		return answer, false
	case m.natForbidden(inner):
		return append(answer, notify(ikewire.NotifyUnexpectedNATDetected, nil)), false
	case update && !m.acceptable(m.in.from):
		return append(answer, notify(ikewire.NotifyUnacceptableAddresses, nil)), false
	}
	if further {
		c := m.carrier()
		m.lend(c, func() { c.takeAddresses(inner) })
	}
	if update {
		m.updateAddresses(inner)
	}
	if update || has(ikewire.NotifyNATDetectionSourceIP) {
		answer = append(answer, m.natPayloads(m.spiR, m.in.from)...) // section 3.8
	}
	return answer, update
}

// updateAddresses moves the IKE SA to where the request came from (RFC 4555
// section 3.5). What is open goes there first.
func (m *Machine) updateAddresses(inner []ikewire.Payload) {
	c := m.carrier()
	if c != m && c.mobility.told {
		return // it said something newer there
	}
	m.mobility.told = true
	moved := c.path != m.in.from
	m.path, c.path = m.in.from, m.in.from
	if supported, between := natDetect(inner, m.spiI, m.spiR, m.path); supported && !m.cfg.ForceUDP {
		m.natBetween, c.natBetween = between, between
	}
	if moved {
		m.follow()
	}
	if moved && c != m {
		m.lend(c, c.follow)
	}
}

// follow sends what is open along the path of the IKE SA, which has changed.
func (m *Machine) follow() {
	r := &m.request
	r.to, r.hinted = nil, path{}
	if r.open {
		m.sendOpen(m.path)
	}
}

// acceptable: a peer can be at p. At its own virtual address every packet would
// lead back to where it came from; MOBIKE goes by the port for UDP
// encapsulation (RFC 4555 section 3.3).
func (m *Machine) acceptable(p path) bool {
	a := p.remote.Addr()
	return p.marker && p.remote.IsValid() && p.remote.Port() != 0 && !a.IsUnspecified() && !a.IsMulticast() && !m.intoTunnel(p)
}

func (m *Machine) intoTunnel(p path) bool {
	return slices.Contains(m.virtual, p.remote.Addr())
}

// carrier is the machine that has the Child SAs: a peer may speak to the one
// before still.
func (m *Machine) carrier() *Machine {
	for m.heir != nil {
		m = m.heir
		m.wake()
	}
	return m
}

// lend has another machine of the session do something, whose outputs become
// ours. They hold no questions.
func (m *Machine) lend(other *Machine, do func()) {
	if other == m {
		do()
		return
	}
	other.out = nil
	do()
	m.out = append(m.out, other.out...)
	other.out = nil
}

func (m *Machine) settleCarrier(now time.Time) {
	c := m.carrier()
	m.lend(c, func() { c.settle(now) })
}

// settle has the Child SAs follow the IKE SA: a responder sees first whether
// the peer is there (RFC 4555 section 3.7), an initiator tells the peer (section
// 3.5). One task waits at most; it takes the path of the moment in which its
// turn comes, so what was overtaken meanwhile costs nothing.
func (m *Machine) settle(now time.Time) {
	if m.mobility.settling || !m.carries {
		return
	}
	m.mobility.settling = true
	if m.request.held && m.mobility.updateDue {
		// What the peer sends goes to where we were: it is for us to speak first.
		m.tasks = slices.Insert(m.tasks, 0, m.settleNow)
		m.unhold(now)
		return
	}
	if !m.begin(now, m.settleNow) {
		m.mobility.settling = false
	}
}

func (m *Machine) settleNow(now time.Time) {
	m.mobility.settling = false
	at := m.childPath()
	switch {
	case !m.carries || m.state != stateEstablished:
		m.finish(now)
	case m.ini != nil && m.mobility.updateDue:
		m.updatePeer(now)
	case m.ini == nil && at.Local == m.path.local && at.Remote == m.path.remote:
		m.moveChildren() // proven already; a NAT may have come or gone
		m.finish(now)
	case m.ini == nil:
		m.checkPath(now)
	default:
		m.finish(now)
	}
}

// checkPath sees whether the peer is where it says: the Child SAs, which carry
// far more than was asked with, follow only when it returns the COOKIE2 that was
// sent there.
func (m *Machine) checkPath(now time.Time) {
	proof, ok := m.newProof(now, m.path)
	if !ok {
		return
	}
	m.request.proof = proof
	m.sendRequest(now, ikewire.Informational, []ikewire.Payload{notify(ikewire.NotifyCookie2, proof.cookie)}, func(now time.Time, in Message, inner []ikewire.Payload) {
		at := m.childPath()
		switch {
		case !m.returned(now, proof, inner):
		case !m.carries:
			// The successor sees for itself.
		case proof.strayed && m.path == proof.of && in.Local == at.Local && in.Remote == at.Remote:
			// It never was where its word came from, by somebody's doing.
			m.note(NoteMoveRefused, proof.of.remote.String())
			m.path.local, m.path.remote = at.Local, at.Remote
		case m.mobility.hint.remote.IsValid():
			// Newer than what it said; its turn is next.
		case proof.strayed || m.path != proof.of:
			m.settle(now)
		default:
			m.moveChildren()
		}
	})
}

// NoteMoveRefused: the peer doesn't go on with us from our new address, can't
// be told of it, or didn't prove its own.
const NoteMoveRefused Note = "move_refused"

// maxRefused: an attacker who changes one packet must not take a path from us
// (RFC 4555 section 3.9).
const maxRefused = 3

// move goes on from another address of ours.
func (m *Machine) move(now time.Time, in Move) {
	to := path{local: in.Local, remote: in.Remote, marker: true}
	if m.ini == nil || to == m.path || (m.state != stateEstablished && m.state != stateDeleting) {
		return
	}
	if !m.peer.mobike {
		m.note(NoteMoveRefused, "without MOBIKE")
		return
	}
	// Whether the peer got what is open or its answer got lost on the old path,
	// the answer comes here.
	m.path = to
	m.follow()
	if m.carries {
		m.mobility.updateDue, m.mobility.refused = true, 0
		m.settle(now)
	}
}

// updatePeer sends UPDATE_SA_ADDRESSES for the path of the IKE SA. The COOKIE2
// shows that it is our peer who answers at its address.
func (m *Machine) updatePeer(now time.Time) {
	proof, ok := m.newProof(now, m.path)
	if !ok {
		return
	}
	m.mobility.updateDue, m.mobility.updating = false, true
	m.request.proof = proof
	payloads := []ikewire.Payload{notify(ikewire.NotifyUpdateSAAddresses, nil)}
	payloads = append(payloads, m.natPayloads(m.spiR, proof.of)...)
	payloads = append(payloads, m.addressPayloads(proof.of.local.Addr(), m.mobility.announced)...)
	payloads = append(payloads, m.noNATPayload(proof.of)...)
	payloads = append(payloads, notify(ikewire.NotifyCookie2, proof.cookie))
	m.sendRequest(now, ikewire.Informational, payloads, func(now time.Time, _ Message, inner []ikewire.Payload) {
		m.mobility.updating = false
		m.updated(now, proof, inner)
	})
}

// updated takes the answer. One to an update that was overtaken counts for
// nothing (RFC 4555 section 3.5).
func (m *Machine) updated(now time.Time, proof *pathProof, inner []ikewire.Payload) {
	n := errorNotify(inner)
	switch {
	case !m.carries:
		// The successor tells the peer itself.
	case proof.strayed || m.path != proof.of:
		m.mobility.updateDue = true
		m.settle(now)
	case n != nil && n.NotifyType == ikewire.NotifyUnexpectedNATDetected && m.mobility.refused < maxRefused-1:
		m.mobility.refused++
		m.mobility.updateDue = true
		m.settle(now)
	case n != nil:
		// We stay, as far as we can, where we were.
		m.note(NoteMoveRefused, n.NotifyType.String())
		m.path.local, m.path.remote = m.childPath().Local, m.childPath().Remote
	case m.returned(now, proof, inner):
		m.mobility.refused = 0
		m.mobility.mapped = mappedOf(inner)
		if supported, between := natDetect(inner, m.spiI, m.spiR, proof.of); supported {
			m.natBetween = between || m.cfg.ForceUDP
		}
		m.moveChildren()
	}
}

// inherit takes over where the predecessor is, and what it could not finish.
func (m *Machine) inherit(from *Machine) {
	old := &from.mobility
	m.path, m.natBetween = from.path, from.natBetween
	m.mobility = mobility{
		children: from.childPath(), own: old.own, announced: old.announced, peer: old.peer, hint: old.hint,
		updateDue: m.ini != nil && (old.updateDue || old.updating || from.childPath() != from.wantedPath()),
	}
}

// unsettled: the Child SAs are not where the IKE SA is, or the peer may not know.
func (m *Machine) unsettled() bool {
	return m.mobility.updateDue || m.childPath() != m.wantedPath()
}

// mappedOf is the peer's view of our address, as a hash.
func mappedOf(inner []ikewire.Payload) []byte {
	if n := ikewire.FindNotify(inner, ikewire.NotifyNATDetectionDestinationIP); n != nil {
		return bytes.Clone(n.Data)
	}
	return nil
}
