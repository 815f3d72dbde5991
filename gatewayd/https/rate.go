package https

import (
	"sync"
	"time"
)

// maxSources that are remembered. Beyond it those that we can't tell apart share
// one bucket.
const maxSources = 1 << 16

// rate bounds requests a source: a GCRA, one moment for each.
type rate struct {
	mu sync.Mutex
	// full says when a source's bucket is full again.
	full map[source]time.Time
	// swept is when entries that are full were taken out last.
	swept time.Time
}

func newRate() *rate { return &rate{full: map[source]time.Time{}} }

// take one request, or say how long to wait.
func (r *rate) take(now time.Time, from source, perSecond, burst int) (wait time.Duration) {
	each := time.Second / time.Duration(perSecond)
	depth := each * time.Duration(burst)
	r.mu.Lock()
	defer r.mu.Unlock()
	full, known := r.full[from]
	if !known && len(r.full) >= maxSources {
		r.sweep(now)
		if len(r.full) >= maxSources {
			from = source{}
			full = r.full[from]
		}
	}
	if full.Before(now) {
		full = now
	}
	if next := full.Add(each); next.Sub(now) <= depth {
		r.full[from] = next
		return 0
	}
	return full.Add(each).Sub(now) - depth
}

// sweep takes out who has all again, at most once a second.
func (r *rate) sweep(now time.Time) {
	if now.Sub(r.swept) < time.Second {
		return
	}
	r.swept = now
	for s, full := range r.full {
		if !full.After(now) {
			delete(r.full, s)
		}
	}
}
