package directory

import "errors"

// Errors. None of them leaves anything behind, unless it wraps ErrUnavailable:
// then a transaction may or may not have been committed, and trying again with
// the same arguments is safe.
var (
	// ErrNotFound: no such request, device, user or certificate.
	ErrNotFound = errors.New("not in the directory")
	// ErrExists: a request of this ID is there.
	ErrExists = errors.New("is in the directory")
	// ErrNotOpen: a request that was used, cancelled, closed or has expired;
	// read it again to see which.
	ErrNotOpen = errors.New("request is not open")
	// ErrClosed: the device was closed.
	ErrClosed = errors.New("device is closed")
	// ErrKeyTaken: another device has, or had, this public key.
	ErrKeyTaken = errors.New("public key belongs to another device")
	// ErrOwner: the device belongs to another user.
	ErrOwner = errors.New("device belongs to another user")
	// ErrRevoked: the certificate was revoked before.
	ErrRevoked = errors.New("certificate was revoked already")
	// ErrRenewed: the certificate was renewed with this key before.
	ErrRenewed = errors.New("certificate was renewed already")
	// ErrTooMany: a bound was reached; the text says which.
	ErrTooMany = errors.New("too many")
	// ErrUnavailable: the database can't be reached, or failed.
	ErrUnavailable = errors.New("directory is unavailable")
)

// decided are the errors that say something about what was asked.
var decided = []error{ErrNotFound, ErrExists, ErrNotOpen, ErrClosed, ErrKeyTaken, ErrOwner, ErrRevoked, ErrRenewed, ErrTooMany}

func isDecided(err error) bool {
	for _, d := range decided {
		if errors.Is(err, d) {
			return true
		}
	}
	return false
}
