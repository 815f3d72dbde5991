package ike

import (
	"crypto"
	"net/netip"
	"time"

	"github.com/roamgate/roamgate/control/ikewire"
	"github.com/roamgate/roamgate/dataplane"
)

// Input is what a Machine is told: Message, Tick, WorkDone, Admitted, Refused,
// Leased, LeaseFailed, Reserved, ReserveFailed, ReservedIKE, Applied, Ticketed,
// Probe, Rekey, RequestTicket, AddressHint, Move, ProbePath, Announce, Redirect,
// Reconfigure or Close.
type Input interface{ input() }

// Message is an IKE message from the network, as it came, without the non-ESP
// marker. The machine may keep Data and aliases of it.
type Message struct {
	Data   []byte
	Local  netip.AddrPort
	Remote netip.AddrPort
	// Marker: it came through the port for UDP encapsulation.
	Marker bool
}

// Tick says only that time has passed. It is due when Machine.Deadline is
// reached; one too many does no harm.
type Tick struct {
	// Heard is when anything authentic last came from the peer, ESP included;
	// zero if the owner doesn't keep that. A peer that seems asleep is not
	// disturbed by a rekeying.
	Heard time.Time
}

// WorkDone is the result of a Work output.
type WorkDone struct {
	ID     WorkID
	Result any
}

// Admitted answers AskAdmit: the peer may come in if its AUTH payload verifies
// under PublicKey.
type Admitted struct {
	// Device is the name under which the peer is known from now on.
	Device string
	// Group that the device belongs to; may be empty.
	Group     string
	PublicKey crypto.PublicKey
	// RedirectTo sends the peer, once it has proven who it is, to another
	// gateway (RFC 5685 section 4); empty lets it in here.
	RedirectTo string
	// Until is when the admission ends, the end of the certificate's validity;
	// zero if it doesn't.
	Until time.Time
}

// Refused answers AskAdmit: the peer may not come in. The machine tells the
// peer AUTHENTICATION_FAILED and nothing else.
type Refused struct{ Reason string }

// Leased answers AskLease.
type Leased struct {
	// Addresses for the device, at most one of each family.
	Addresses []netip.Addr
	// Settings for the configuration payload, which the machine keeps and
	// doesn't change; nil is none.
	Settings *Settings
}

// LeaseFailed answers AskLease: there is no address. The peer is told
// INTERNAL_ADDRESS_FAILURE.
type LeaseFailed struct{ Reason string }

// Reserved answers the Reserve of the same number.
type Reserved struct {
	ID  WorkID
	SPI dataplane.SPI
}

// ReserveFailed answers Reserve: the data plane is full.
type ReserveFailed struct {
	ID  WorkID
	Err error
}

// ReservedIKE answers ReserveIKE.
type ReservedIKE struct {
	ID WorkID
	// SPI of ours, unique among the owner's machines, and never zero.
	SPI uint64
}

// Applied answers the Apply output of the same number.
type Applied struct {
	ID  WorkID
	Err error
}

// Probe asks for a liveness check (RFC 7296 section 2.4).
type Probe struct{}

// Rekey asks to rekey a Child SA, one that reached a soft limit; with the zero
// SPI, the IKE SA.
type Rekey struct{ Inbound dataplane.SPI }

// AddressHint: an authentic packet of a Child SA came from another address.
// The machine asks the peer there before it believes it.
type AddressHint struct {
	Inbound       dataplane.SPI
	Local, Remote netip.AddrPort
}

// Move tells an initiator that it has another address now: Local, from where
// it reaches Remote, the gateway's port for UDP encapsulation. What is under
// way is repeated from there, the peer is told (RFC 4555 section 3.5), and the
// Child SAs move when it has answered. Without MOBIKE only NoteMoveRefused
// comes of it.
type Move struct{ Local, Remote netip.AddrPort }

// Redirect asks to send the peer to another gateway, by name or address (RFC
// 5685 section 5). It is a no-op where the peer doesn't know redirection.
type Redirect struct{ To string }

// Reconfigure gives a responder another configuration, for the exchanges to come
// of an IKE SA that is up, and its successors: algorithms, limits and lifetimes
// of what is made then. Before it is up, nothing changes.
type Reconfigure struct{ *Config }

// Close asks to delete the IKE SA and tell the peer; nobody is told where the peer
// is known to have forgotten it (Gone).
type Close struct {
	Reason CloseReason
	Gone   bool
}

func (Message) input()       {}
func (Tick) input()          {}
func (WorkDone) input()      {}
func (Admitted) input()      {}
func (Refused) input()       {}
func (Leased) input()        {}
func (LeaseFailed) input()   {}
func (Reserved) input()      {}
func (ReserveFailed) input() {}
func (Applied) input()       {}
func (Probe) input()         {}
func (Close) input()         {}
func (ReservedIKE) input()   {}
func (Rekey) input()         {}
func (AddressHint) input()   {}
func (Move) input()          {}
func (Redirect) input()      {}
func (Reconfigure) input()   {}

// Output is what a Machine wants or tells: Send, Work, AskAdmit, AskLease,
// AskTicket, Reserve, ReserveIKE, Apply, KeysDerived, Established, Spawned,
// Rekeyed, ChildUp, ChildDown, Moved, PeerAddresses, PathProbed, TicketReceived,
// Noted, Closed or Forget.
// Outputs are carried out in their order.
type Output interface{ output() }

// Send is a message for the network. Data is not changed after it was given
// out.
type Send struct {
	Data   []byte
	Local  netip.AddrPort
	Remote netip.AddrPort
	Marker bool
}

// WorkID ties an answer to its question within one Machine.
type WorkID uint32

