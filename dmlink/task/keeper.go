package task

import (
	"context"
	"crypto/sha256"
	"errors"
	"log/slog"
	"time"

	"github.com/roamgate/roamgate/dmlink/store"
)

func digest(text []byte) []byte {
	sum := sha256.Sum256(text)
	return sum[:8]
}

// Work is what a Keeper finds in the store.
type Work interface {
	Expire(ctx context.Context, limit int) (int, error)
	ExpireWipes(ctx context.Context, limit int) (int, error)
	TakeWipes(ctx context.Context, lease time.Duration, limit int) ([]store.Wipe, error)
	EndWipe(ctx context.Context, w store.Wipe) error
	DelayWipe(ctx context.Context, w store.Wipe, until time.Time, trouble error) error
	TrimMessages(ctx context.Context, before time.Time, limit int) (int64, error)
	TrimCommands(ctx context.Context, before time.Time, limit int) (int64, error)
}

// Closer closes a device's account where it was opened, and revokes its
// certificate. It is asked again after a crash, so what is closed is no error.
// Of an enrollment that is newer than w.Enrolled it leaves everything as it is.
type Closer interface {
	CloseAccount(ctx context.Context, w store.Wipe) error
}

// Keeper carries on what tasks leave behind. Each server runs one.
type Keeper struct {
	work   Work
	closer Closer
	o      KeeperOptions
}

// KeeperOptions; zero means the default.
type KeeperOptions struct {
	// Every so often it looks: 10 s.
	Every time.Duration
	// Retention of messages: 30 days; negative keeps them for ever.
	Retention time.Duration
	// History is how long commands are kept that have ended: a year; negative
	// keeps them for ever.
	History time.Duration
	// Lease is how long closing one account may take: 1 minute.
	Lease time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log of what was done, and what couldn't be; nil for none.
	Log *slog.Logger
}

// NewKeeper.
func NewKeeper(w Work, c Closer, o KeeperOptions) *Keeper {
	for _, f := range []struct {
		field   *time.Duration
		standby time.Duration
	}{{&o.Every, 10 * time.Second}, {&o.Retention, 30 * day}, {&o.History, 365 * day}, {&o.Lease, time.Minute}} {
		if *f.field == 0 {
			*f.field = f.standby
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{w, c, o}
}

// Run looks after the store until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(k.o.Every)
	defer tick.Stop()
	for {
		if err := k.Sweep(ctx); err != nil && ctx.Err() == nil {
			k.o.Log.Warn("tasks are not swept; trying again", slog.Duration("every", k.o.Every), slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// perSweep bounds a transaction; what is left comes next.
const perSweep = 200

// Sweep does all there is to do. An error of one part doesn't keep the others
// from being done.
func (k *Keeper) Sweep(ctx context.Context) error {
	return errors.Join(
		// Wipes first: a device that is closed has no command that could expire.
		all(func() (int, error) { return k.work.ExpireWipes(ctx, perSweep) }),
		all(func() (int, error) { return k.closeAccounts(ctx) }),
		all(func() (int, error) { return k.work.Expire(ctx, perSweep) }),
		k.trim(ctx, k.o.Retention, k.work.TrimMessages),
		k.trim(ctx, k.o.History, k.work.TrimCommands),
	)
}

// all of the work, part by part.
func all(part func() (int, error)) error {
	for {
		if n, err := part(); err != nil || n == 0 {
			return err
		}
	}
}

func (k *Keeper) trim(ctx context.Context, kept time.Duration, part func(context.Context, time.Time, int) (int64, error)) error {
	if kept < 0 {
		return nil
	}
	return all(func() (int, error) {
		n, err := part(ctx, k.o.Now().Add(-kept), perSweep)
		return int(n), err
	})
}

// closeAccounts of wiped devices, one at a time, so that a crash gives the
// others away to nobody.
func (k *Keeper) closeAccounts(ctx context.Context) (int, error) {
	wipes, err := k.work.TakeWipes(ctx, k.o.Lease, 1)
	if err != nil || len(wipes) == 0 {
		return 0, err
	}
	w := wipes[0]
	limited, cancel := context.WithTimeout(ctx, k.o.Lease/2)
	defer cancel()
	if err := k.closer.CloseAccount(limited, w); err != nil {
		k.o.Log.Warn("account of a wiped device isn't closed yet", slog.String("device", w.Device), slog.String("reason", w.Reason),
			slog.Int("tries", w.Tries), slog.Any("error", err))
		return 1, k.work.DelayWipe(ctx, w, k.o.Now().Add(backOff(w.Tries)), err)
	}
	k.o.Log.Info("device is closed", slog.String("device", w.Device), slog.String("reason", w.Reason), slog.String("task", w.Task))
	return 1, k.work.EndWipe(ctx, w)
}

// backOff: 10 s, doubling, up to an hour.
func backOff(tries int) time.Duration {
	return min(time.Hour, 10*time.Second<<min(max(tries-1, 0), 10))
}
