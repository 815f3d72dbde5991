package flow

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bench/report"
)

// Receiver counts the datagrams of one flow.
type Receiver struct {
	conn    *net.UDPConn
	latency *report.Histogram
}

// Listen at an address.
func Listen(at netip.AddrPort) (*Receiver, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	r := &Receiver{conn: conn, latency: report.NewHistogram()}
	if err := r.prepare(); err != nil {
		conn.Close()
		return nil, err
	}
	return r, nil
}

// prepare the socket: room for bursts, and bundles of datagrams where the
// kernel has some, which costs the machine less than single ones.
func (r *Receiver) prepare() error {
	raw, err := r.conn.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		// Beyond net.core.rmem_max; where that isn't allowed, as much as is.
		if unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20) != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<20)
		}
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
	})
	return errors.Join(err, failed)
}

// Addr is where it listens.
func (r *Receiver) Addr() netip.AddrPort { return r.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// Close the socket.
func (r *Receiver) Close() error { return r.conn.Close() }

// Latency of what was received.
func (r *Receiver) Latency(name string) report.Latency { return r.latency.Latency(name) }

// sampled: the time of one datagram of so many is looked at.
const sampled = 16

// Run counts until ctx ends, or nothing came for quiet after something did.
func (r *Receiver) Run(ctx context.Context, quiet time.Duration) (Received, error) {
	var t tally
	stop := context.AfterFunc(ctx, func() { _ = r.conn.SetReadDeadline(time.Now()) })
	defer stop()
	conn := ipv4.NewPacketConn(r.conn)
	messages := make([]ipv4.Message, batchLen)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 65536)}
		messages[i].OOB = make([]byte, unix.CmsgSpace(4))
	}
	for ctx.Err() == nil {
		if t.Packets > 0 {
			if err := r.conn.SetReadDeadline(time.Now().Add(quiet)); err != nil {
				return t.Received, err
			}
			if ctx.Err() != nil {
				break
			}
		}
		n, err := conn.ReadBatch(messages, 0)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return t.Received, nil
		case err != nil:
			return t.Received, fmt.Errorf("receive: %w", err)
		}
		now := Now()
		for i := range messages[:n] {
			m := &messages[i]
			if r.take(&t, m.Buffers[0][:m.N], segmentLen(m.OOB[:m.NN], m.N), now) {
				r.answer(t.Received, m.Addr)
			}
		}
	}
	return t.Received, nil
}

// Answer to a question: what was counted, and how long it took since the last
// question.
type Answer struct {
	Received
	Latency report.Latency `json:"latency"`
}

// answer a question. Who asked asks again if it gets lost.
func (r *Receiver) answer(got Received, to net.Addr) {
	a := Answer{Received: got, Latency: r.latency.Latency("one way")}
	a.Latency.Curve = nil // has no room in a datagram
	r.latency.Reset()
	if b, err := json.Marshal(a); err == nil {
		_, _ = r.conn.WriteTo(b, to)
	}
}

// take the datagrams of a bundle; true if one is a question.
func (r *Receiver) take(t *tally, bundle []byte, size int, now time.Duration) (asked bool) {
	for len(bundle) > 0 {
		n := min(size, len(bundle))
		number, at, ok := header(bundle[:n])
		bundle = bundle[n:]
		if !ok {
			t.Foreign++
			continue
		}
		if number == question {
			asked = true
			continue
		}
		if t.Packets == 0 {
			t.first = now
		}
		t.Span = now - t.first
		t.take(number)
		if number%sampled == 0 {
			r.latency.Record(now - at)
		}
	}
	return asked
}

// segmentLen is how long each datagram of a bundle is (UDP_GRO); without a
// control message there is one.
func segmentLen(oob []byte, length int) int {
	for len(oob) >= unix.SizeofCmsghdr {
		h, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			break
		}
		if h.Level == unix.IPPROTO_UDP && h.Type == unix.UDP_GRO && len(data) >= 4 {
			if n := int(binary.NativeEndian.Uint32(data)); n > 0 {
				return n
			}
		}
		oob = rest
	}
	return max(length, 1)
}
