package dataplane

import "net/netip"

// Backend forwards the packets of Child SAs. All methods may be called from
// any goroutine; Apply calls are carried out in the order in which they are
// made.
//
// A backend is given the channel for its events when it is built and never
// blocks on it: an event that finds the channel full is counted and lost, so
// nothing may depend on a single event.
type Backend interface {
	// Features says what this backend can do. It does not change.
	Features() Features

	// Reserve draws an inbound SPI that is not in use, for the Child SA of
	// the device whose first virtual address is hint. The SPI accepts nothing
	// before it is installed. It is given back by Remove. When there is no
	// room, the error is ErrFull.
	Reserve(hint netip.Addr) (SPI, error)

	// Apply carries out changes in order and returns one error for each, nil
	// where it succeeded; a failed change has had no effect and does not stop
	// those behind it. When Apply returns, every layer knows: a packet to an
	// installed SPI that arrives from now on is accepted.
	Apply(changes []Change) []error

	// Counters calls yield for each installed Child SA until it returns false.
	Counters(yield func(ChildCounters) bool)

	// Drops returns how many packets were dropped, by reason.
	Drops() Drops

	// Transport returns the way for IKE messages, which share the sockets of
	// ESP in UDP and therefore belong to the backend.
	Transport() IKETransport

	// Export stops forwarding and calls yield for each installed Child SA with
	// what a successor needs to go on. Nothing is sent or accepted by this
	// backend from then on, so that no sequence number is used twice. The keys
	// are copies: whoever receives them erases them; those of the backend are
	// erased by Close.
	Export(yield func(ChildState) bool) error

	// Import installs Child SAs that a predecessor exported; all or, with an
	// error, none of them.
	Import(states []ChildState) error

	// Close ends forwarding, erases keys and takes back what the backend put
	// in place. It is safe to call twice.
	Close() error
}

// Features of a backend.
type Features struct {
	// Name for people: "userspace", "xfrm".
	Name string
	// Algorithms that it can install, best first.
	Algorithms []Algorithm
	// ESN: extended sequence numbers (RFC 4303 section 2.2.1).
	ESN bool
	// RawESP: ESP directly over IP. Where false, the peer has to be made to
	// encapsulate in UDP (RFC 7296 section 2.23).
	RawESP bool
	// MaxChildren that can be installed at once.
	MaxChildren int

	// What follows is how a backend may be less exact than the contract; all of
	// it is false or nil where it is as exact as that.

	// LimitsEachWay: limits hold for each direction by itself, are told with the
	// packet after the one that reached them, and a hard one, as well as the end
	// of the sequence numbers, takes both directions away from where packets are
	// counted: what comes after is dropped as for an SPI or a child that nobody
	// installed.
	LimitsEachWay bool
	// MoveSkips: a Move may leave out some outbound sequence numbers, so that no
	// packet has to wait for it.
	MoveSkips bool
	// PathLocalOnly: a Child SA accepts only what comes to the local address and
	// in the encapsulation of its path.
	PathLocalOnly bool
	// LooseHints: AddressChanged may come seconds late, and for a packet that
	// didn't advance the replay window.
	LooseHints bool
	// SilentUnknownSPI: UnknownSPI is not told, only counted.
	SilentUnknownSPI bool
	// CountedAs maps reasons that the backend can't tell apart from another one
	// to the one under which it counts them.
	CountedAs map[Reason]Reason
}

// IKETransport receives and sends IKE messages (RFC 7296 section 2). The
// non-ESP marker (RFC 3948 section 2.2) is added and taken off below.
type IKETransport interface {
	// Receive blocks until there are messages and fills batch from the front:
	// for each it stores up to len(d.Data) octets in d.Data, shortens the
	// slice to what was stored, and sets the addresses. It returns how many
	// were filled; after Close, and after Export, it returns ErrClosed.
	Receive(batch []Datagram) (int, error)
	// Send sends the messages and returns how many of them, from the front,
	// were handed to the network; with an error, the one behind them was
	// refused. It doesn't keep the slices. Errors: ErrInvalid where no socket
	// has the Local address, ErrClosed after Close and after Export, and those
	// of the network.
	Send(batch []Datagram) (int, error)
}

// Datagram is one IKE message on the way in or out.
type Datagram struct {
	Data []byte
	// Local is the gateway's address and port, Remote the peer's. An answer goes
	// from where the request came to.
	Local, Remote netip.AddrPort
	// Marker: on the port for UDP encapsulation (4500), where a non-ESP marker
	// stands before the message.
	Marker bool
}
