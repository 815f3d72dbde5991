package enroll

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
)

// How often Run does what.
const (
	recordEvery  = time.Second
	sweepEvery   = 15 * time.Second
	publishEvery = 15 * time.Second
	sweepBatch   = 256
)

// Run records refusals, closes requests whose time is over and publishes
// revocation lists, until ctx ends; then it records what is left.
func (s *Service) Run(ctx context.Context) {
	record, sweep, publish := time.NewTicker(recordEvery), time.NewTicker(sweepEvery), time.NewTicker(publishEvery)
	defer record.Stop()
	defer sweep.Stop()
	defer publish.Stop()
	r := recorder{s: s}
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			r.record(last, maxRefusals)
			return
		case <-record.C:
			r.record(ctx, maxRefusals)
		case <-sweep.C:
			s.Sweep(ctx)
		case <-publish.C:
			if _, err := s.Trust(ctx); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "revocation list not published", slog.Any("error", err))
			}
		}
	}
}

// Sweep closes requests whose time is over and takes their secrets away.
func (s *Service) Sweep(ctx context.Context) {
	for {
		n, err := s.directory.Expire(ctx, self, s.now(), sweepBatch)
		if err != nil {
			if ctx.Err() == nil {
				s.log.ErrorContext(ctx, "expired requests not closed", slog.Any("error", err))
			}
			return
		}
		s.counters.add(func(m *Metrics) { m.Expired += uint64(n) })
		if n < sweepBatch {
			return
		}
	}
}

// isGone: a request that was closed meanwhile.
func isGone(err error) bool {
	return errors.Is(err, directory.ErrNotFound) || errors.Is(err, directory.ErrNotOpen)
}
