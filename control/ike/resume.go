package ike

import (
	"bytes"
	"fmt"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
)

// Session resumption (RFC 5723), responder. The owner has opened the ticket
// before there is a machine; what was refused leaves no state.
//
//	request:  Ni, N(TICKET_OPAQUE), N(NAT_DETECTION_*)
//	response: Nr, N(NAT_DETECTION_*)
//
// The keys come from SK_d of the IKE SA before and the nonces (section 5.1), so
// there is no key exchange. IKE_AUTH follows, without certificates: AUTH is
// prf(SK_p, octets) of the new keys (section 4.3.3), and proves that the peer
// knew the old SK_d, which the ticket alone doesn't. Everything else is as in a
// full handshake. Because nothing new is secret in these keys, the IKE SA is
// rekeyed soon (Config.RekeyWithin).

// Resumption is what both sides have to know of an IKE SA in order to go on
// from it (section 5).
type Resumption struct {
	// Suite of the IKE SA. Its group is used by the next rekeying.
	Suite ikecrypto.Suite
	// SKd of the IKE SA, a secret. Whoever gets a Resumption erases it.
	SKd []byte
	// PeerID and OwnID are the identities of both sides.
	PeerID, OwnID *ikewire.ID
	// Auth is how the peer was authenticated, Client who made it; for people.
	Auth, Client string
}

// Erase zeroes the secret.
func (r *Resumption) Erase() {
	clear(r.SKd)
	r.SKd = nil
}

// NewResumer makes the machine for an IKE_SESSION_RESUME request whose ticket
// stands for r; the machine takes r over. Otherwise it is like NewResponder.
func NewResumer(cfg *Config, spiI, spiR uint64, r *Resumption) *Machine {
	m := NewResponder(cfg, spiI, spiR)
	m.handshake.resume = r
	return m
}

// resuming: the handshake that is under way goes by a ticket.
func (m *Machine) resuming() bool { return m.handshake != nil && m.handshake.resume != nil }

// firstExchange of the IKE SA.
func (m *Machine) firstExchange() ikewire.ExchangeType {
	if m.resuming() {
		return ikewire.IKESessionResume
	}
	return ikewire.IKESAInit
}

func (m *Machine) resumeRequest(now time.Time, in Message, msg *ikewire.Message) {
	if m.original || msg.MessageID != 0 || !m.resuming() {
		m.note(NoteUnexpected, msg.Exchange.String())
		return
	}
	if m.state != stateNew {
		m.repeatInit(in)
		return
	}
	nonce, ok := nonceOf(msg.Payloads)
	if !ok {
		m.closed(now, CloseMalformed, "IKE_SESSION_RESUME without a nonce of 16 to 256 octets", false)
		return
	}
	between, ok := m.welcome(now, in, msg, nonce, ikewire.NotifyTicketNACK)
	if !ok {
		return
	}
	hs := m.handshake
	if c := hs.resume.Client; c != "" {
		hs.client = c
	}
	if !m.beginHandshake(now, in, nonce, between) || !m.resumeKeys(now) {
		return
	}
	payloads := []ikewire.Payload{&ikewire.Nonce{Data: hs.nonceR}}
	payloads = append(payloads, m.natPayloads(m.spiR, m.path)...)
	payloads = append(payloads, m.announce()...)
	m.respond(ikewire.IKESessionResume, payloads)
	hs.initResp = m.in.last[0]
	m.state = stateAuth
}

// resumeKeys takes the keys into use. They cost some hashes, so that is done
// here and not elsewhere.
func (m *Machine) resumeKeys(now time.Time) bool {
	hs := m.handshake
	m.suite = hs.resume.Suite
	keys, err := ikecrypto.ResumeKeys(m.suite, hs.resume.SKd, hs.nonceI, hs.nonceR, m.spiI, m.spiR)
	hs.resume.Erase()
	if err != nil {
		m.closed(now, CloseInternal, "keys of the resumed IKE SA: "+err.Error(), false)
		return false
	}
	hs.keys = keys
	return m.useKeys(now, keys)
}

// resumedAuth is IKE_AUTH of a resumed IKE SA. Identities are those of the
// ticket (section 4.3.3); CERT payloads say nothing here.
func (m *Machine) resumedAuth(now time.Time, idr *ikewire.ID) {
	hs := m.handshake
	if reason, detail := m.checkResumed(hs.auth.id, idr); reason != "" {
		m.refuse(now, reason, detail)
		return
	}
	m.ask(handshakeQuestion, AskAdmit{ID: hs.auth.id, Resumed: true}, func(now time.Time, in Input) {
		switch in := in.(type) {
		case Refused:
			m.refuse(now, CloseRefused, in.Reason)
		case Admitted:
			hs.admitted = in
			m.verified(now, nil)
		}
	})
}

// checkResumed checks identities and AUTH of the peer; own is ours as it says,
// or nil.
func (m *Machine) checkResumed(peer, own *ikewire.ID) (CloseReason, string) {
	hs := m.handshake
	a := hs.auth.auth
	hs.peerMethod = a.Method
	candidates, skP := m.peerOctets()
	switch {
	case a.Method != ikewire.AuthSharedKey:
		return CloseAuthMethod, fmt.Sprintf("%v in a resumed IKE SA", a.Method)
	case authentic(candidates, func(octets []byte) error { return ikecrypto.VerifyResumeAuth(m.suite.PRF, skP, a.Data, octets) }) != nil:
		return CloseAuthFailed, ikecrypto.ErrAuth.Error()
	case !sameID(peer, hs.resume.PeerID):
		return CloseTicketIdentity, fmt.Sprintf("the ticket is of %s, not of %s", hs.resume.PeerID, peer)
	case own != nil && !sameID(own, hs.resume.OwnID):
		return CloseTicketIdentity, fmt.Sprintf("the ticket is for %s, not for %s", hs.resume.OwnID, own)
	}
	return "", ""
}

func sameID(a, b *ikewire.ID) bool { return a.IDType == b.IDType && bytes.Equal(a.Data, b.Data) }

// rekeySoon draws when an IKE SA without a key exchange of its own gets one.
func (m *Machine) rekeySoon(now time.Time) {
	if m.cfg.RekeyWithin <= 0 {
		return
	}
	soon := now.Add(m.cfg.RekeyWithin - m.jitter(m.cfg.RekeyWithin/2))
	if m.rekey.due.IsZero() || soon.Before(m.rekey.due) {
		m.rekey.due = soon
	}
}
