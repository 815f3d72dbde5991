// Package traffic sends and checks traffic between network namespaces, and
// records what passes a link: TCP transfers compared by hash, echo requests,
// captures in pcap format, and a recorder of ESP sequence numbers. It imports
// nothing of this project but integration/netns.
package traffic

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/integration/netns"
)

// ErrContent says that what arrived is not what was sent.
var ErrContent = errors.New("content arrived changed")

// Transfer is a finished TCP transfer.
type Transfer struct {
	Bytes    int64
	Duration time.Duration
	// From is the sender's address as the receiver saw it.
	From netip.Addr
}

// BitsPerSecond of content, without any header.
func (t Transfer) BitsPerSecond() float64 {
	return float64(t.Bytes) * 8 / t.Duration.Seconds()
}

// TCP sends size octets of random content from one namespace to an address of
// another, over one connection that the sender opens, and compares SHA-256 of
// what was written and what was read. A changed content is ErrContent.
func TCP(ctx context.Context, from, to *netns.Namespace, address netip.Addr, size int64) (Transfer, error) {
	s, err := start(ctx, from, to, address, size)
	if err != nil {
		return Transfer{}, err
	}
	<-s.ended
	return s.transfer, s.err
}

// Stream is a TCP transfer that lasts until it is told to stop.
type Stream struct {
	stop     chan struct{}
	once     sync.Once
	sent     atomic.Int64
	ended    chan struct{} // closed when what follows is set
	transfer Transfer
	err      error
}

// StartTCP begins a transfer as TCP does, without an end.
func StartTCP(ctx context.Context, from, to *netns.Namespace, address netip.Addr) (*Stream, error) {
	return start(ctx, from, to, address, math.MaxInt64)
}

// Sent is how many octets the sender has handed to its system so far.
func (s *Stream) Sent() int64 { return s.sent.Load() }

// Stop ends the stream and returns what all of it was; an error is one of any
// time before.
func (s *Stream) Stop() (Transfer, error) {
	s.once.Do(func() { close(s.stop) })
	<-s.ended
	return s.transfer, s.err
}

func start(ctx context.Context, from, to *netns.Namespace, address netip.Addr, size int64) (*Stream, error) {
	listener, err := to.Listen(netip.AddrPortFrom(address, 0))
	if err != nil {
		return nil, err
	}
	target := listener.Addr().(*net.TCPAddr).AddrPort()
	received := make(chan end, 1)
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer listener.Close()
		received <- receive(ctx, listener)
	}()
	conn, err := from.Dial(target, 10*time.Second)
	if err != nil {
		cancel()
		listener.Close()
		return nil, fmt.Errorf("TCP to %s: %w", target, err)
	}
	s := &Stream{stop: make(chan struct{}), ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		defer cancel()
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		s.transfer, s.err = s.run(ctx, conn, size, received)
	}()
	return s, nil
}

func (s *Stream) run(ctx context.Context, conn *net.TCPConn, size int64, received <-chan end) (Transfer, error) {
	began := time.Now()
	sum, err := s.send(conn, size)
	if err != nil {
		return Transfer{}, errors.Join(context.Cause(ctx), fmt.Errorf("sending: %w", err))
	}
	got := <-received
	t := Transfer{Bytes: s.Sent(), Duration: time.Since(began), From: got.from}
	if got.err != nil {
		return t, errors.Join(context.Cause(ctx), fmt.Errorf("receiving: %w", got.err))
	}
	if string(sum) != string(got.sum) {
		return t, fmt.Errorf("%w: sent %d octets %x, received %d octets %x", ErrContent, t.Bytes, sum, got.n, got.sum)
	}
	return t, nil
}

// end is what the receiver saw.
type end struct {
	sum  []byte
	n    int64
	from netip.Addr
	err  error
}

func receive(ctx context.Context, listener *net.TCPListener) end {
	conn, err := listener.AcceptTCP()
	if err != nil {
		return end{err: err}
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	sum := sha256.New()
	n, err := io.Copy(sum, conn)
	// One octet back tells the sender that everything was read.
	if err == nil {
		_, err = conn.Write([]byte{1})
	}
	peer := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
	return end{sum.Sum(nil), n, peer, err}
}

// send writes random content. One random block is written again and again, a
// different part of it each time, so that drawing it isn't what is measured.
func (s *Stream) send(conn *net.TCPConn, size int64) ([]byte, error) {
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil {
		return nil, err
	}
	sum := sha256.New()
	for left := size; left > 0; {
		select {
		case <-s.stop:
			left = 0
			continue
		default:
		}
		offset, err := rand.Int(rand.Reader, big.NewInt(int64(len(block)/2)))
		if err != nil {
			return nil, err
		}
		part := block[offset.Int64():]
		part = part[:min(int64(len(part)), left)]
		sum.Write(part)
		if _, err := conn.Write(part); err != nil {
			return nil, err
		}
		left -= int64(len(part))
		s.sent.Add(int64(len(part)))
	}
	if err := conn.CloseWrite(); err != nil {
		return nil, err
	}
	var acknowledgement [1]byte
	_, err := io.ReadFull(conn, acknowledgement[:])
	return sum.Sum(nil), err
}
