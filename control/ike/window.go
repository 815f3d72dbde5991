package ike

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// window is the receiving half of message IDs with a window of one (RFC 7296
// sections 2.1 to 2.3): one request is worked on at a time, and the last
// answer is kept for the peer that lost it.
type window struct {
	next uint32 // ID of the next new request
	busy bool   // next is being worked on
	from path   // where the request came from, and the answer goes
	last []byte // answer to next-1
	// lastRequest is kept for IKE_SA_INIT only, where nothing authenticates a
	// retransmission.
	lastRequest []byte
}

// request is the sending half: one open request of ours.
type request struct {
	open     bool
	id       uint32 // of the open request, or of the next one
	exchange ikewire.ExchangeType
	raw      []byte
	tries    int
	resend   time.Time
}

// peerRequest takes a request, or its retransmission.
func (m *Machine) peerRequest(now time.Time, in Message, msg *ikewire.Message) {
	if msg.Exchange == ikewire.IKESAInit {
		m.initRequest(now, in, msg)
		return
	}
	if m.open == nil || msg.ResponderSPI != m.spiR {
		m.note(NoteUnexpected, msg.Exchange.String())
		return
	}
	switch {
	case msg.MessageID == m.in.next && m.in.busy:
		m.note(NoteWorking, "")
		return
	case msg.MessageID == m.in.next:
	case msg.MessageID+1 == m.in.next && m.in.last != nil:
	default:
		m.note(NoteOutsideWindow, fmt.Sprintf("message ID %d, expected %d", msg.MessageID, m.in.next))
		return
	}
	inner, ok := m.unseal(in.Data, msg)
	if !ok {
		return
	}
	from := path{local: in.Local, remote: in.Remote, marker: in.Marker}
	if msg.MessageID != m.in.next {
		// Authenticated, so the answer can't be made to flood a third party.
		m.note(NoteRetransmission, "")
		m.send(m.in.last, from)
		return
	}
	m.in.busy, m.in.from = true, from
	m.path = from
	if inner == nil {
		m.invalidSyntax(now, msg.Exchange)
		return
	}
	if t, critical := unknownCritical(inner); critical {
		m.note(NoteCriticalPayload, t.String())
		m.refuseCritical(now, msg.Exchange, t)
		return
	}
	m.dispatch(now, msg.Exchange, inner)
}

// dispatch hands an authenticated request to its exchange.
func (m *Machine) dispatch(now time.Time, x ikewire.ExchangeType, inner []ikewire.Payload) {
	switch {
	case x == ikewire.IKEAuth && m.state == stateAuth && !m.initiator():
		m.authRequest(now, inner)
	case x == ikewire.Informational && (m.state == stateEstablished || m.state == stateDeleting):
		m.informational(now, inner)
	case x == ikewire.CreateChildSA && m.state == stateEstablished:
		m.createChild(inner)
	case x == ikewire.Informational && m.state == stateLingering:
		// The peer clears up what we gave up already.
		m.respond(x, nil)
	default:
		m.note(NoteUnexpected, x.String())
		m.respond(x, []ikewire.Payload{notify(ikewire.NotifyInvalidSyntax, nil)})
	}
}

// unseal opens the SK payload. ok is false if the message is not the peer's;
// inner is nil if it is, but makes no sense.
func (m *Machine) unseal(raw []byte, msg *ikewire.Message) (inner []ikewire.Payload, ok bool) {
	inner, err := m.open.Open(raw, msg)
	switch {
	case err == nil && inner == nil:
		return []ikewire.Payload{}, true
	case err == nil:
		return inner, true
	case errors.Is(err, ikecrypto.ErrIntegrity):
		m.note(NoteIntegrity, "")
	case errors.Is(err, ikecrypto.ErrNotEncrypted), errors.Is(err, ikecrypto.ErrFragment), errors.Is(err, ikecrypto.ErrErased):
		m.note(NoteUnprotected, msg.Exchange.String())
	default:
		m.note(NoteMalformed, err.Error())
		return nil, true
	}
	return nil, false
}

