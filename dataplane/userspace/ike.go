package userspace

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// ikeQueueOctets bounds the IKE messages that wait for their reader: some 6,000,
// what comes in the moment in which all devices come back. Strangers may fill half
// of it: a flood of them finds it full and the others don't. What is being read is
// as much again.
const (
	ikeQueueOctets = 4 << 20
	strangers      = ikeQueueOctets / 2
	// ikeOverhead is what a message counts beside its octets.
	ikeOverhead = 64
)

// ikeMessage is a message in the queue, and where it ends in the octets; it begins
// where the one before ends.
type ikeMessage struct {
	end           int
	local, remote netip.AddrPort
	marker        bool
}

// ikeMessages in the order in which they came.
type ikeMessages struct {
	octets []byte
	list   []ikeMessage
}

func (m *ikeMessages) size() int { return len(m.octets) + ikeOverhead*len(m.list) }

// ikeQueue carries IKE messages from the loops to Receive. Loops fill one half, the
// reader empties the other.
type ikeQueue struct {
	wake chan struct{} // capacity 1: something may be there

	mu      sync.Mutex
	filling ikeMessages

	reading sync.Mutex
	taken   ikeMessages
	next    int // in taken
}

func newIKEQueue() *ikeQueue { return &ikeQueue{wake: make(chan struct{}, 1)} }

// put copies a message into the queue; false if there is no room.
func (q *ikeQueue) put(data []byte, local, remote netip.AddrPort, marker bool) bool {
	if !q.fill(data, local, remote, marker) {
		return false
	}
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

func (q *ikeQueue) fill(data []byte, local, remote netip.AddrPort, marker bool) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := &q.filling
	size := f.size() + len(data) + ikeOverhead
	if size > ikeQueueOctets || size > strangers && encap.FromStranger(data) {
		return false
	}
	f.octets = append(f.octets, data...)
	f.list = append(f.list, ikeMessage{len(f.octets), local, remote, marker})
	return true
}

// take moves messages to a batch and returns how many, 0 if none waits.
func (q *ikeQueue) take(batch []dataplane.Datagram) (n int) {
	q.reading.Lock()
	defer q.reading.Unlock()
	if t := &q.taken; q.next == len(t.list) {
		q.next = 0
		t.octets, t.list = t.octets[:0], t.list[:0]
		q.mu.Lock()
		q.taken, q.filling = q.filling, q.taken
		q.mu.Unlock()
	}
	for ; n < len(batch) && q.next < len(q.taken.list); n++ {
		from := 0
		if q.next > 0 {
			from = q.taken.list[q.next-1].end
		}
		m, d := &q.taken.list[q.next], &batch[n]
		d.Data = d.Data[:copy(d.Data, q.taken.octets[from:m.end])]
		d.Local, d.Remote, d.Marker = m.local, m.remote, m.marker
		q.next++
	}
	return n
}

// transport is the dataplane.IKETransport over the backend's sockets.
type transport struct {
	queue *ikeQueue
	// mu: senders hold it shared, so that no socket is closed, and its number
	// given to another file, under a system call.
	mu      sync.RWMutex
	sockets encap.Pairs
	closed  chan struct{}
	refused atomic.Uint64
}

var _ dataplane.IKETransport = (*transport)(nil)

func (t *transport) Receive(batch []dataplane.Datagram) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	select {
	case <-t.closed:
		return 0, dataplane.ErrClosed
	default:
	}
	for {
		if n := t.queue.take(batch); n > 0 {
			return n, nil
		}
		select {
		case <-t.queue.wake:
		case <-t.closed:
			return 0, dataplane.ErrClosed
		}
	}
}

func (t *transport) Send(batch []dataplane.Datagram) (int, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for n := range batch {
		select {
		case <-t.closed:
			return n, dataplane.ErrClosed
		default:
		}
		if err := t.send(&batch[n]); err != nil {
			t.refused.Add(1)
			return n, err
		}
	}
	return len(batch), nil
}

func (t *transport) send(d *dataplane.Datagram) error {
	err := t.sockets.SendIKE(d.Data, d.Local, d.Remote, d.Marker)
	if errors.Is(err, encap.ErrForeign) {
		return fmt.Errorf("%w: %w", dataplane.ErrInvalid, err)
	}
	return err
}

// close makes Receive and Send return ErrClosed, and returns once nobody is in
// a Send that began before. It is called once.
func (t *transport) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.closed)
}
