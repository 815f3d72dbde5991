package flow

import (
	"context"
	"errors"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Pace says how fast packets are offered, and how many at a time.
type Pace struct {
	// Rate in packets a second; 0: as fast as the socket takes them.
	Rate     float64
	Duration time.Duration
	// Least and Most packets of one batch.
	Least, Most int
}

// slot is how often a paced sender looks how many are due.
const slot = 200 * time.Microsecond

// Run has batch send about n packets at a time until the duration is over or ctx
// ends. Packets that were refused were offered too.
func (p Pace) Run(ctx context.Context, batch func(n int) (done, refused int, err error)) (sent Sent, err error) {
	began := time.Now()
	end := began.Add(p.Duration)
	for now := began; now.Before(end) && ctx.Err() == nil; now = time.Now() {
		n := p.Most
		if p.Rate > 0 {
			due := int(now.Sub(began).Seconds()*p.Rate) - int(sent.Packets+sent.Refused)
			if due < p.Least {
				time.Sleep(slot)
				continue
			}
			n = min(n, due)
		}
		done, refused, err := batch(n)
		sent.Packets += uint64(done)
		sent.Refused += uint64(refused)
		if err != nil {
			return sent, err
		}
	}
	sent.Took = time.Since(began)
	return sent, nil
}

// batchWriter is an *ipv4.PacketConn, whose WriteBatch is the same for IPv6, or an
// *ipv4.RawConn.
type batchWriter interface {
	WriteBatch(messages []ipv4.Message, flags int) (int, error)
}

// WriteAll hands all messages to the network, in as few system calls as it takes,
// and returns how many it took. Those that found no room were refused.
func WriteAll(w batchWriter, messages []ipv4.Message) (done, refused int, err error) {
	for len(messages) > 0 {
		n, err := w.WriteBatch(messages, 0)
		n = max(n, 0)
		done += n
		messages = messages[n:]
		switch {
		case err == nil && n > 0:
		case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.EAGAIN):
			refused++ // this one; go on behind it
			messages = messages[1:]
		case errors.Is(err, unix.ECONNREFUSED):
			// The receiver is not there yet, or any more; told of an earlier one.
		case err != nil:
			return done, refused, err
		}
	}
	return done, refused, nil
}
