package ticket

import (
	"sync"
	"time"
)

// Filter remembers which tickets were used, until they expire anyway. It is
// safe for concurrent use.
//
// A ticket counts as used when its device has proven that it knows the keys
// behind it, not when it is first seen: otherwise whoever reads it on the wire
// could use it up. For the same reason only real devices
// fill the filter.
//
// It is each gateway's own and not kept over a restart: after one, or at a
// second gateway, a ticket works once more. That is harmless: a session that is
// resumed has fresh nonces and so fresh keys, and nothing happens before the
// AUTH payload has proven the old ones.
//
// A full filter lets tickets be used without remembering them, and says so: the
// alternative, full handshakes for those who are too many already, would hurt
// more than a ticket that works twice.
type Filter struct {
	limit int

	mu      sync.Mutex
	size    int
	buckets map[int64]map[Serial]struct{} // by the hour of expiry
}

// bucketSeconds of tickets are forgotten at once.
const bucketSeconds = 3600

// NewFilter remembers at most limit tickets: about 20 octets each.
func NewFilter(limit int) *Filter {
	return &Filter{limit: limit, buckets: make(map[int64]map[Serial]struct{})}
}

func bucketOf(expires time.Time) int64 { return expires.Unix() / bucketSeconds }

// Used says whether a ticket was used.
func (f *Filter) Used(s Serial, expires time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, used := f.buckets[bucketOf(expires)][s]
	return used
}

// Use marks a ticket as used; fresh is false if it was. remembered is false if
// there is no room to know that the next time.
func (f *Filter) Use(now time.Time, s Serial, expires time.Time) (fresh, remembered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := bucketOf(expires)
	if _, used := f.buckets[b][s]; used {
		return false, true
	}
	if f.size >= f.limit {
		f.sweep(now)
	}
	if f.size >= f.limit {
		return true, false
	}
	if f.buckets[b] == nil {
		f.sweep(now)
		f.buckets[b] = make(map[Serial]struct{})
	}
	f.buckets[b][s] = struct{}{}
	f.size++
	return true, true
}

// sweep drops the buckets all of whose tickets have expired.
func (f *Filter) sweep(now time.Time) {
	for b, tickets := range f.buckets {
		if b < bucketOf(now) {
			f.size -= len(tickets)
			delete(f.buckets, b)
		}
	}
}

// Len is how many tickets are remembered.
func (f *Filter) Len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.size
}
