package xfrm

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

// ikeBatch is how many datagrams are taken from a socket at once.
const ikeBatch = 64

// transport is the dataplane.IKETransport over the backend's sockets. The kernel
// has taken ESP and keepalives off already.
type transport struct {
	locals encap.Pairs
	inside func(netip.Addr) bool
	wake   int // eventfd, readable once it is closed

	// mu: senders hold it shared, so that no socket is closed, and its number
	// given to another file, under a system call.
	mu     sync.RWMutex
	closed bool

	// receiving belongs to the one who is in Receive.
	receiving      sync.Mutex
	receiver       *encap.Receiver
	from           *encap.Socket
	marker         bool
	taken, arrived int // of the receiver's batch
	turn           int // which socket was served last
	poll           []unix.PollFd

	drops [dataplane.NumReasons]atomic.Uint64
}

var _ dataplane.IKETransport = (*transport)(nil)

func newTransport(ls encap.Pairs, inside func(netip.Addr) bool) (*transport, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	t := &transport{locals: ls, inside: inside, wake: wake, receiver: encap.NewReceiver(ikeBatch)}
	t.poll = append(t.poll, unix.PollFd{Fd: int32(wake), Events: unix.POLLIN})
	for _, at := range ls {
		for _, s := range []*encap.Socket{at.IKE, at.Encap} {
			t.poll = append(t.poll, unix.PollFd{Fd: int32(s.FD()), Events: unix.POLLIN})
		}
	}
	return t, nil
}

func (t *transport) Receive(batch []dataplane.Datagram) (int, error) {
	if len(batch) == 0 {
		return 0, nil
	}
	t.receiving.Lock()
	defer t.receiving.Unlock()
	if t.isClosed() {
		return 0, dataplane.ErrClosed
	}
	for n := 0; ; {
		for n < len(batch) && t.taken < t.arrived {
			if t.take(&batch[n]) {
				n++
			}
		}
		if n > 0 {
			return n, nil
		}
		if err := t.fetch(); err != nil {
			return 0, err
		}
	}
}

// fetch waits until one of the sockets has something and takes it.
func (t *transport) fetch() error {
	for {
		if t.isClosed() {
			return dataplane.ErrClosed
		}
		for i := range t.poll {
			t.poll[i].Revents = 0
		}
		if _, err := unix.Poll(t.poll, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		// The socket that was served last comes last, so that a flood at one
		// doesn't silence the others. Of local i, poll[1+2i] is the socket for
		// IKE, poll[2+2i] the other.
		for range 2 * len(t.locals) {
			t.turn = (t.turn + 1) % (2 * len(t.locals))
			i := t.turn
			if t.poll[1+i].Revents == 0 {
				continue
			}
			at := t.locals[i/2]
			t.from, t.marker = at.IKE, i%2 == 1
			if t.marker {
				t.from = at.Encap
			}
			t.taken, t.arrived = 0, t.receiver.Receive(t.from)
			if t.arrived > 0 {
				return nil
			}
		}
	}
}

func (t *transport) isClosed() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.closed
}

// take moves one datagram of the receiver's batch to d; false if it is dropped.
func (t *transport) take(d *dataplane.Datagram) bool {
	got := t.receiver.Datagram(t.taken)
	t.taken++
	message := got.Payload
	if t.marker && !got.Truncated {
		var kind encap.Kind
		if kind, message = encap.Classify(message); kind != encap.KindIKE {
			if kind != encap.KindKeepalive {
				t.drops[dataplane.ReasonShort].Add(1)
			}
			return false
		}
	}
	switch {
	case got.Truncated:
		t.drops[dataplane.ReasonTruncated].Add(1)
	case len(message) == 0:
		t.drops[dataplane.ReasonShort].Add(1)
	case t.inside(got.Remote.Addr()):
		t.drops[dataplane.ReasonOuterInside].Add(1)
	default:
		d.Data = d.Data[:copy(d.Data, message)]
		d.Local, d.Remote, d.Marker = t.from.Local(), got.Remote, t.marker
		return true
	}
	return false
}

func (t *transport) Send(batch []dataplane.Datagram) (int, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for n := range batch {
		if t.closed {
			return n, dataplane.ErrClosed
		}
		if err := t.send(&batch[n]); err != nil {
			t.drops[dataplane.ReasonOutsideSend].Add(1)
			return n, err
		}
	}
	return len(batch), nil
}

func (t *transport) send(d *dataplane.Datagram) error {
	err := t.locals.SendIKE(d.Data, d.Local, d.Remote, d.Marker)
	if errors.Is(err, encap.ErrForeign) {
		return fmt.Errorf("%w: %w", dataplane.ErrInvalid, err)
	}
	return err
}

// end makes Receive and Send return ErrClosed, and returns once nobody is in a
// Send or a Receive that began before. It is safe to call twice.
func (t *transport) end() {
	t.mu.Lock()
	first := !t.closed
	t.closed = true
	t.mu.Unlock()
	if first {
		_, _ = unix.Write(t.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it has room for one
	}
	t.receiving.Lock()
	defer t.receiving.Unlock()
}

// close gives back the eventfd, after end.
func (t *transport) close() error { return unix.Close(t.wake) }
