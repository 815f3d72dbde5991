package dataplane

import (
	"bytes"
	"net/netip"
	"time"
)

// SPI is a security parameters index in host order. Values below 256 are
// reserved (RFC 4303 section 2.1) and never handed out.
type SPI uint32

// Child is one pair of Child SAs: what a device sends us and what we send it.
// It is known by its inbound SPI, which is unique within the backend.
type Child struct {
	// Inbound.SPI was drawn by Backend.Reserve; Outbound.SPI by the peer.
	Inbound, Outbound SA
	Algorithm         Algorithm
	// ESN: both directions use extended sequence numbers.
	ESN bool
	// VirtualIPs are the device's inner addresses, at most one of each family.
	// They decide where outbound packets go and which sources are believed.
	VirtualIPs []netip.Addr
	// Local and Remote traffic selectors: what lies behind the gateway, and
	// the device's side. A packet passes if one of each matches (RFC 4301
	// section 5).
	Local, Remote []Selector
	// Path the outer packets take.
	Path Path
	// Group of the device, which says what it may reach where a [Layer] keeps
	// access lists; empty means the default group. Backends don't look at it.
	Group string
	// Hard limits, for both directions together; zero means none. A Child SA
	// that reached one carries nothing more.
	Hard Limits
	// Soft limits: reaching one is told once, by LimitReached.
	Soft Limits
}

// SA is one direction of a Child SA. Whoever hands an SA to Apply gives the
// key slices away: the backend copies and the caller erases its own.
type SA struct {
	SPI  SPI
	Keys Keys
}

// Keys of one direction in the order of RFC 7296 section 2.17.
type Keys struct {
	// Encryption key; for AEAD algorithms followed by the salt (RFC 4106
	// section 8.1).
	Encryption []byte
	// Integrity key; empty for AEAD algorithms.
	Integrity []byte
}

// Clone copies the octets, for whoever keeps keys that another erases.
func (k Keys) Clone() Keys {
	return Keys{Encryption: bytes.Clone(k.Encryption), Integrity: bytes.Clone(k.Integrity)}
}

// Erase clears the octets. What was made of them, such as the key schedule in
// a cipher.AEAD, can't be reached and goes with the garbage.
func (k Keys) Erase() {
	clear(k.Encryption)
	clear(k.Integrity)
}

// EraseKeys of both directions.
func (c *Child) EraseKeys() {
	c.Inbound.Keys.Erase()
	c.Outbound.Keys.Erase()
}

// Selector is a traffic selector (RFC 7296 section 3.13.1): a range of
// addresses and a range of ports, both ends included. Protocol 0 is any
// protocol. Ports are those of TCP, UDP, SCTP and the like; for ICMP type and
// code as RFC 4301 section 4.4.1.1 packs them; ports 0-65535 are any port.
type Selector struct {
	Protocol            uint8
	First, Last         netip.Addr
	FirstPort, LastPort uint16
}

// Path is the outer way of a Child SA.
type Path struct {
	Local, Remote netip.AddrPort
	Encapsulation Encapsulation
}

// Encapsulation of ESP on the outside.
type Encapsulation uint8

const (
	// EncapsulationUDP is ESP in UDP (RFC 3948).
	EncapsulationUDP Encapsulation = iota
	// EncapsulationNone is ESP directly over IP; the ports of Path are not used.
	EncapsulationNone
)

// Limits on the use of a Child SA; zero means none.
type Limits struct {
	// Bytes of inner packets.
	Bytes uint64
	// Packets.
	Packets uint64
}

// ChildCounters of one Child SA. Bytes are those of inner packets.
type ChildCounters struct {
	Inbound              SPI
	BytesIn, PacketsIn   uint64
	BytesOut, PacketsOut uint64
	// LastIn and LastOut say when the last authenticated packet came and when
	// the last one went; zero if none did.
	LastIn, LastOut time.Time
}

// ChildState is an installed Child SA together with what must not be lost
// when another process goes on with it.
type ChildState struct {
	Child Child
	// Active: UseOutbound was applied.
	Active bool
	// NextSequence is the lowest outbound sequence number never sent.
	NextSequence uint64
	// Replay is the highest sequence number that was accepted, and ReplayWindow
	// the bitmap of those at and below it: bit 0 of word 0 is Replay itself,
	// bit 1 the number before it.
	Replay       uint64
	ReplayWindow []uint64
	Counters     ChildCounters
}
