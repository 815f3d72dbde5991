package fleet

import "errors"

var (
	// ErrInvalid: what was asked for is not well-formed; the text says why.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound: there is no such device, gateway or session.
	ErrNotFound = errors.New("not found")
	// ErrExists: a gateway of that name is there already.
	ErrExists = errors.New("it is there already")
	// ErrGap: entries of enrollment are missing that no manager has taken, so it
	// can't be told who is authorised.
	ErrGap = errors.New("events of enrollment are missing")
	// ErrRestored: the database has gone back behind what this manager had read,
	// as it does when a backup is restored. A new epoch ends that.
	ErrRestored = errors.New("the database has gone back; begin a new epoch")
)