// Work is a computation for another goroutine. Do touches nothing of the
// machine; its result comes back by WorkDone.
type Work struct {
	ID WorkID
	// Name for transcripts and metrics: "key exchange", "verify", "sign".
	Name string
	Do   func() any
}

// AskAdmit asks whether a peer with this identity and these certificates may
// come in. Answered by Admitted or Refused.
type AskAdmit struct {
	ID *ikewire.ID
	// Chain in DER as the peer sent it, its own certificate first.
	Chain [][]byte
	// Resumed: the peer has proven by a ticket that it is the one of an IKE SA
	// before, and there is no chain. PublicKey of the answer is not looked at.
	Resumed bool
}

// AskLease asks for addresses for a device that has proven who it is.
// Answered by Leased or LeaseFailed.
type AskLease struct {
	Device string
	Group  string
	// IPv4 and IPv6: the family is wanted.
	IPv4, IPv6 bool
	// Want are the addresses the peer asks for; may be empty.
	Want []netip.Addr
}

// Reserve asks for an inbound SPI. Answered by Reserved or ReserveFailed.
type Reserve struct {
	ID   WorkID
	Hint netip.Addr
}

// ReserveIKE asks for an IKE SPI of ours. Answered by ReservedIKE.
type ReserveIKE struct{ ID WorkID }

// Apply asks to carry out changes in the data plane in one go. Answered by
// Applied with the first error. With Wait false nobody waits for the answer
// and none is given.
type Apply struct {
	ID      WorkID
	Wait    bool
	Changes []dataplane.Change
}

// KeysDerived hands keys to whoever debugs with a packet dissector. Given out
// only if Config.ExportKeys is set.
type KeysDerived struct {
	IKE   *IKEKeyLog
	Child *ChildKeyLog
}

// Established: the IKE SA and its first Child SA are up.
type Established struct{ Summary Summary }

// Spawned: another IKE SA between the same parties, with a machine of its own
// that the owner runs from now on: messages for its SPIs go there.
type Spawned struct {
	Next                       *Machine
	InitiatorSPI, ResponderSPI uint64
	// Original: the initiator SPI is ours.
	Original bool
	// Redundant: it lost against one that the peer made at the same time and
	// carries nothing. The owner gives it Close{CloseRekeyed}.
	Redundant bool
}

// Rekeyed: Next, which was Spawned, goes on with the Child SAs and all that
// belongs to the session. This machine stays until it is deleted.
type Rekeyed struct {
	Next *Machine
	// IKE is its algorithms.
	IKE string
}

// ChildUp: another Child SA of an established IKE SA.
type ChildUp struct {
	Inbound, Outbound dataplane.SPI
	ESP               string
	LocalTS, RemoteTS []dataplane.Selector
}

// ChildDown: a Child SA, the first one included, is gone; an Apply before it
// removed it.
type ChildDown struct{ Inbound dataplane.SPI }

// Moved: the IKE SA and its Child SAs have another path.
type Moved struct{ Local, Remote netip.AddrPort }

// Noted is an event worth a counter and a log line at debug level; Note is a
// stable name such as "retransmission_answered".
type Noted struct {
	Note   Note
	Detail string
}

// Closed: the IKE SA is over; its Child SAs were removed by an Apply before it.
// It is told once for each machine. Unless Linger is set it is the last output
// and the machine can be forgotten.
type Closed struct {
	Reason CloseReason
	Detail string
	// Linger: the peer may not have seen our last answer. Messages and Ticks
	// go on to the machine, which answers retransmissions from its cache, until
	// it gives out Forget.
	Linger bool
}

// Forget is the last output of a machine that lingered.
type Forget struct{}

func (Send) output()        {}
func (Work) output()        {}
func (AskAdmit) output()    {}
func (AskLease) output()    {}
func (Reserve) output()     {}
func (Apply) output()       {}
func (KeysDerived) output() {}
func (Established) output() {}
func (Noted) output()       {}
func (Closed) output()      {}
func (Forget) output()      {}
func (ReserveIKE) output()  {}
func (Spawned) output()     {}
func (Rekeyed) output()     {}
func (ChildUp) output()     {}
func (ChildDown) output()   {}
func (Moved) output()       {}

// Settings of the configuration payload (RFC 7296 section 3.15).
type Settings struct {
	DNS  []netip.Addr
	WINS []netip.Addr
	// Networks behind the gateway, told as INTERNAL_IP4_SUBNET and used as the
	// gateway's traffic selectors; empty means everything.
	Networks []netip.Prefix
	// Services are addresses that are reached through the tunnel beside Networks
	// and aren't told: the gateway's own DHCP server, and the broadcast address
	// by which it is asked.
	Services []netip.Addr
	// Domains that the DNS servers are for (RFC 8598); empty means all names.
	Domains []string
}

// Summary of an established IKE SA, for people and metrics.
type Summary struct {
	Device, Group     string
	InitiatorSPI      uint64
	ResponderSPI      uint64
	IKE               string // "AES_GCM_16_128/PRF_HMAC_SHA2_256/CURVE_25519"
	ESP               string // "AES_GCM_16_128"
	Auth              string // how the peer signed
	Local, Remote     netip.AddrPort
	VirtualIPs        []netip.Addr
	Inbound, Outbound dataplane.SPI
	LocalTS, RemoteTS []dataplane.Selector
	Until             time.Time
	// Resumed by a ticket; Auth is then how the peer signed the time before.
	Resumed bool
	// Client is the maker's name as far as it shows; Legacy names the algorithms
	// in use that RFC 8247 has given up (see ikecrypto.Legacy).
	Client string
	Legacy []string
}
