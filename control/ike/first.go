package ike

import (
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// What a responder asks of a first request, and notes of it, be it IKE_SA_INIT
// or IKE_SESSION_RESUME.

// nonceOf a first message: 16 to 256 octets (RFC 7296 section 3.9).
func nonceOf(payloads []ikewire.Payload) ([]byte, bool) {
	n, ok := ikewire.Find[*ikewire.Nonce](payloads)
	if !ok || len(n.Data) < 16 || len(n.Data) > 256 {
		return nil, false
	}
	return n.Data, true
}

// welcome decides what doesn't depend on algorithms, before anything is
// computed. noNAT is the answer to a peer that detects no NATs where it has to.
// ok is false if the request was refused; between says that there is a NAT.
func (m *Machine) welcome(now time.Time, in Message, msg *ikewire.Message, nonce []byte, noNAT ikewire.NotifyType) (between, ok bool) {
	p := in.path()
	if t, critical := unknownCritical(msg.Payloads); critical {
		m.refuseInit(now, p, notify(ikewire.NotifyUnsupportedCriticalPayload, []byte{byte(t)}), CloseMalformed, "unknown critical payload "+t.String())
		return false, false
	}
	supported, between := natDetect(msg.Payloads, m.spiI, msg.ResponderSPI, p)
	if m.cfg.ForceUDP && !supported {
		m.refuseInit(now, p, notify(noNAT, nil), CloseNoNATDetection,
			"the peer does not detect NATs, so it can't be made to encapsulate ESP in UDP")
		return false, false
	}
	m.readPeer(msg.Payloads)
	switch {
	case m.cfg.RedirectTo != "" && m.peer.redirect:
		m.refuseInit(now, p, notify(ikewire.NotifyRedirect, gatewayIdentity(m.cfg.RedirectTo, nonce)), CloseRedirected, m.cfg.RedirectTo)
		return false, false
	case m.cfg.Drained:
		m.closed(now, CloseShutdown, "the gateway is being drained", false)
		return false, false
	case m.cfg.Unattended:
		m.closed(now, CloseUnattended, "no manager is heard from", false)
		return false, false
	}
	return between, true
}

// beginHandshake notes the request that is worked on, and draws our nonce.
func (m *Machine) beginHandshake(now time.Time, in Message, nonce []byte, between bool) bool {
	m.state = stateInit
	m.expires = now.Add(m.cfg.HalfOpen)
	m.natBetween = between || m.cfg.ForceUDP
	m.path = in.path()
	m.in = window{busy: true, from: m.path}
	hs := m.handshake
	hs.from = m.path
	hs.initReq, hs.nonceI, hs.nonceR = in.Data, nonce, make([]byte, nonceLen)
	return m.random(now, hs.nonceR)
}

// path that a message came by, and the answer goes.
func (in Message) path() path { return path{local: in.Local, remote: in.Remote, marker: in.Marker} }
