package supervisor

import "time"

// Times of restarts.
const (
	firstPause = time.Second
	mostPause  = 30 * time.Second
	// settled is how long a child has to have served for its past to be forgotten.
	settled = time.Minute
)

// backoff is how long to wait before the next start.
type backoff struct{ next time.Duration }

// after is the pause before a child that has served for so long is started again.
func (b *backoff) after(served time.Duration) time.Duration {
	if served >= settled || b.next == 0 {
		b.next = firstPause
	}
	pause := b.next
	b.next = min(2*b.next, mostPause)
	return pause
}
