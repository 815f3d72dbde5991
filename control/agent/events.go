package agent

import (
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

const (
	defaultEvents = 1 << 16
	// runBits of a cursor count within one run of the gateway, those above are
	// the run. So a cursor never goes back, and no event costs a write.
	runBits = 40
)

// Events are kept until there are too many; then the oldest go. Its methods are
// safe for concurrent use.
type Events struct {
	mu sync.Mutex
	// ring has the events of the cursors from first to next-1, each at its
	// cursor modulo the length.
	ring        []gcm.Event
	first, next uint64
	// origin is the first cursor of this run.
	origin uint64
	// more is closed when there is something new.
	more chan struct{}
}

// newEvents for the run of a number, from 1 on.
func newEvents(most int, run uint64) *Events {
	if most <= 0 {
		most = defaultEvents
	}
	origin := (run-1)<<runBits + 1
	return &Events{ring: make([]gcm.Event, most), first: origin, next: origin, origin: origin, more: make(chan struct{})}
}

// Add an event; it gets its cursor, and its time if it has none. It never
// waits.
func (e *Events) Add(event gcm.Event) {
	if event.At.IsZero() {
		event.At = time.Now()
	}
	event.At = event.At.UTC()
	e.mu.Lock()
	defer e.mu.Unlock()
	event.Cursor = e.next
	e.ring[e.next%uint64(len(e.ring))] = event
	e.next++
	if e.next-e.first > uint64(len(e.ring)) {
		e.first++
	}
	close(e.more)
	e.more = make(chan struct{})
}

// newest cursor.
func (e *Events) newest() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next - 1
}

// after appends up to most events behind a cursor to b, and a marker first
// where some are missing. The channel is closed when there is more than that.
// A cursor that is still to come is answered with nothing, and false.
func (e *Events) after(b []gcm.Event, cursor uint64, most int) ([]gcm.Event, <-chan struct{}, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if cursor >= e.next {
		return b, e.more, false
	}
	from := cursor + 1
	if from < e.first {
		marker := gcm.Event{Cursor: e.first - 1, At: time.Now().UTC(), Kind: gcm.Dropped, After: cursor, Count: e.first - from}
		if from < e.origin {
			// Who knows what the former run had, that nobody had read.
			marker.Count, marker.Reason = 0, gcm.ReasonRestart
		}
		b = append(b, marker)
		from = e.first
	}
	for ; from < e.next && most > 0; most-- {
		b = append(b, e.ring[from%uint64(len(e.ring))])
		from++
	}
	return b, e.more, true
}
