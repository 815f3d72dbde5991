package ike

import (
	"net/netip"

	"github.com/roamgate/roamgate/dataplane"
)

// CloseReason says why an IKE SA ended. The names label metrics.
type CloseReason string

// Reasons of Closed.
const (
	// Before it was established, by our decision.
	CloseNoProposal      CloseReason = "no_proposal_chosen"
	CloseInvalidKE       CloseReason = "invalid_ke_payload"
	CloseNoNATDetection  CloseReason = "no_nat_detection"
	CloseMalformed       CloseReason = "malformed"
	CloseRefused         CloseReason = "refused"
	CloseAuthFailed      CloseReason = "auth_failed"
	CloseAuthMethod      CloseReason = "auth_method"
	CloseNoAddress       CloseReason = "no_address"
	CloseNoChild         CloseReason = "no_child"
	CloseTicketIdentity  CloseReason = "ticket_identity" // a ticket of another identity
	CloseHalfOpenTimeout CloseReason = "half_open_timeout"
	CloseInternal        CloseReason = "internal_error"
	CloseNATForbidden    CloseReason = "nat_forbidden"
	// Told by the peer.
	ClosePeerRefused CloseReason = "peer_refused"
	ClosePeerDeleted CloseReason = "peer_deleted"
	ClosePeerCrashed CloseReason = "peer_crashed"
	// Our ticket; a full handshake is next.
	CloseTicketRefused CloseReason = "ticket_refused"
	// Afterwards.
	CloseTimeout    CloseReason = "peer_timeout"
	CloseReplaced   CloseReason = "replaced"
	CloseExpired    CloseReason = "expired"
	CloseIdle       CloseReason = "idle"
	CloseRekeyed    CloseReason = "rekeyed"
	CloseRedirected CloseReason = "redirected"
	CloseRevoked    CloseReason = "revoked"
	CloseKilled     CloseReason = "killed"
	// Its address was assigned to another device, or another one to this.
	CloseReaddressed CloseReason = "readdressed"
	CloseShutdown    CloseReason = "shutdown"
	// Nobody new is let in without a manager.
	CloseUnattended CloseReason = "unattended"
)

// Note names an event that is counted and doesn't end the IKE SA.
type Note string

// Notes.
const (
	NoteRetransmission  Note = "retransmission_answered"
	NoteWorking         Note = "request_while_working"
	NoteOutsideWindow   Note = "outside_window"
	NoteUnprotected     Note = "unprotected_message"
	NoteIntegrity       Note = "integrity"
	NoteMalformed       Note = "malformed"
	NoteUnexpected      Note = "unexpected_exchange"
	NoteCriticalPayload Note = "unsupported_critical_payload"
	NoteInvalidKE       Note = "invalid_ke_payload"
	NoteCookie          Note = "cookie_returned"
	NoteChildRefused    Note = "child_refused"
	NoteNoAdditionalSAs Note = "no_additional_sas"
	NoteUnknownNotify   Note = "unknown_notify"
	NoteFragment        Note = "fragment"
	NoteRekeyCollision  Note = "rekey_collision"
	NoteRekeyRefused    Note = "rekey_refused"
	NoteHintReverted    Note = "address_hint_reverted"
	NoteResent          Note = "request_resent"
	NoteCrashToken      Note = "crash_token_wrong"
)

// IKEKeyLog holds the keys of an IKE SA in the form that packet dissectors
// take.
type IKEKeyLog struct {
	InitiatorSPI, ResponderSPI uint64
	Encryption, Integrity      uint16
	KeyBits                    uint16
	Ei, Er, Ai, Ar             []byte
}

// ChildKeyLog holds the keys of both directions of a Child SA.
type ChildKeyLog struct {
	// Gateway and Peer are the outer addresses.
	Gateway, Peer     netip.Addr
	Algorithm         dataplane.Algorithm
	Inbound, Outbound dataplane.SA
}
