package local

import (
	"errors"
	"net/http"
	"strings"
)

var (
	// ErrNotRunning: nobody listens on the socket.
	ErrNotRunning = errors.New("the gateway is not running")
	// ErrForbidden: this user may not use the socket.
	ErrForbidden = errors.New("not allowed")
	// ErrNotFound: no such session or lease.
	ErrNotFound = errors.New("not found")
	// ErrConflict: it is in use, or the gateway is stopping.
	ErrConflict = errors.New("in use")
)

// Refused is what the gateway answered instead of doing it.
type Refused struct {
	Status int
	// Errors one by one, as the gateway worded them.
	Errors []string
}

// Error has one line for each.
func (r *Refused) Error() string { return strings.Join(r.Errors, "\n") }

// Unwrap is ErrForbidden, ErrNotFound or ErrConflict where the answer meant it.
func (r *Refused) Unwrap() error {
	switch r.Status {
	case http.StatusForbidden:
		return ErrForbidden
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusConflict:
		return ErrConflict
	}
	return nil
}
