package accounts

import (
	"context"
	"log/slog"
	"math"
	"time"

	"github.com/roamgate/roamgate/enrollment/directory"
)

// Outbox is enrollment's.
type Outbox interface {
	Outbox(ctx context.Context, after int64, max int) ([]directory.Event, error)
	TrimOutbox(ctx context.Context, upTo int64) error
	News() <-chan struct{}
}

// Reader has to hear of all events, each once: it keeps the number of the last
// one itself.
type Reader struct {
	// Name for logs.
	Name string
	// Cursor is the number of the last event that it has taken.
	Cursor func(context.Context) (int64, error)
	// Read takes what there is after the cursor. It is called at the beginning, at
	// news and each Every, never twice at once.
	Read func(context.Context) error
}

// FeedOptions of a Feed; zero means the default.
type FeedOptions struct {
	// Every so often events are looked for that another process has committed:
	// 200 ms.
	Every time.Duration
	// Keep events for so long although all have read them: 30 days.
	Keep time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Feed wakes those who read the outbox, and trims it.
type Feed struct {
	outbox  Outbox
	readers []Reader
	o       FeedOptions
}

// NewFeed of readers. All that there are: what they have taken is trimmed some
// day.
func NewFeed(outbox Outbox, o FeedOptions, readers ...Reader) *Feed {
	if o.Every == 0 {
		o.Every = 200 * time.Millisecond
	}
	if o.Keep == 0 {
		o.Keep = 30 * 24 * time.Hour
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Feed{outbox, readers, o}
}

// longestPause between tries while the database can't be reached.
const longestPause = 5 * time.Second

// trimEvery is how often the outbox is trimmed.
const trimEvery = 10 * time.Minute

// Run until ctx ends. Readers go on side by side: none waits for another one.
func (f *Feed) Run(ctx context.Context) {
	done := make(chan struct{})
	for _, r := range f.readers {
		go func() {
			f.follow(ctx, r)
			done <- struct{}{}
		}()
	}
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	for left := len(f.readers); left > 0; {
		select {
		case <-done:
			left--
		case <-trim.C:
			if err := f.Trim(ctx); err != nil && ctx.Err() == nil {
				f.o.Log.Warn("events of enrollment are not trimmed", slog.Any("error", err))
			}
		}
	}
}

func (f *Feed) follow(ctx context.Context, r Reader) {
	pause := f.o.Every
	for {
		news := f.outbox.News()
		err := r.Read(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			// News must not drive us while something is wrong.
			news = nil
			if pause = min(2*pause, longestPause); pause < longestPause {
				f.o.Log.Warn("events of enrollment are not followed; trying again", slog.String("reader", r.Name), slog.Any("error", err))
			}
		default:
			pause = f.o.Every
		}
		wait := time.NewTimer(pause)
		select {
		case <-news:
		case <-wait.C:
		case <-ctx.Done():
		}
		wait.Stop()
	}
}

// page of events that are read at once.
const page = 200

// Trim takes away events that are old and that all readers have taken.
func (f *Feed) Trim(ctx context.Context) error {
	least := int64(math.MaxInt64)
	for _, r := range f.readers {
		n, err := r.Cursor(ctx)
		if err != nil {
			return err
		}
		least = min(least, n)
	}
	kept := f.o.Now().Add(-f.o.Keep)
	for {
		oldest, err := f.outbox.Outbox(ctx, 0, page)
		if err != nil {
			return err
		}
		upTo := int64(0)
		for _, e := range oldest {
			if e.Number <= least && e.At.Before(kept) {
				upTo = e.Number
			}
		}
		// The newest event always stays.
		if upTo == 0 || len(oldest) == 1 {
			return nil
		}
		if err := f.outbox.TrimOutbox(ctx, upTo); err != nil || len(oldest) < page {
			return err
		}
	}
}
