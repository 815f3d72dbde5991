package profile

import "errors"

// Errors of Check, Build and QR. None of them leaves anything behind.
var (
	// ErrProfile: a setting is missing or malformed; the text says which.
	ErrProfile = errors.New("invalid profile")
	// ErrKind: no such kind of client.
	ErrKind = errors.New("unknown kind of profile")
	// ErrNoProposal: the client knows none of the gateway's proposals.
	ErrNoProposal = errors.New("the client knows none of the proposals")
	// ErrKey: the client can't use a key of this kind, or needs one and there
	// is none.
	ErrKey = errors.New("the client can't use this key")
	// ErrPassword: too short for the container that the client reads.
	ErrPassword = errors.New("password is too short")
	// ErrQR: no client would read such a code.
	ErrQR = errors.New("not for a QR code")
)
