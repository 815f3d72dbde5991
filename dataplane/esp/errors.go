package esp

import "errors"

// Errors of Transform.Open.
var (
	// ErrShort: shorter than an ESP packet of that algorithm can be, or not
	// whole cipher blocks.
	ErrShort = errors.New("ESP packet is too short")
	// ErrIntegrity: the ICV is wrong.
	ErrIntegrity = errors.New("ESP integrity check failed")
	// ErrPadding: the pad length is longer than the packet or the padding isn't
	// 1, 2, 3, ... (RFC 4303 section 2.4).
	ErrPadding = errors.New("ESP padding is wrong")
)
