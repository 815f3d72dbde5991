package policy

import (
	"context"
	"log/slog"
	"time"
)

// Keeper computes what changes ask for, as they come. Each server runs one.
type Keeper struct {
	engine *Engine
	o      KeeperOptions
	poke   chan struct{}
}

// KeeperOptions; zero means the default.
type KeeperOptions struct {
	// Every so often it looks for marks that others made, and for changes that are
	// to be tried again: 1 s.
	Every time.Duration
	// Batch is how many devices are computed and put at once: 500.
	Batch int
	// Log of what couldn't be done, and of long work; nil for none.
	Log *slog.Logger
}

// NewKeeper of an engine.
func NewKeeper(e *Engine, o KeeperOptions) *Keeper {
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{e, o, make(chan struct{}, 1)}
}

// Poke lets it look at once, because something was changed. It never waits.
func (k *Keeper) Poke() {
	select {
	case k.poke <- struct{}{}:
	default:
	}
}

// Run until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(k.o.Every)
	defer tick.Stop()
	for {
		if err := k.refresh(ctx); err != nil && ctx.Err() == nil {
			k.o.Log.Warn("policies of devices aren't computed; trying again", slog.Duration("every", k.o.Every), slog.Any("error", err))
		}
		select {
		case <-tick.C:
		case <-k.poke:
		case <-ctx.Done():
			return
		}
	}
}

// progressEvery so often long work says how far it is.
const progressEvery = 10 * time.Second

func (k *Keeper) refresh(ctx context.Context) error {
	began, total := time.Now(), 0
	said := began
	for {
		n, err := k.engine.Refresh(ctx, k.o.Batch)
		total += n
		if err != nil || n == 0 {
			if total > k.o.Batch {
				k.o.Log.Info("policies of devices are computed", slog.Int("devices", total), slog.Duration("took", time.Since(began)))
			}
			return err
		}
		if time.Since(said) > progressEvery {
			said = time.Now()
			k.o.Log.Info("policies of devices are being computed", slog.Int("devices", total))
		}
	}
}
