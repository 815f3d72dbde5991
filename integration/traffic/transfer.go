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
	"math/big"
	"net"
	"net/netip"
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
	listener, err := to.Listen(netip.AddrPortFrom(address, 0))
	if err != nil {
		return Transfer{}, err
	}
	defer listener.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	type end struct {
		sum  []byte
		n    int64
		from netip.Addr
		err  error
	}
	received := make(chan end, 1)
	go func() {
		conn, err := listener.AcceptTCP()
		if err != nil {
			received <- end{err: err}
			return
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
		received <- end{sum.Sum(nil), n, peer, err}
	}()

	target := listener.Addr().(*net.TCPAddr).AddrPort()
	conn, err := from.Dial(target, 10*time.Second)
	if err != nil {
		return Transfer{}, fmt.Errorf("TCP to %s: %w", target, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	start := time.Now()
	sum, err := send(conn, size)
	if err != nil {
		return Transfer{}, errors.Join(context.Cause(ctx), fmt.Errorf("sending: %w", err))
	}
	got := <-received
	t := Transfer{Bytes: size, Duration: time.Since(start), From: got.from}
	if got.err != nil {
		return t, errors.Join(context.Cause(ctx), fmt.Errorf("receiving: %w", got.err))
	}
	if string(sum) != string(got.sum) {
		return t, fmt.Errorf("%w: sent %d octets %x, received %d octets %x", ErrContent, size, sum, got.n, got.sum)
	}
	return t, nil
}

// send writes random content. One random block is written again and again, a
// different part of it each time, so that drawing it isn't what is measured.
func send(conn *net.TCPConn, size int64) ([]byte, error) {
	block := make([]byte, 1<<20)
	if _, err := rand.Read(block); err != nil {
		return nil, err
	}
	sum := sha256.New()
	for left := size; left > 0; {
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
	}
	if err := conn.CloseWrite(); err != nil {
		return nil, err
	}
	var acknowledgement [1]byte
	_, err := io.ReadFull(conn, acknowledgement[:])
	return sum.Sum(nil), err
}
