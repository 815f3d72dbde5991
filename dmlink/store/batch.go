package store

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// Batch gathers what may be written late, and may be lost in a crash: when
// devices were last seen, and the log of messages. It never makes a session
// wait; what finds no room is counted and gone.
type Batch struct {
	store *SQL
	o     BatchOptions

	mu       sync.Mutex
	seen     map[string]time.Time
	messages []Message
	octets   int
	// spent is until when a device's share of the log is used up to, as in a GCRA.
	spent map[string]time.Time
	swept time.Time
	// full asks for a write before the time.
	full    chan struct{}
	dropped atomic.Uint64
}

// BatchOptions; zero means the default.
type BatchOptions struct {
	// Every so often it writes: 5 s.
	Every time.Duration
	// Octets of messages that wait at most: 16 MiB.
	Octets int
	// Share of the log in octets that a device may take at once, 8 MiB, and again
	// in ShareEvery, 12 hours: one that talks without end doesn't fill the disk.
	// What it proves to have said and what is only said in its name are two shares.
	Share      int
	ShareEvery time.Duration
	// Devices whose last visit waits at most, and whose share is in use: 100,000.
	Devices int
	// Log is told of what couldn't be written.
	Log *slog.Logger
}

// NewBatch that writes into s while Run runs.
func NewBatch(s *SQL, o BatchOptions) *Batch {
	if o.Every <= 0 {
		o.Every = 5 * time.Second
	}
	if o.Octets <= 0 {
		o.Octets = 16 << 20
	}
	if o.Share <= 0 {
		o.Share = 8 << 20
	}
	if o.ShareEvery <= 0 {
		o.ShareEvery = 12 * time.Hour
	}
	if o.Devices <= 0 {
		o.Devices = 100_000
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Batch{store: s, o: o, seen: map[string]time.Time{}, spent: map[string]time.Time{}, full: make(chan struct{}, 1)}
}

// Seen is for the server's Config.Seen.
func (b *Batch) Seen(device string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, known := b.seen[device]; !known && len(b.seen) >= b.o.Devices {
		b.dropped.Add(1)
		return
	}
	b.seen[device] = now
}

// messageCost is what a message takes beside its octets.
const messageCost = 256

// sweepEvery is how often shares are looked through while there are too many.
const sweepEvery = time.Second

// share of the log: takes what a message costs, by the message's time.
func (b *Batch) share(m Message, cost int) bool {
	key := m.Device
	if !m.Proven {
		key = "?" + key
	}
	until, known := b.spent[key]
	if !known && len(b.spent) >= b.o.Devices {
		if m.At.Sub(b.swept) >= sweepEvery {
			b.swept = m.At
			maps.DeleteFunc(b.spent, func(_ string, t time.Time) bool { return !t.After(m.At) })
		}
		if len(b.spent) >= b.o.Devices {
			return false
		}
	}
	if until.Before(m.At) {
		until = m.At
	}
	until = until.Add(time.Duration(float64(b.o.ShareEvery) * float64(cost) / float64(b.o.Share)))
	if until.Sub(m.At) > b.o.ShareEvery {
		return false
	}
	b.spent[key] = until
	return true
}

// Message is logged; its octets are copied.
func (b *Batch) Message(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	cost := len(m.Octets) + messageCost
	if b.octets+cost > b.o.Octets || !b.share(m, cost) {
		b.dropped.Add(1)
		return
	}
	m.Octets = bytes.Clone(m.Octets)
	b.messages = append(b.messages, m)
	if b.octets += cost; b.octets > b.o.Octets/2 {
		select {
		case b.full <- struct{}{}:
		default:
		}
	}
}

// Dropped so far, for want of room or of a database.
func (b *Batch) Dropped() uint64 { return b.dropped.Load() }

// lastWrite is how long the one at the end may take.
const lastWrite = 5 * time.Second

// Run writes until ctx ends, and then once more.
func (b *Batch) Run(ctx context.Context) {
	tick := time.NewTicker(b.o.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-b.full:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWrite)
			defer cancel()
			b.Flush(last)
			return
		}
		b.Flush(ctx)
	}
}

// perWrite bounds how much is in one transaction, and so how long others wait.
const perWrite = 256

// Flush writes what waits. Visits that couldn't be written wait for the next
// time, messages are gone.
func (b *Batch) Flush(ctx context.Context) {
	b.mu.Lock()
	seen, messages := b.seen, b.messages
	b.seen, b.messages, b.octets = map[string]time.Time{}, nil, 0
	b.mu.Unlock()
	part := map[string]time.Time{}
	write := func() {
		if err := b.store.Seen(ctx, part); err != nil {
			b.o.Log.Warn("last visits of devices are not written", slog.Int("devices", len(part)), slog.Any("error", err))
			b.again(part)
		}
		part = map[string]time.Time{}
	}
	for name, at := range seen {
		if part[name] = at; len(part) == perWrite {
			write()
		}
	}
	write()
	for len(messages) > 0 {
		n := min(len(messages), perWrite)
		if err := b.store.LogMessages(ctx, messages[:n]); err != nil {
			b.dropped.Add(uint64(n))
			b.o.Log.Warn("messages are not logged", slog.Int("messages", n), slog.Any("error", err))
		}
		messages = messages[n:]
	}
}

func (b *Batch) again(seen map[string]time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, at := range seen {
		if b.seen[name].Before(at) && len(b.seen) < b.o.Devices {
			b.seen[name] = at
		}
	}
}
