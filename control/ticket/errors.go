package ticket

import "errors"

// Errors of Ring.Open, in the order in which a ticket meets them.
var (
	// ErrMalformed: too short, too long, or of another version; or, which takes
	// a gateway that shares our keys, with contents that make no sense.
	ErrMalformed = errors.New("malformed ticket")
	// ErrUnknownKey: sealed by another gateway, or before keys were erased.
	ErrUnknownKey = errors.New("ticket of an unknown key")
	// ErrForged: not what the key sealed.
	ErrForged = errors.New("forged ticket")
	// ErrExpired: past its lifetime.
	ErrExpired = errors.New("expired ticket")
)

var (
	// ErrNoKey: there is no key to seal with at this time.
	ErrNoKey = errors.New("no ticket key")
	// ErrContents: Ring.Seal was given what can't be in a ticket.
	ErrContents = errors.New("contents don't fit into a ticket")
	// ErrKeys: a set of keys that can't be read.
	ErrKeys = errors.New("invalid ticket keys")
)
