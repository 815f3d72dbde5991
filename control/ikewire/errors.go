package ikewire

import (
	"errors"
	"strconv"
)

// What can be wrong with octets, or with a message that can't be written.
// Every one but ErrVersion is answered INVALID_SYNTAX if the message was
// authenticated, and not at all if it wasn't (RFC 7296 section 2.21).
var (
	// ErrTruncated: the octets end before what they announce.
	ErrTruncated = errors.New("truncated")
	// ErrLength: a length field contradicts what surrounds it, or the content
	// is longer than its field can say or shorter than the RFC allows.
	ErrLength = errors.New("wrong length")
	// ErrVersion: the major version isn't 2. ParseHeader then still returns
	// the header, so that a higher version can be answered with
	// INVALID_MAJOR_VERSION (RFC 7296 section 2.5).
	ErrVersion = errors.New("unsupported major version")
	// ErrTooMany: more elements than the limits of this package allow.
	ErrTooMany = errors.New("too many")
	// ErrSyntax: a field has a value that RFC 7296 section 3 rules out.
	ErrSyntax = errors.New("invalid syntax")
)

// Error says where a message or payload is wrong. It wraps one of the sentinel
// errors of this package.
type Error struct {
	// Payload that is wrong; PayloadNone for the IKE header and the chain.
	Payload PayloadType
	// Offset of the wrong field from the start of the octets that were given
	// to the parser; 0 when encoding.
	Offset int
	// Field that is wrong, in words.
	Field string
	Err   error
}

func (e *Error) Error() string {
	where := "message"
	if e.Payload != PayloadNone {
		where = e.Payload.String() + " payload"
	}
	return "ikewire: " + where + ", octet " + strconv.Itoa(e.Offset) + ": " + e.Field + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// fieldError is an Error at an offset from the start of a payload's body;
// parsePayload puts in the rest.
func fieldError(offset int, field string, err error) *Error {
	return &Error{Offset: offset, Field: field, Err: err}
}
