package store

import (
	"errors"

	"github.com/roamgate/roamgate/dmlink/session"
)

// Errors. None of them leaves anything behind, unless it wraps ErrUnavailable:
// then a transaction may or may not have been committed, and trying again with
// the same arguments is safe.
var (
	// ErrNotFound: no such device, task or command.
	ErrNotFound = errors.New("not found")
	// ErrExists: a task of this ID is there.
	ErrExists = errors.New("exists already")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("device is closed")
	// ErrInvalid: what can't be stored; the text says why.
	ErrInvalid = errors.New("invalid")
	// ErrUnavailable: the database can't be reached, or failed.
	ErrUnavailable = errors.New("store is unavailable")
)

// decided are the errors that say something about what was asked.
var decided = []error{ErrNotFound, ErrExists, ErrClosed, ErrInvalid, session.ErrNoAccount, session.ErrNonceUsed}

func isDecided(err error) bool {
	for _, d := range decided {
		if errors.Is(err, d) {
			return true
		}
	}
	return false
}
