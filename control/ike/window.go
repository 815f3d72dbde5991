package ike

import (
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
	next  uint32 // ID of the next new request
	busy  bool   // next is being worked on
	fresh bool   // last was made in this Step
	about ikewire.ExchangeType
	from  path // where the request came from, and the answer goes
	// awaits is the Child SA that the peer wants to rekey while our DELETE for it
	// is under way: the refusal, TEMPORARY_FAILURE, goes out when it is gone. The
	// two would otherwise be taken in any order by a peer with several threads,
	// and the wrong one makes some lose the successor (see crosses). Nobody waits
	// for the other: a peer answers requests while one of its own is open (RFC
	// 7296 section 2.3).
	awaits *child
	last   [][]byte
	parts  *ikecrypto.Reassembly // of the next request; nil if there is none
	// forget is when last and parts are dropped.
	forget time.Time
}

// request is the sending half: one request of ours is open at a time; others
// wait in Machine.tasks.
type request struct {
	claimed bool // a task prepares it, or it is open, or held
	// held: the peer may not have this IKE SA yet, so none is opened until it
	// was heard there, or until resend.
	held     bool
	open     bool
	id       uint32 // of the open request, or of the next one
	exchange ikewire.ExchangeType
	raw      [][]byte
	to       *path // instead of the machine's path, in tries up to toUntil
	toUntil  int
	hinted   path       // where a peer without MOBIKE may be; an answer from there shows it
	proof    *pathProof // of the return routability check that it is; or nil
	tries    int
	resend   time.Time
	parts    *ikecrypto.Reassembly // of the answer; nil if there is none
	done     func(now time.Time, in Message, inner []ikewire.Payload)
}

// peerRequest takes a request, or its retransmission.
func (m *Machine) peerRequest(now time.Time, in Message, msg *ikewire.Message) {
	if msg.Exchange == ikewire.IKESAInit {
		m.initRequest(now, in, msg)
		return
	}
	if msg.Exchange == ikewire.IKESessionResume {
		m.resumeRequest(now, in, msg)
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
		m.repeat(in, msg)
		return
	default:
		m.note(NoteOutsideWindow, fmt.Sprintf("message ID %d, expected %d", msg.MessageID, m.in.next))
		return
	}
	inner, ok := m.unseal(&m.in.parts, in.Data, msg)
	if !ok {
		return
	}
	from := in.path()
	m.in.busy, m.in.from, m.in.about = true, from, msg.Exchange
	m.in.parts = nil
	if inner == nil {
		m.invalidSyntax(now, msg.Exchange)
		return
	}
	m.peerMoved(from)
	defer m.seenAt(now, from)
	defer m.unhold(now)
	if t, critical := unknownCritical(inner); critical {
		m.note(NoteCriticalPayload, t.String())
		m.refuseCritical(now, msg.Exchange, t)
		return
	}
	m.dispatch(now, msg.Exchange, inner)
}

// repeat answers a request that was answered before, once it is known to be
// the peer's: the answer can't be made to flood a third party. Of a fragmented
// one the first fragment asks for the answer (RFC 7383 section 2.6.1).
func (m *Machine) repeat(in Message, msg *ikewire.Message) {
	if sk, ok := ikewire.Find[*ikewire.Encrypted](msg.Payloads); ok && sk.Total > 0 {
		f, err := m.open.OpenFragment(in.Data, msg)
		if err != nil {
			m.note(NoteIntegrity, "fragment")
			return
		}
		if f.Number != 1 {
			return
		}
	} else if _, err := m.open.Open(in.Data, msg); isForeign(err) {
		m.note(NoteIntegrity, "")
		return
	}
	m.note(NoteRetransmission, "")
	m.send(m.in.last, in.path())
}

