package ike

import (
	"bytes"
	"slices"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// The initiator's side of session resumption (RFC 5723):
//
//	IKE_SESSION_RESUME (again after COOKIE) -> Reserve -> IKE_AUTH -> Apply

func (m *Machine) startResume(now time.Time) {
	m.state = stateInit
	m.expires = now.Add(m.cfg.HalfOpen)
	r := m.ini.Ticket.Resumption
	r.SKd = clone(r.SKd) // the ticket stays its owner's
	m.handshake.resume = &r
	m.handshake.nonceI = make([]byte, nonceLen)
	if m.random(now, m.handshake.nonceI) {
		m.sendResume(now)
	}
}

// sendFirst repeats the first message.
func (m *Machine) sendFirst(now time.Time) {
	if m.resuming() {
		m.sendResume(now)
		return
	}
	m.sendInit(now)
}

func (m *Machine) sendResume(now time.Time) {
	hs := m.handshake
	var payloads []ikewire.Payload
	if hs.cookie != nil {
		payloads = append(payloads, notify(ikewire.NotifyCookie, hs.cookie))
	}
	payloads = append(payloads,
		&ikewire.Nonce{Data: hs.nonceI},
		notify(ikewire.NotifyTicketOpaque, m.ini.Ticket.Opaque))
	payloads = append(payloads, m.natPayloads(0, m.path)...)
	payloads = append(payloads, m.announce()...)
	if m.sendRequest(now, ikewire.IKESessionResume, payloads, nil) {
		hs.initReq = m.request.raw[0]
	}
}

// resumeResponse takes an answer that nothing authenticates yet, like
// initResponse. TICKET_NACK is believed: the full handshake that follows costs
// its sender more than a forgery is worth.
func (m *Machine) resumeResponse(now time.Time, in Message, msg *ikewire.Message) {
	if m.state != stateInit || !m.resuming() {
		m.note(NoteUnexpected, msg.Exchange.String())
		return
	}
	if c := ikewire.FindNotify(msg.Payloads, ikewire.NotifyCookie); c != nil {
		m.cookieWanted(now, c)
		return
	}
	if ikewire.FindNotify(msg.Payloads, ikewire.NotifyTicketNACK) != nil {
		m.closed(now, CloseTicketRefused, ikewire.NotifyTicketNACK.String(), false)
		return
	}
	if n := errorNotify(msg.Payloads); n != nil {
		m.closed(now, CloseTicketRefused, n.NotifyType.String(), false)
		return
	}
	hs := m.handshake
	if n := ikewire.FindNotify(msg.Payloads, ikewire.NotifyRedirect); n != nil {
		if to, nonce, ok := redirectedTo(n.Data); ok && bytes.Equal(nonce, hs.nonceI) {
			m.closed(now, CloseRedirected, to, false)
		}
		return
	}
	nonce, ok := nonceOf(msg.Payloads)
	if !ok || msg.ResponderSPI == 0 {
		m.note(NoteMalformed, "IKE_SESSION_RESUME response")
		return
	}
	_, between := natDetect(msg.Payloads, m.spiI, msg.ResponderSPI, m.path)
	m.mobility.mapped = mappedOf(msg.Payloads)
	m.request = request{claimed: true, id: m.request.id + 1}
	m.spiR = msg.ResponderSPI
	hs.initResp, hs.nonceR = slices.Clone(in.Data), nonce
	m.readPeer(msg.Payloads)
	m.natBetween = between || m.cfg.ForceUDP
	if m.natBetween || m.cfg.MOBIKE {
		m.path = path{local: m.ini.LocalNATT, remote: m.ini.RemoteNATT, marker: true}
	}
	if !m.resumeKeys(now) {
		return
	}
	m.state = stateAuth
	m.reserve(m.sendAuth)
}

// resumedAuthResponse checks the answer to IKE_AUTH: the gateway of the ticket
// needs no certificate to be known again.
func (m *Machine) resumedAuthResponse(now time.Time, inner []ikewire.Payload, spi dataplane.SPI) {
	if reason, detail := m.checkResumed(m.handshake.auth.id, nil); reason != "" {
		m.closed(now, reason, detail, false)
		return
	}
	m.handshake.admitted = Admitted{Device: m.handshake.resume.PeerID.String()}
	m.takeChild(now, inner, spi)
}
