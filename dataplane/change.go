package dataplane

// Change is one of Install, UseOutbound, Move, Regroup and Remove.
type Change interface{ change() }

// Install makes a Child SA known under an SPI that was reserved. Its inbound
// SA accepts at once; its outbound SA sends nothing before UseOutbound, so
// that a rekeyed Child SA can be received before it is used (RFC 7296 section
// 2.8). Errors: ErrNotReserved, ErrAlgorithm, ErrKeyLength, ErrInvalid.
type Install struct{ Child Child }

// UseOutbound makes a Child SA the one that carries what its selectors allow
// to its virtual addresses. Where several could, the one that was told last
// does. Errors: ErrUnknownSPI.
type UseOutbound struct{ Inbound SPI }

// Move gives a Child SA another path, of the other address family too; sequence
// numbers and the replay window go on (RFC 4555 section 3.5), so that a move can
// be taken back by another. Errors: ErrUnknownSPI, ErrInvalid.
type Move struct {
	Inbound SPI
	Path    Path
}

// Regroup puts the device of a Child SA into another group. It counts from the
// next packet on. A backend without layers only checks the SPI. Errors:
// ErrUnknownSPI, ErrGroup.
type Regroup struct {
	Inbound SPI
	Group   string
}

// Remove forgets a Child SA, or gives back a reserved SPI, and erases its
// keys. An SPI that was installed rests before it is handed out again. With any
// error but ErrClosed the SPI is unknown after it, too. Errors: ErrUnknownSPI,
// and those of the system, where something of it may be left there.
type Remove struct {
	Inbound SPI
	// Final, where it isn't nil, gets the last counters of the Child SA before
	// Apply returns.
	Final *ChildCounters
}

func (Install) change()     {}
func (UseOutbound) change() {}
func (Move) change()        {}
func (Regroup) change()     {}
func (Remove) change()      {}
