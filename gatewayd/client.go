package main

import (
	"errors"

	"github.com/roamgate/roamgate/gatewayd/config"
	"github.com/roamgate/roamgate/gatewayd/local"
)

// client talks to the gateway that runs here.
func (g *global) client() *local.Client {
	if g.socket != "" {
		return local.Dial(g.socket)
	}
	return local.Dial(config.SocketOf(g.config))
}

// explain adds what to do about an error of the client.
func explain(err error) error {
	switch {
	case errors.Is(err, local.ErrNotRunning):
		return hinted{err, "Start it with `gatewayd run gateway` or `run all`, or name its socket with --socket."}
	case errors.Is(err, local.ErrForbidden):
		return hinted{err, "Try again as root."}
	}
	return err
}

// hinted is an error with a line about what to do.
type hinted struct {
	error
	hint string
}

func (h hinted) Error() string { return h.error.Error() + "\n" + h.hint }
func (h hinted) Unwrap() error { return h.error }