// dispatch hands an authenticated request to its exchange.
func (m *Machine) dispatch(now time.Time, x ikewire.ExchangeType, inner []ikewire.Payload) {
	up := m.state == stateEstablished
	switch {
	case x == ikewire.IKEAuth && m.state == stateAuth && !m.original:
		m.authRequest(now, inner)
	case x == ikewire.Informational && (up || m.state == stateDeleting):
		m.informational(now, inner)
	case x == ikewire.CreateChildSA && up && m.carries:
		m.createChildRequest(now, inner)
	case x == ikewire.CreateChildSA && (up || m.state == stateDeleting):
		// Also where it isn't known yet which of two new IKE SAs goes on.
		m.respond(x, []ikewire.Payload{notify(ikewire.NotifyTemporaryFailure, nil)})
	case x == ikewire.Informational && m.state == stateLingering:
		m.whileLingering(inner)
	default:
		m.note(NoteUnexpected, x.String())
		m.respond(x, []ikewire.Payload{notify(ikewire.NotifyInvalidSyntax, nil)})
	}
}

// maxStranger is how much of a fragmented message is kept of a peer that is not
// authenticated, in octets: three RSA-4096 certificates, a signature, a CERTREQ
// that names sixty CAs, and something over. It is nearly all that a stranger
// costs who never sends the last fragment.
const maxStranger = 10 << 10

