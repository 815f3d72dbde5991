package xfrm

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// pieceLen and pieceOctets bound what is sent in one system call: each
	// message may be answered by more than its own length.
	pieceLen    = 256
	pieceOctets = 192 << 10
	// socketBuffer holds the answers to a piece, and a burst of events.
	socketBuffer = 8 << 20
	// receiveLen is longer than any message of XFRM, and what the kernel fills
	// at most when it dumps.
	receiveLen = 64 << 10
	// answerBound is how long the kernel may take for an answer.
	answerBound = 10 * time.Second
)

// conn is a NETLINK_XFRM socket for requests. Several goroutines may use it, one
// at a time.
type conn struct {
	mu  sync.Mutex
	fd  int
	seq uint32
	buf []byte
}

// dial opens a socket in the network namespace of the calling thread, a member of
// groups.
func dial(groups ...uint32) (*conn, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_XFRM)
	if err != nil {
		return nil, fmt.Errorf("XFRM socket: %w", err)
	}
	c := &conn{fd: fd, buf: make([]byte, receiveLen)}
	if err := c.setup(groups); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("XFRM socket: %w", err)
	}
	return c, nil
}

func (c *conn) setup(groups []uint32) error {
	for _, option := range [][3]int{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, socketBuffer}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, 2 * pieceOctets},
	} {
		if unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, option[0], option[2]) != nil {
			if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, option[1], option[2]); err != nil {
				return err
			}
		}
	}
	// An error needs not repeat the message, which has keys in it.
	if err := unix.SetsockoptInt(c.fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1); err != nil {
		return err
	}
	limit := unix.NsecToTimeval(int64(answerBound))
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		return err
	}
	if err := unix.Bind(c.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for _, g := range groups {
		if err := c.member(unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return err
		}
	}
	return nil
}

// do sends the messages of b, many in one system call, and returns one error for
// each, nil where the kernel carried it out; one that fails does not stop those
// behind it. What the kernel says beside that goes to reply, which may be nil,
// with the index of the message it answers. Messages and answers are erased.
func (c *conn) do(b *batch, reply func(i int, m message)) []error {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer b.reset()
	errs := make([]error, b.len())
	for first := 0; first < b.len(); {
		last := first + 1
		for last < b.len() && last-first < pieceLen && b.offset(last+1)-b.starts[first] <= pieceOctets {
			last++
		}
		if err := c.piece(b, first, last, errs, reply); err != nil {
			for i := first; i < b.len(); i++ {
				if errs[i] == nil {
					errs[i] = err
				}
			}
			return errs
		}
		first = last
	}
	return errs
}

// offset where message i begins, or the end.
func (b *batch) offset(i int) int {
	if i >= len(b.starts) {
		return len(b.buf)
	}
	return b.starts[i]
}

// piece sends messages first to last-1. The kernel answers in order and tells
// every error, so the acknowledgement of the last one ends them all.
func (c *conn) piece(b *batch, first, last int, errs []error, reply func(int, message)) error {
	base := c.seq + 1
	c.seq += uint32(last - first)
	for i := first; i < last; i++ {
		native.PutUint32(b.buf[b.starts[i]+8:], base+uint32(i-first))
	}
	end := b.buf[b.starts[last-1]:]
	native.PutUint16(end[6:], native.Uint16(end[6:])|unix.NLM_F_ACK)
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := retry(func() error { return unix.Sendto(c.fd, b.buf[b.starts[first]:b.offset(last)], 0, to) }); err != nil {
		return fmt.Errorf("send to XFRM: %w", err)
	}
	for {
		ended := false
		err := c.receive(func(m message) {
			i := first + int(int32(m.seq-base))
			if i < first || i >= last {
				return // of an earlier piece that was given up
			}
			if m.kind != unix.NLMSG_ERROR {
				if reply != nil {
					reply(i, m)
				}
				return
			}
			errs[i] = errorOf(m.body)
			ended = ended || i == last-1
		})
		if err != nil || ended {
			return err
		}
	}
}

// dump asks for everything of a kind and yields each message of the answer.
func (c *conn) dump(kind uint16, yield func(m message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	var b batch
	b.begin(kind, unix.NLM_F_DUMP)
	b.end()
	native.PutUint32(b.buf[8:], c.seq)
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK}
	if err := retry(func() error { return unix.Sendto(c.fd, b.buf, 0, to) }); err != nil {
		return fmt.Errorf("send to XFRM: %w", err)
	}
	for {
		ended := false
		var refused error
		err := c.receive(func(m message) {
			switch {
			case m.seq != c.seq:
			case m.kind == unix.NLMSG_DONE:
				ended = true
			case m.kind == unix.NLMSG_ERROR:
				ended, refused = true, errorOf(m.body)
			default:
				yield(m)
			}
		})
		if err = errors.Join(err, refused); err != nil || ended {
			return err
		}
	}
}

// receive waits for one datagram, yields its messages and erases it.
func (c *conn) receive(yield func(m message)) error { return c.receiveFlags(0, yield) }

func (c *conn) receiveFlags(flags int, yield func(m message)) error {
	var n int
	err := retry(func() (err error) {
		n, _, err = unix.Recvfrom(c.fd, c.buf, flags)
		return err
	})
	if err != nil {
		return fmt.Errorf("receive from XFRM: %w", err)
	}
	defer clear(c.buf[:n])
	for data := c.buf[:n]; ; {
		m, rest, ok := nextMessage(data)
		if !ok {
			return nil
		}
		yield(m)
		data = rest
	}
}

// errorOf reads struct nlmsgerr; nil is an acknowledgement.
func errorOf(body []byte) error {
	if len(body) < 4 {
		return unix.EBADMSG
	}
	if code := int32(native.Uint32(body)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

func retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

func (c *conn) close() error { return unix.Close(c.fd) }
