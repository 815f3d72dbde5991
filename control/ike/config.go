package ike

import (
	"crypto"
	"io"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikecrypto"
	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Config is shared by many machines and never changed; a reload makes a new
// one for machines to come.
type Config struct {
	// Suites for the IKE SA, best first.
	Suites []ikecrypto.Suite
	// ESP algorithms, best first.
	ESP []dataplane.Algorithm

	// ID of this side, sent as IDr or IDi.
	ID *ikewire.ID
	// Credentials of this side, best first: the first that the peer can verify
	// is used.
	Credentials []Credential
	// TrustAnchors go into CERTREQ: SHA-1 of the SubjectPublicKeyInfo of each
	// CA that is accepted (RFC 7296 section 3.7).
	TrustAnchors [][20]byte

	// ForceUDP makes the peer encapsulate ESP in UDP by a false
	// NAT_DETECTION_SOURCE_IP (for a data plane without raw ESP).
	ForceUDP bool

	// HalfOpen: how long an IKE SA may take to be established.
	HalfOpen time.Duration
	// Retransmit: the first wait for an answer; it doubles with each of Tries.
	Retransmit time.Duration
	// Tries: how often a request is sent before the peer counts as gone.
	Tries int

	// Soft and Hard limits of Child SAs (RFC 4301 section 4.4.2.1).
	Soft, Hard dataplane.Limits
	// ChildLife and IKELife are lifetimes by time.
	ChildLife, IKELife Lifetime
	// MaxChildren of one IKE SA.
	MaxChildren int

	// ESN allows extended sequence numbers, and prefers them.
	ESN bool
	// Legacy algorithms that are allowed. Suites carry their own permission.
	Legacy ikecrypto.Legacy
	// FragmentSize of IKE messages in octets (RFC 7383); zero sends none in
	// fragments and doesn't announce it.
	FragmentSize int
	// MOBIKE is announced and answered (RFC 4555).
	MOBIKE bool
	// Addresses of this side, told to a MOBIKE peer beside the one in use (RFC 4555
	// section 3.4); at most 8 are told.
	Addresses []netip.Addr
	// CrashToken makes the token by which a peer knows that this side has lost an
	// IKE SA with these SPIs (RFC 6290); nil makes none. It is safe for concurrent
	// use.
	CrashToken func(ours, peers uint64) []byte
	// Childless IKE SAs are allowed (RFC 6023).
	Childless bool
	// RedirectTo sends every peer that knows redirection to another gateway;
	// empty doesn't.
	RedirectTo string
	// Drained: those who don't know redirection, or all where RedirectTo is empty,
	// get no answer, which sends them to the next gateway of their list.
	Drained bool
	// Unattended: nobody gets an answer, because nobody has said for too long who may
	// connect.
	Unattended bool

	// Tickets for session resumption (RFC 5723): a responder gives them to peers
	// that ask, an initiator asks.
	Tickets bool
	// RekeyWithin is how soon an IKE SA that was resumed, without a key exchange
	// of its own, is rekeyed: up to half of it earlier. Zero leaves that to
	// IKELife.
	RekeyWithin time.Duration

	// ExportKeys asks for KeysDerived outputs. For debugging only.
	ExportKeys bool

	// Rand is the source of nonces, SPIs and private keys. It must be safe for
	// concurrent use.
	Rand io.Reader
}

// Credential is a certificate chain and its key.
type Credential struct {
	// Chain in DER, own certificate first, without the root.
	Chain  [][]byte
	Signer crypto.Signer
	// Authorities that vouch for it, as in CERTREQ: SHA-1 of the
	// SubjectPublicKeyInfo of each CA above it, as far as they are known.
	Authorities [][20]byte
}

// InitiatorConfig is what an initiator needs beyond Config.
type InitiatorConfig struct {
	*Config
	// Local and Remote address to start with; the exchange moves to RemoteNATT
	// when a NAT is found (RFC 7296 section 2.23).
	Local, Remote         netip.AddrPort
	LocalNATT, RemoteNATT netip.AddrPort
	// RemoteID to ask for; nil sends no IDr.
	RemoteID *ikewire.ID
	// Want are the addresses to ask for, at most one of each family; any IPv4
	// address where there is none.
	Want []netip.Addr
	// NoNATs forbids NATs on the way, where MOBIKE is agreed on (RFC 4555 section
	// 3.9).
	NoNATs bool
	// VendorIDs are sent with IKE_SA_INIT.
	VendorIDs [][]byte
	// NoChild asks for addresses but no Child SA (RFC 6023); one is made later.
	NoChild bool
	// IPv6 asks for an IPv6 address too.
	IPv6 bool
	// Networks to ask for as traffic selectors of the responder; empty means
	// everything.
	Networks []netip.Prefix
	// KeyPair gives a key pair of a group, made before and to be used once, or nil
	// where there is none: then one is made. nil makes all.
	KeyPair func(group uint16) ikecrypto.KeyExchange
	// Ticket to resume by instead of a key exchange (RFC 5723); nil has none. If
	// it is refused, the machine ends with CloseTicketRefused.
	Ticket *Ticket
}
