package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/roamgate/roamgate/gatewayd/local"
)

// undoStack takes back what was put in place, last first.
type undoStack []undoEntry

type undoEntry struct {
	name string // empty: nothing worth a word
	undo func() error
}

func (u *undoStack) push(name string, undo func() error) { *u = append(*u, undoEntry{name, undo}) }

// run goes on after an error; all are returned.
func (u undoStack) run(logger *slog.Logger, steps *steps) error {
	var errs []error
	for i := len(u) - 1; i >= 0; i-- {
		if u[i].name != "" {
			steps.tell(local.Progress{Step: "taking back: " + u[i].name})
		}
		if err := u[i].undo(); err != nil {
			logger.Error("not taken back", slog.String("what", u[i].name), slog.Any("error", err))
			errs = append(errs, fmt.Errorf("take back %s: %w", u[i].name, err))
		}
	}
	return errors.Join(errs...)
}
