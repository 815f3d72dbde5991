package ike

import (
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// INFORMATIONAL (RFC 7296 section 1.4): liveness, deletion, and notifications,
// of which none concerns us yet.

// informational answers a request. An empty one is a liveness check.
func (m *Machine) informational(now time.Time, inner []ikewire.Payload) {
	var answer []ikewire.Payload
	for _, p := range inner {
		switch p := p.(type) {
		case *ikewire.Delete:
			if p.Protocol == ikewire.ProtocolIKE {
				m.peerDeleted(now)
				return
			}
			if d := m.childDeleted(p); d != nil {
				answer = append(answer, d)
			}
		case *ikewire.Notify:
			m.note(NoteUnknownNotify, p.NotifyType.String())
		}
	}
	m.respond(ikewire.Informational, answer)
}

// peerDeleted: both sides may delete at once, then each answers the other's
// request (RFC 7296 section 2.25).
func (m *Machine) peerDeleted(now time.Time) {
	m.respond(ikewire.Informational, nil)
	reason := ClosePeerDeleted
	if m.closing != "" {
		reason = m.closing
	}
	m.closed(now, reason, "", true)
}

// childDeleted removes the Child SA whose outbound SPI the peer names, and
// names ours in the answer (RFC 7296 section 1.4.1).
func (m *Machine) childDeleted(d *ikewire.Delete) *ikewire.Delete {
	if d.Protocol != ikewire.ProtocolESP || m.child == nil {
		return nil
	}
	for _, spi := range d.SPIs {
		if dataplane.SPI(spi) == m.child.outbound {
			ours := uint32(m.child.inbound)
			m.removeChild()
			return &ikewire.Delete{Protocol: ikewire.ProtocolESP, SPIs: []uint32{ours}}
		}
	}
	return nil
}

// probe asks the peer whether it is there.
func (m *Machine) probe(now time.Time) {
	if m.state == stateEstablished && !m.request.open {
		m.sendRequest(now, ikewire.Informational, nil)
	}
}

// close deletes the IKE SA and waits for the peer's answer; a machine that
// isn't established just stops.
func (m *Machine) close(now time.Time, reason CloseReason) {
	switch {
	case m.state == stateDeleting || m.state == stateLingering:
	case m.state != stateEstablished:
		m.closed(now, reason, "", false)
	case m.request.open:
		m.closing, m.closeAfterAck = reason, true
	default:
		m.sendDelete(now, reason)
	}
}

func (m *Machine) sendDelete(now time.Time, reason CloseReason) {
	m.closing = reason
	m.state = stateDeleting
	m.removeChild()
	m.sendRequest(now, ikewire.Informational, []ikewire.Payload{&ikewire.Delete{Protocol: ikewire.ProtocolIKE}})
}

// afterAnswer does what had to wait for the answer to an earlier request.
func (m *Machine) afterAnswer(now time.Time) {
	if m.closeAfterAck {
		m.closeAfterAck = false
		m.sendDelete(now, m.closing)
	}
}

// createChild refuses CREATE_CHILD_SA: another Child SA, or a rekeying. The
// peer falls back to re-authentication.
func (m *Machine) createChild(_ []ikewire.Payload) {
	m.note(NoteNoAdditionalSAs, "")
	m.respond(ikewire.CreateChildSA, []ikewire.Payload{notify(ikewire.NotifyNoAdditionalSAs, nil)})
}
