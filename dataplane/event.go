package dataplane

import "net/netip"

// Event is one of AddressChanged, UnknownSPI, LimitReached and Expired.
type Event interface{ event() }

// AddressChanged: an authenticated packet that advanced the replay window came
// from another address than the path's, or to another one of ours. It is a hint
// only: outbound packets go on to the old address until a Move (a forwarded
// packet must not steal the downlink). It is repeated at most once a second, and
// at once after a Move.
type AddressChanged struct {
	Inbound SPI
	Local   netip.AddrPort
	Remote  netip.AddrPort
}

// UnknownSPI: ESP came with an SPI that nobody installed. Rate-limited.
type UnknownSPI struct {
	SPI           SPI
	Local, Remote netip.AddrPort
	Encapsulation Encapsulation
}

// LimitReached: a soft limit (rekey now) or a hard limit (carries nothing more)
// of a Child SA was reached. Told once for each.
type LimitReached struct {
	Inbound SPI
	Hard    bool
}

// Expired: the kernel removed a Child SA by itself.
type Expired struct{ Inbound SPI }

func (AddressChanged) event() {}
func (UnknownSPI) event()     {}
func (LimitReached) event()   {}
func (Expired) event()        {}
