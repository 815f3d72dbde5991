package access

import "errors"

// Errors. None of them leaves anything behind, except ErrUnavailable: then a
// transaction may or may not have been committed.
var (
	// ErrNotFound: no such grant or token.
	ErrNotFound = errors.New("not found")
	// ErrExists: a token of this name is there.
	ErrExists = errors.New("exists already")
	// ErrInvalid: what can't be stored; the text says why.
	ErrInvalid = errors.New("invalid")
	// ErrToken: no such token, or it expired or was revoked. The text says which
	// only where the secret was right.
	ErrToken = errors.New("no valid token")
	// ErrBroken: the record was changed by somebody else than this package.
	ErrBroken = errors.New("the record is broken")
	// ErrUnavailable: the database can't be reached, or failed.
	ErrUnavailable = errors.New("database is unavailable")
)
