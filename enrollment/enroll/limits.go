package enroll

import (
	"net/netip"
	"sync"
	"time"
)

// limits is a token bucket (GCRA) for each source prefix, in a bounded table.
// A prefix whose bucket is full again takes no room; when there is none left,
// newcomers share one bucket.
type limits struct {
	burst int
	every time.Duration
	max   int

	mu     sync.Mutex
	due    map[netip.Prefix]time.Time // when the bucket is full again
	shared time.Time
	swept  time.Time
}

func newLimits(burst int, every time.Duration, max int) *limits {
	return &limits{burst: burst, every: every, max: max, due: make(map[netip.Prefix]time.Time)}
}

// prefixOf is what one subscriber has: an IPv4 address, an IPv6 /56.
func prefixOf(source netip.Addr) netip.Prefix {
	source = source.Unmap().WithZone("")
	bits := 32
	if source.Is6() {
		bits = 56
	}
	p, err := source.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address: all of them together
	}
	return p
}

// wait is how long until the source may try again, 0 for now.
func (l *limits) wait(source netip.Addr, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.at(prefixOf(source)).Add(-time.Duration(l.burst-1)*l.every).Sub(now))
}

func (l *limits) at(p netip.Prefix) time.Time {
	if due, ok := l.due[p]; ok {
		return due
	}
	if len(l.due) >= l.max {
		return l.shared
	}
	return time.Time{}
}

// spend a token, also one that isn't there: whoever goes on waits longer, at
// most one burst.
func (l *limits) spend(source netip.Addr, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := prefixOf(source)
	due := l.at(p)
	if due.Before(now) {
		due = now
	}
	due = due.Add(l.every)
	if latest := now.Add(2 * time.Duration(l.burst) * l.every); due.After(latest) {
		due = latest
	}
	if _, ok := l.due[p]; !ok && len(l.due) >= l.max {
		l.sweep(now)
	}
	if _, ok := l.due[p]; ok || len(l.due) < l.max {
		l.due[p] = due
	} else {
		l.shared = due
	}
}

// sweep takes out full buckets, at most once in a second.
func (l *limits) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for p, due := range l.due {
		if !due.After(now) {
			delete(l.due, p)
		}
	}
}

func (l *limits) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.due)
}
