package dhcp

import (
	"net/netip"
	"time"
)

// A client asks once a connection and repeats a few times. A full table is more
// than a gateway that starts anew sees at once.
const (
	window     = 10 * time.Second
	perSource  = 6
	maxSources = 16384
)

// limiter counts the messages of each source in a window of time. Its table is
// bounded; a source that finds it full has to wait for the next window.
type limiter struct {
	began time.Time
	count map[[4]byte]uint8
}

func (l *limiter) allow(now time.Time, source netip.Addr) Reason {
	if l.count == nil || now.Sub(l.began) >= window {
		l.began = now
		l.count = make(map[[4]byte]uint8, min(len(l.count), maxSources))
	}
	key := source.As4()
	n, known := l.count[key]
	switch {
	case !known && len(l.count) >= maxSources:
		return ReasonSources
	case n >= perSource:
		return ReasonRate
	}
	l.count[key] = n + 1
	return ReasonNone
}