// respond answers the request that is being worked on and keeps the answer.
func (m *Machine) respond(x ikewire.ExchangeType, payloads []ikewire.Payload) {
	raw, err := m.encode(m.header(x, m.in.next, true), payloads)
	if err != nil {
		m.note(NoteMalformed, err.Error())
		return
	}
	m.in.last = raw
	m.in.next++
	m.in.busy = false
	m.send(raw, m.in.from)
}

// invalidSyntax answers an authenticated message that makes no sense; the IKE
// SA ends with it (RFC 7296 section 2.21.3).
func (m *Machine) invalidSyntax(now time.Time, x ikewire.ExchangeType) {
	m.respond(x, []ikewire.Payload{notify(ikewire.NotifyInvalidSyntax, nil)})
	if m.state != stateLingering {
		m.closed(now, CloseMalformed, "authenticated message with invalid syntax", true)
	}
}

// refuseCritical answers a critical payload that we don't know (RFC 7296
// section 2.5). An IKE SA that isn't up yet can't come up any more.
func (m *Machine) refuseCritical(now time.Time, x ikewire.ExchangeType, t ikewire.PayloadType) {
	m.respond(x, []ikewire.Payload{notify(ikewire.NotifyUnsupportedCriticalPayload, []byte{byte(t)})})
	if m.state == stateAuth {
		m.closed(now, CloseMalformed, "unknown critical payload "+t.String(), true)
	}
}

// sendRequest opens a request of ours. The caller made sure that none is open.
func (m *Machine) sendRequest(now time.Time, x ikewire.ExchangeType, payloads []ikewire.Payload) bool {
	raw, err := m.encode(m.header(x, m.request.id, false), payloads)
	if err != nil {
		m.closed(now, CloseInternal, err.Error(), false)
		return false
	}
	m.request.open = true
	m.request.exchange = x
	m.request.raw = raw
	m.request.tries = 1
	m.request.resend = now.Add(m.cfg.Retransmit)
	m.send(raw, m.path)
	return true
}

// resend repeats the open request, or gives the peer up.
func (m *Machine) resend(now time.Time) {
	r := &m.request
	if !r.open || now.Before(r.resend) {
		return
	}
	if r.tries >= m.cfg.Tries {
		reason := CloseTimeout
		if m.closing != "" {
			reason = m.closing
		}
		m.closed(now, reason, "no answer to "+r.exchange.String(), false)
		return
	}
	m.note(NoteResent, r.exchange.String())
	r.resend = now.Add(m.cfg.Retransmit << r.tries)
	r.tries++
	m.send(r.raw, m.path)
}

// answered closes the open request.
func (m *Machine) answered() { m.request = request{id: m.request.id + 1} }

// response takes an answer to the open request.
func (m *Machine) response(now time.Time, in Message, msg *ikewire.Message) {
	r := &m.request
	if !r.open || msg.MessageID != r.id || msg.Exchange != r.exchange {
		m.note(NoteUnexpected, "response to "+msg.Exchange.String())
		return
	}
	if msg.Exchange == ikewire.IKESAInit {
		m.initResponse(now, in, msg)
		return
	}
	if msg.ResponderSPI != m.spiR {
		m.note(NoteUnexpected, "responder SPI")
		return
	}
	inner, ok := m.unseal(in.Data, msg)
	if !ok {
		return
	}
	m.answered()
	switch {
	case inner == nil:
		m.closed(now, CloseMalformed, "response with invalid syntax", false)
	case msg.Exchange == ikewire.IKEAuth && m.state == stateAuth:
		m.authResponse(now, inner)
	case m.state == stateDeleting:
		m.closed(now, m.closing, "", true)
	default:
		m.afterAnswer(now)
	}
}

// sameRequest tells a retransmission from another message with the same IDs.
func (w *window) sameRequest(raw []byte) bool { return bytes.Equal(w.lastRequest, raw) }
