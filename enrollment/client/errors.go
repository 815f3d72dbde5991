package client

import (
	"errors"
	"fmt"
	"time"
)

// Errors of Join. None of them leaves anything behind but, at the server, a
// certificate whose answer got lost; Pending gets it.
var (
	// ErrUnreachable: no server could be spoken with, or the connection broke
	// off more often than was tried.
	ErrUnreachable = errors.New("no enrollment server can be reached")
	// ErrUnproven: the server doesn't know the code. It is mistyped, used or
	// expired, or somebody stands between device and server. Nothing was
	// believed, and nothing but the ID of the request was told.
	ErrUnproven = errors.New("the server can't show that it knows the code")
	// ErrRefused: the server refused. It had shown before that it knows the
	// code, unless it was discovery that was refused.
	ErrRefused = errors.New("the server refuses")
	// ErrTampered: what came isn't what the server sent, or makes no sense.
	ErrTampered = errors.New("the answer isn't genuine")
	// ErrProtocol: what came is no message of the protocol.
	ErrProtocol = errors.New("the server doesn't speak the enrollment protocol")
)

// LimitedError: there were too many tries.
type LimitedError struct {
	// RetryAfter is when the server wants to hear again.
	RetryAfter time.Duration
}

func (e *LimitedError) Error() string {
	return fmt.Sprintf("too many tries; try again in %s", e.RetryAfter)
}