// isForeign: the message counts as never received.
func isForeign(err error) bool {
	for _, e := range []error{
		ikecrypto.ErrIntegrity, ikecrypto.ErrNotEncrypted, ikecrypto.ErrFragment, ikecrypto.ErrNotFragment,
		ikecrypto.ErrErased, ikecrypto.ErrFragmentStale, ikecrypto.ErrFragmentLimit,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// unseal opens the SK payload, or the last of its fragments. ok is false if
// there is nothing to work on yet, or nothing of the peer's; inner is nil if
// it is the peer's, but makes no sense.
func (m *Machine) unseal(parts **ikecrypto.Reassembly, raw []byte, msg *ikewire.Message) (inner []ikewire.Payload, ok bool) {
	var err error
	complete := true
	if sk, found := ikewire.Find[*ikewire.Encrypted](msg.Payloads); found && sk.Total > 0 {
		if !m.peer.fragmentation {
			m.note(NoteFragment, "not agreed")
			return nil, false
		}
		if *parts == nil {
			*parts = &ikecrypto.Reassembly{}
		}
		(*parts).Limit = 0
		if m.state != stateEstablished {
			(*parts).Limit = maxStranger
		}
		inner, complete, err = (*parts).Add(m.open, raw, msg)
		if (*parts).Pending() == 0 {
			*parts = nil
		}
		m.in.fresh = m.in.fresh || m.in.parts != nil
	} else {
		inner, err = m.open.Open(raw, msg)
	}
	switch {
	case err == nil && !complete:
	case err == nil && inner == nil:
		return []ikewire.Payload{}, true
	case err == nil:
		return inner, true
	case errors.Is(err, ikecrypto.ErrIntegrity):
		m.note(NoteIntegrity, "")
	case errors.Is(err, ikecrypto.ErrNotEncrypted), errors.Is(err, ikecrypto.ErrErased):
		m.note(NoteUnprotected, msg.Exchange.String())
	case isForeign(err):
		m.note(NoteFragment, err.Error())
	default:
		m.note(NoteMalformed, err.Error())
		return nil, true
	}
	return nil, false
}

// respond answers the request that is being worked on and keeps the answer.
func (m *Machine) respond(x ikewire.ExchangeType, payloads []ikewire.Payload) {
	messages, err := m.encode(m.header(x, m.in.next, true), payloads)
	if err != nil {
		m.failure = err
		return
	}
	m.in.last, m.in.fresh = messages, true
	m.in.next++
	m.in.busy, m.in.awaits = false, nil
	m.send(messages, m.in.from)
}

func (m *Machine) respondNotify(x ikewire.ExchangeType, t ikewire.NotifyType) {
	m.respond(x, []ikewire.Payload{notify(t, nil)})
}

// invalidSyntax answers an authenticated message that makes no sense; the IKE
// SA ends with it (RFC 7296 section 2.21.3).
func (m *Machine) invalidSyntax(now time.Time, x ikewire.ExchangeType) {
	m.respondNotify(x, ikewire.NotifyInvalidSyntax)
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

// begin starts an exchange of ours, or lets it wait for its turn, where there is
// room. start has to come to sendRequest or to finish.
func (m *Machine) begin(now time.Time, start func(now time.Time)) (taken bool) {
	if m.request.claimed {
		if len(m.tasks) == maxTasks {
			return false
		}
		m.tasks = append(m.tasks, start)
		return true
	}
	m.request.claimed = true
	start(now)
	return true
}

// finish lets the next exchange of ours begin.
func (m *Machine) finish(now time.Time) {
	m.request.claimed = false
	if len(m.tasks) > 0 && (m.state == stateEstablished || m.state == stateDeleting) {
		start := m.tasks[0]
		if m.tasks = m.tasks[1:]; len(m.tasks) == 0 {
			m.tasks = nil
		}
		m.begin(now, start)
	}
}

// unhold: the peer has this IKE SA, or has had time enough.
func (m *Machine) unhold(now time.Time) {
	if m.request.held {
		m.request.held, m.request.resend = false, time.Time{}
		m.finish(now)
	}
}

// sendRequest opens a request of ours; done takes the answer. The turn is over
// when the answer came.
func (m *Machine) sendRequest(now time.Time, x ikewire.ExchangeType, payloads []ikewire.Payload, done func(time.Time, Message, []ikewire.Payload)) bool {
	messages, err := m.encode(m.header(x, m.request.id, false), payloads)
	if err != nil {
		m.closed(now, CloseInternal, err.Error(), false)
		return false
	}
	m.request = request{
		claimed: true, open: true, id: m.request.id, exchange: x, raw: messages,
		to: m.request.to, toUntil: hintTries, hinted: m.request.hinted, proof: m.request.proof,
		tries: 1, resend: now.Add(m.cfg.Retransmit), done: done,
	}
	m.sendOpen(m.requestPath())
	return true
}

// sendOpen sends the open request. What went elsewhere too proves nothing about
// the path that it was for.
func (m *Machine) sendOpen(p path) {
	if proof := m.request.proof; proof != nil && proof.of != p {
		proof.strayed = true
	}
	m.send(m.request.raw, p)
}

// requestPath is where the open request goes.
func (m *Machine) requestPath() path {
	if m.request.to != nil {
		return *m.request.to
	}
	return m.path
}

// resend repeats the open request, or gives the peer up.
func (m *Machine) resend(now time.Time) {
	r := &m.request
	if r.held && !now.Before(r.resend) {
		m.unhold(now)
	}
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
	if r.to != nil && r.tries > r.toUntil {
		r.to = nil // nobody there: the old path has the rest of the tries
	}
	m.sendOpen(m.requestPath())
	m.sendAlternatives()
}

// response takes an answer to the open request.
func (m *Machine) response(now time.Time, in Message, msg *ikewire.Message) {
	if m.peerCrashed(now, msg.Payloads) {
		return
	}
	r := &m.request
	if !r.open || msg.MessageID != r.id || msg.Exchange != r.exchange {
		m.note(NoteUnexpected, "response to "+msg.Exchange.String())
		return
	}
	if msg.Exchange == ikewire.IKESAInit {
		m.initResponse(now, in, msg)
		return
	}
	if msg.Exchange == ikewire.IKESessionResume {
		m.resumeResponse(now, in, msg)
		return
	}
	if msg.ResponderSPI != m.spiR {
		m.note(NoteUnexpected, "responder SPI")
		return
	}
	inner, ok := m.unseal(&r.parts, in.Data, msg)
	if !ok {
		return
	}
	done, hinted := r.done, r.hinted
	m.request = request{id: r.id + 1}
	if inner == nil {
		m.closed(now, CloseMalformed, "response with invalid syntax", false)
		return
	}
	m.answeredFrom(in, hinted)
	done(now, in, inner)
	if m.state != stateDead && m.state != stateLingering && !m.request.claimed {
		m.finish(now)
	}
}
