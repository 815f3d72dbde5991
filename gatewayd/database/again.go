package database

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"time"
)

// Attempts of a transaction that PostgreSQL gave up in favour of another one.
const (
	attempts = 8
	// beside others; then alone, if that is to be had within patience: nobody else
	// begins meanwhile.
	beside   = 3
	patience = 3 * time.Second
)

// everybody that writes, in turns: one who has it all is alone.
const everybody = math.MaxInt64

// again while PostgreSQL gives a transaction up. It does so when it looks for
// deadlocks, a second after one began to wait (deadlock_timeout), and which of
// those it finds loses is chance. Who loses and comes back meets those who came
// meanwhile, and may lose to each of them. So who has lost often waits until the
// writers of this process are done, and goes next and alone. Those of other
// processes it still may meet.
func (d *DB) again(ctx context.Context, try func() error) error {
	for attempt := 1; ; attempt++ {
		err := d.turn(ctx, attempt, try)
		if err == nil || attempt == attempts || !isContention(err) {
			return err
		}
		pause := time.NewTimer(rand.N(time.Duration(attempt) * 10 * time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

func (d *DB) turn(ctx context.Context, attempt int, try func() error) error {
	if attempt > beside && d.alone(ctx) {
		defer d.turns.Release(everybody)
		return try()
	}
	if err := d.turns.Acquire(ctx, 1); err != nil {
		return err
	}
	defer d.turns.Release(1)
	return try()
}

// alone waits for all others; false if one of them takes too long.
func (d *DB) alone(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return d.turns.Acquire(ctx, everybody) == nil
}

// isContention: serialization_failure or deadlock_detected.
func isContention(err error) bool {
	var state interface{ SQLState() string }
	return errors.As(err, &state) && (state.SQLState() == "40001" || state.SQLState() == "40P01")
}
