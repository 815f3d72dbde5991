package inventory

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"
)

// Surveys are what a Surveyor begins, and the history that it trims; dmlink/store
// has them.
type Surveys interface {
	// BeginSurveys asks up to limit devices that are due, by commands that wait for
	// their next sessions, and says how many. They are due again after a while.
	BeginSurveys(ctx context.Context, again time.Duration, limit int, roots ...Root) (int, error)
	Prune(ctx context.Context, before time.Time, n int) (int, error)
}

// Surveyor has devices asked for their inventory: after their enrollment, and
// again after a while. Each server runs one.
type Surveyor struct {
	surveys Surveys
	o       SurveyorOptions
}

// SurveyorOptions; zero means the default.
type SurveyorOptions struct {
	// Every so often a device is asked: 7 days. Negative asks none.
	Every time.Duration
	// Roots of what is asked for: Roots and RootsMicrosoft.
	Roots []Root
	// History is how long changes are kept: a year; negative keeps them for ever.
	History time.Duration
	// Look for devices that are due: every 5 s.
	Look time.Duration
	// Rate is how many devices are asked at most with each look: 500. A fleet that
	// is due at once is asked over hours.
	Rate int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log of what couldn't be done; nil for none.
	Log *slog.Logger
}

// NewSurveyor.
func NewSurveyor(s Surveys, o SurveyorOptions) *Surveyor {
	const day = 24 * time.Hour
	for _, f := range []struct {
		field   *time.Duration
		standby time.Duration
	}{{&o.Every, 7 * day}, {&o.History, 365 * day}, {&o.Look, 5 * time.Second}} {
		if *f.field == 0 {
			*f.field = f.standby
		}
	}
	if len(o.Roots) == 0 {
		o.Roots = slices.Concat(Roots, RootsMicrosoft)
	}
	if o.Rate == 0 {
		o.Rate = 500
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Surveyor{s, o}
}

// Run until ctx ends.
func (s *Surveyor) Run(ctx context.Context) {
	tick := time.NewTicker(s.o.Look)
	defer tick.Stop()
	for {
		if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
			s.o.Log.Warn("inventories aren't asked for; trying again", slog.Duration("every", s.o.Look), slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// perSweep bounds a transaction.
const perSweep = 200

// Sweep asks whom it is time to ask, and trims history.
func (s *Surveyor) Sweep(ctx context.Context) error {
	var errs []error
	if s.o.Every > 0 {
		_, err := s.surveys.BeginSurveys(ctx, s.o.Every, s.o.Rate, s.o.Roots...)
		errs = append(errs, err)
	}
	for s.o.History > 0 {
		n, err := s.surveys.Prune(ctx, s.o.Now().Add(-s.o.History), perSweep)
		errs = append(errs, err)
		if err != nil || n == 0 {
			break
		}
	}
	return errors.Join(errs...)
}
