package ike

import (
	"bytes"
	"crypto/subtle"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
)

// Quick crash detection (RFC 6290). A gateway gives each IKE SA a token that it
// can make again when it has lost everything but a secret. Whoever then shows
// the token, unprotected, beside INVALID_IKE_SPI, has lost the IKE SA. The
// token is made and shown by package gate; here it is given and believed.

// Lengths of a token in octets (RFC 6290 section 3), and how many may be in one
// message (section 4.5).
const (
	minCrashToken  = 16
	maxCrashToken  = 128
	maxCrashTokens = 4
)

// crashPayloads give the peer our token for this IKE SA.
func (m *Machine) crashPayloads() []ikewire.Payload {
	if m.cfg.CrashToken == nil {
		return nil
	}
	ours, peers := m.spiR, m.spiI
	if m.original {
		ours, peers = peers, ours
	}
	return []ikewire.Payload{&ikewire.Notify{
		Protocol: ikewire.ProtocolIKE, NotifyType: ikewire.NotifyQuickCrashDetection, Data: m.cfg.CrashToken(ours, peers),
	}}
}

// tellCrashToken of an IKE SA that we rekeyed: the responder's goes with the
// CREATE_CHILD_SA, ours in an exchange behind it (RFC 6290 section 4.3).
func (m *Machine) tellCrashToken(now time.Time) {
	if m.cfg.CrashToken == nil {
		return
	}
	m.begin(now, func(now time.Time) {
		m.sendRequest(now, ikewire.Informational, m.crashPayloads(), func(time.Time, Message, []ikewire.Payload) {})
	})
}

// keepCrashToken of the peer. Only an initiator does: a gateway isn't told by
// its devices that they have lost their IKE SAs, they connect again.
func (m *Machine) keepCrashToken(payloads []ikewire.Payload) {
	n := ikewire.FindNotify(payloads, ikewire.NotifyQuickCrashDetection)
	if m.ini != nil && n != nil && len(n.Data) >= minCrashToken && len(n.Data) <= maxCrashToken {
		m.crashToken = bytes.Clone(n.Data)
	}
}

// peerCrashed takes an unprotected answer that says so, and believes its token
// alone. Nobody is told of the end (RFC 6290 section 4.5).
func (m *Machine) peerCrashed(now time.Time, payloads []ikewire.Payload) bool {
	if _, sealed := ikewire.Find[*ikewire.Encrypted](payloads); sealed || m.crashToken == nil {
		return false
	}
	tokens := 0
	for _, p := range payloads {
		n, ok := p.(*ikewire.Notify)
		if !ok || n.NotifyType != ikewire.NotifyQuickCrashDetection {
			continue
		}
		if tokens++; tokens > maxCrashTokens {
			break
		}
		if subtle.ConstantTimeCompare(n.Data, m.crashToken) == 1 {
			m.closed(now, ClosePeerCrashed, "", false)
			return true
		}
	}
	if tokens > 0 {
		m.note(NoteCrashToken, "")
	}
	return tokens > 0
}
