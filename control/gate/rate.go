package gate

import (
	"sync"
	"time"
)

// Rate limits how often something is done for strangers: at most PerSecond
// times on average, and as many at once after a pause. It is safe for
// concurrent use.
type Rate struct {
	PerSecond int

	mu   sync.Mutex
	left float64
	last time.Time
}

// Allow takes one from the budget.
func (r *Rate) Allow(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := float64(r.PerSecond)
	switch passed := now.Sub(r.last); {
	case r.last.IsZero():
		r.left = full
		r.last = now
	case passed > 0:
		r.left = min(full, r.left+passed.Seconds()*full)
		r.last = now
	}
	if r.left < 1 {
		return false
	}
	r.left--
	return true
}
