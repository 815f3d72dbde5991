package ike

import (
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// INFORMATIONAL (RFC 7296 section 1.4): liveness, deletion, notifications.

// informational answers a request. An empty one is a liveness check.
func (m *Machine) informational(now time.Time, inner []ikewire.Payload) {
	if n := fatalNotify(inner); n != nil {
		// The peer found out after our answer that it doesn't want us (RFC 7296
		// section 2.21.2); there is no DELETE to wait for.
		m.respond(ikewire.Informational, nil)
		m.closed(now, ClosePeerRefused, n.NotifyType.String(), true)
		return
	}
	answer, settle := m.mobilityRequest(inner)
	var deleted []uint32
	for _, p := range inner {
		switch p := p.(type) {
		case *ikewire.Delete:
			if p.Protocol == ikewire.ProtocolIKE {
				m.peerDeleted(now)
				return
			}
			for _, spi := range p.SPIs {
				if ours, ok := m.childDeleted(dataplane.SPI(spi)); ok && p.Protocol == ikewire.ProtocolESP {
					deleted = append(deleted, ours)
				}
			}
		case *ikewire.Notify:
			m.notified(now, p)
		}
	}
	if len(deleted) > 0 {
		answer = append(answer, &ikewire.Delete{Protocol: ikewire.ProtocolESP, SPIs: deleted})
	}
	wanted := m.state == stateEstablished && m.carries && ikewire.FindNotify(inner, ikewire.NotifyTicketRequest) != nil
	m.withTicket(now, wanted, func(now time.Time, ticket []ikewire.Payload) {
		m.respond(ikewire.Informational, append(answer, ticket...))
		if settle {
			m.settleCarrier(now)
		}
	})
}

// fatalNotify finds an error that ends the IKE SA.
func fatalNotify(inner []ikewire.Payload) *ikewire.Notify {
	for _, t := range []ikewire.NotifyType{
		ikewire.NotifyAuthenticationFailed, ikewire.NotifyInvalidSyntax, ikewire.NotifyUnsupportedCriticalPayload,
	} {
		if n := ikewire.FindNotify(inner, t); n != nil {
			return n
		}
	}
	return nil
}

// notified takes a notification that wants nothing in the answer.
func (m *Machine) notified(now time.Time, n *ikewire.Notify) {
	switch n.NotifyType {
	case ikewire.NotifyRedirect:
		m.redirected(now, n)
	case ikewire.NotifyQuickCrashDetection:
		m.keepCrashToken([]ikewire.Payload{n})
	case ikewire.NotifyUpdateSAAddresses, ikewire.NotifyCookie2,
		ikewire.NotifyNATDetectionSourceIP, ikewire.NotifyNATDetectionDestinationIP,
		ikewire.NotifyNoNATsAllowed, ikewire.NotifyNoAdditionalAddresses,
		ikewire.NotifyAdditionalIP4Address, ikewire.NotifyAdditionalIP6Address:
		// See mobilityRequest.
	case ikewire.NotifyTicketRequest:
		// See withTicket.
	default:
		m.note(NoteUnknownNotify, n.NotifyType.String())
	}
}

// redirected: a gateway sends us, the initiator, elsewhere (RFC 5685 section
// 5); its owner reads where in the detail and begins there.
func (m *Machine) redirected(now time.Time, n *ikewire.Notify) {
	if to, _, ok := redirectedTo(n.Data); ok && m.original && m.ini != nil {
		m.closing, m.closeDetail = CloseRedirected, to
		m.begin(now, m.openDelete)
	}
}

// peerDeleted: both sides may delete at once, then each answers the other's
// request (RFC 7296 section 2.25).
func (m *Machine) peerDeleted(now time.Time) {
	m.respond(ikewire.Informational, nil)
	if rival := m.rekey.rival; rival != nil && rival.state == stateEstablished {
		// It rekeyed and is done, while our own rekeying never reached it (RFC
		// 7296 section 2.25.2).
		m.rekey.rival = nil
		m.giveWay(now, rival)
	}
	reason := ClosePeerDeleted
	switch {
	case m.closing != "":
		reason = m.closing
	case m.superseded:
		reason = CloseRekeyed
	}
	computing := m.rekey.computing
	successor := m.waiting.of(computing)
	m.closed(now, reason, "", true)
	if successor != nil { // the peer has it, so it has to be made to be deleted
		m.waiting.put(computing, successor)
	}
	if next := m.heir; next != nil && next.awake != nil && next.request.held { // the peer has it, or would have nothing
		if len(next.tasks) == 0 {
			next.unhold(now)
		} else {
			next.request.resend = now // its own Step, for what it asks is answered there
		}
	}
}

// whileLingering lets the peer clear up what we gave up already.
func (m *Machine) whileLingering([]ikewire.Payload) { m.respond(ikewire.Informational, nil) }

// probe asks the peer whether it is there. Where a request is open, its
// retransmissions ask already.
func (m *Machine) probe(now time.Time) {
	if m.state != stateEstablished || m.request.claimed {
		return
	}
	m.begin(now, func(now time.Time) {
		m.sendRequest(now, ikewire.Informational, m.probePayloads(), func(now time.Time, _ Message, inner []ikewire.Payload) {
			m.mappingSeen(now, inner)
		})
	})
}

// close deletes the IKE SA and waits for the peer's answer; a machine that
// isn't established just stops.
func (m *Machine) close(now time.Time, reason CloseReason) {
	switch {
	case m.state == stateDeleting || m.state == stateLingering:
	case m.state != stateEstablished:
		m.closed(now, reason, "", false)
	default:
		m.sendDelete(now, reason)
	}
}

// sendDelete goes before everything that waits. Nothing is forwarded any more
// from here on.
func (m *Machine) sendDelete(now time.Time, reason CloseReason) {
	m.closing = reason
	m.state = stateDeleting
	m.expires = time.Time{}
	m.tasks = nil
	m.removeChildren()
	// What was being prepared, by either side, comes to nothing, but for a
	// successor that the peer has already: it has to be made to be deleted.
	successor := m.waiting.of(m.rekey.computing)
	m.waiting = nil
	m.request.claimed, m.request.held = m.request.open, false
	if successor != nil {
		m.waiting.put(m.rekey.computing, successor)
		m.request.claimed = true
	}
	if m.in.busy && m.in.about == ikewire.CreateChildSA {
		m.respondNotify(ikewire.CreateChildSA, ikewire.NotifyTemporaryFailure)
	}
	m.begin(now, m.openDelete)
}

func (m *Machine) openDelete(now time.Time) {
	m.state = stateDeleting
	m.removeChildren()
	d := &ikewire.Delete{Protocol: ikewire.ProtocolIKE}
	m.sendRequest(now, ikewire.Informational, []ikewire.Payload{d}, func(now time.Time, _ Message, _ []ikewire.Payload) {
		m.closed(now, m.closing, m.closeDetail, true)
	})
}
