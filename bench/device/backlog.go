package device

import (
	"sync"
	"sync/atomic"
	"time"
)

// backlog is what came while somebody else had the device: nobody waits for it who
// reads a socket that others share, or delivers a packet.
type backlog struct {
	// waiting are how many there are. It is raised before the device is tried, and
	// looked at after it was given free, so that one of both sees the other.
	waiting atomic.Int32
	mu      sync.Mutex
	in      []datagram
	out     []*buffer
}

// datagram is what came from the socket.
type datagram struct {
	*buffer
	source source
}

// put one more into a list of at most limit; false if it is full.
func put[T any](b *backlog, list *[]T, one T, limit int) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(*list) >= limit {
		return false
	}
	*list = append(*list, one)
	b.waiting.Add(1)
	return true
}

// take all.
func (b *backlog) take() (in []datagram, out []*buffer) {
	if b.waiting.Load() == 0 {
		return nil, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	in, out = b.in, b.out
	b.in, b.out = nil, nil
	b.waiting.Store(0)
	return in, out
}

// catchUp does what is in the backlog.
func (d *Device) catchUp() {
	in, out := d.backlog.take()
	for _, p := range in {
		d.receive(time.Now(), p.data[:p.length], p.source)
		p.free()
	}
	for _, b := range out {
		if d.over {
			b.free()
			continue
		}
		d.transmit(b)
	}
}
