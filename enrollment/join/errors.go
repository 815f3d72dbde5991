package join

import "errors"

// Errors of reading a message. What was read may not be used.
var (
	// ErrMessage: not a message of this protocol; the text says where.
	ErrMessage = errors.New("malformed enrollment message")
	// ErrVersion: no version in common.
	ErrVersion = errors.New("no common version of the enrollment protocol")
	// ErrBinding: not TLS 1.3, or TLS doesn't end here.
	ErrBinding = errors.New("enrollment needs TLS 1.3 from end to end")
)
