package dataplane

import "errors"

// Errors of a Backend. A change that returns one has had no effect.
var (
	// ErrFull: no room for another Child SA.
	ErrFull = errors.New("no free SPI")
	// ErrNotReserved: the inbound SPI was not reserved, or is installed already.
	ErrNotReserved = errors.New("inbound SPI is not reserved")
	// ErrUnknownSPI: no Child SA with that inbound SPI.
	ErrUnknownSPI = errors.New("unknown inbound SPI")
	// ErrAlgorithm: not among Features.Algorithms, or ESN where there is none.
	ErrAlgorithm = errors.New("algorithm is not supported")
	// ErrKeyLength: a key does not fit its algorithm.
	ErrKeyLength = errors.New("wrong key length")
	// ErrInvalid: what Child.Validate refuses, a path or IKE message from an
	// address that no socket has, a path to a virtual address, an encapsulation
	// that the backend can't do.
	ErrInvalid = errors.New("invalid child")
	// ErrGroup: no layer can enforce the access list of this group, or there is
	// no such group.
	ErrGroup = errors.New("group has no access list in force")
	// ErrClosed: the backend was closed, or handed over by Export.
	ErrClosed = errors.New("backend is closed")
)
