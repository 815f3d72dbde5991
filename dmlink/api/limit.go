package api

import (
	"sync"
	"time"
)

// Bounds on refusals: what one may be refused at once, and after that one each
// so often. Whoever has to be refused more is turned away, and that isn't
// written down. All strangers together have a bound of their own, so that they
// don't fill the audit log.
const (
	refusals      = 20
	refusalEvery  = 5 * time.Second
	strangers     = 500
	strangerEvery = 4 * time.Second
	maxLimited    = 10_000
)

// limiter is a GCRA for each key: until when its bucket is in use.
type limiter struct {
	mu        sync.Mutex
	until     map[string]time.Time
	strangers time.Time
}

// refuse takes one refusal, or says how long to wait.
func (l *limiter) refuse(now time.Time, key string, stranger bool) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.until[key]; !known && len(l.until) >= maxLimited {
		for k, t := range l.until {
			if !t.After(now) {
				delete(l.until, k)
			}
		}
		if len(l.until) >= maxLimited {
			key = "" // those that can't be told apart share a bucket
		}
	}
	next, wait := take(l.until[key], now, refusalEvery, refusals)
	if wait > 0 {
		return wait
	}
	if stranger {
		var all time.Time
		if all, wait = take(l.strangers, now, strangerEvery, strangers); wait > 0 {
			return wait
		}
		l.strangers = all
	}
	l.until[key] = next
	return 0
}

// take one of n that come back one each so often.
func take(until, now time.Time, each time.Duration, n int) (next time.Time, wait time.Duration) {
	if until.Before(now) {
		until = now
	}
	next = until.Add(each)
	if over := next.Sub(now) - each*time.Duration(n); over > 0 {
		return until, over
	}
	return next, 0
}
