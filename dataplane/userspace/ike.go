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

// ikeQueueLen bounds the IKE messages that wait for their reader. Strangers may
// fill half of it: a flood of them finds it full and the others don't.
const (
	ikeQueueLen = 256
	strangers   = ikeQueueLen / 2
)

// ikeMessage is a place in the queue, with its buffer.
type ikeMessage struct {
	data          []byte // all of it; length octets are in use
	length        int
	local, remote netip.AddrPort
	marker        bool
}

// ikeQueue carries IKE messages from the loops to Receive. A message is in
// exactly one of the channels or with one goroutine, so neither send blocks.
type ikeQueue struct {
	free, full chan *ikeMessage
}

func newIKEQueue() *ikeQueue {
	q := &ikeQueue{free: make(chan *ikeMessage, ikeQueueLen), full: make(chan *ikeMessage, ikeQueueLen)}
	buffers := make([]byte, ikeQueueLen*encap.MaxDatagram)
	for i := range ikeQueueLen {
		q.free <- &ikeMessage{data: buffers[i*encap.MaxDatagram : (i+1)*encap.MaxDatagram]}
	}
	return q
}

// put copies a message into the queue; false if there is no room.
func (q *ikeQueue) put(data []byte, local, remote netip.AddrPort, marker bool) bool {
	if len(q.full) >= strangers && encap.FromStranger(data) {
		return false
	}
	select {
	case m := <-q.free:
		m.length = copy(m.data, data)
		m.local, m.remote, m.marker = local, remote, marker
		q.full <- m
		return true
	default:
		return false
	}
}

// take moves a message from the queue to d.
func (q *ikeQueue) take(m *ikeMessage, d *dataplane.Datagram) {
	d.Data = d.Data[:copy(d.Data, m.data[:m.length])]
	d.Local, d.Remote, d.Marker = m.local, m.remote, m.marker
	q.free <- m
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
	select {
	case m := <-t.queue.full:
		t.queue.take(m, &batch[0])
	case <-t.closed:
		return 0, dataplane.ErrClosed
	}
	for n := 1; n < len(batch); n++ {
		select {
		case m := <-t.queue.full:
			t.queue.take(m, &batch[n])
		default:
			return n, nil
		}
	}
	return len(batch), nil
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
