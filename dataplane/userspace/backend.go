package userspace

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/esp"
)

// Backend is a dataplane.Backend on packet loops. All children use ESP in UDP,
// each from one of the Encap addresses of its Config.
type Backend struct {
	config    Config
	directory *directory
	transport *transport
	loops     []*loop

	// changes keeps the order of Apply calls over all loops, Import among them.
	changes sync.Mutex
	// mu orders Export and Close among themselves.
	mu       sync.Mutex
	exported bool
	closed   bool
}

var _ dataplane.Backend = (*Backend)(nil)

// New binds the sockets and starts the loops. Events that find the channel full
// are lost. Errors: ErrConfig, encap.ErrAddress, and those of the system.
func New(config Config, events chan<- dataplane.Event) (_ *Backend, err error) {
	config.setDefaults()
	if err := config.validate(); err != nil {
		return nil, err
	}
	n := len(config.Inside)
	all, err := listen(config.Locals, n, config.Interface, sendBufferLen(config.PathMTU))
	if err != nil {
		return nil, err
	}
	b := &Backend{config: config, directory: newDirectory(n, config.MaxChildren)}
	queue := newIKEQueue()
	b.transport = &transport{queue: queue, sockets: all[0].pairs(), closed: make(chan struct{})}
	defer func() {
		if err != nil {
			for _, l := range b.loops {
				l.closeWake()
			}
			for _, ls := range all {
				ls.close()
			}
		}
	}()
	for i, ls := range all {
		l, err := newLoop(i, config, ls, b.directory, queue, events)
		if err != nil {
			return nil, err
		}
		b.loops = append(b.loops, l)
	}
	if err := b.steerSockets(); err != nil {
		return nil, err
	}
	together := Batches() && !config.Singly
	by := esp.GCM()
	if together {
		by = "ipsec-mb"
	}
	config.Logger.Info("AES-GCM", slog.String("by", by), slog.Bool("round_together", together))
	for _, l := range b.loops {
		l.loops = b.loops
	}
	for _, l := range b.loops {
		go l.run()
	}
	return b, nil
}

// steerSockets tells the steering which sockets there are.
func (b *Backend) steerSockets() error {
	if !b.steered() {
		return nil
	}
	for i := range b.config.Locals {
		fds := make([]int, len(b.loops))
		for n, l := range b.loops {
			fds[n] = l.locals[i].Encap.FD()
		}
		if err := b.config.Steering.Sockets(fds); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) steered() bool { return b.config.Steering != nil && len(b.loops) > 1 }

// Locals are those of Config, with the ports that were drawn where it has 0. A
// path starts from one of the Encap addresses.
func (b *Backend) Locals() []Local {
	var bound []Local
	for _, at := range b.loops[0].locals {
		bound = append(bound, Local{IKE: at.IKE.Local(), Encap: at.Encap.Local()})
	}
	return bound
}

func (b *Backend) Features() dataplane.Features {
	f := features()
	f.MaxChildren = b.config.MaxChildren
	return f
}

// Reserve draws an SPI of the loop that owns hint.
func (b *Backend) Reserve(hint netip.Addr) (spi dataplane.SPI, err error) {
	l := b.loops[b.directory.owner(hint)]
	closed := l.do(func() {
		if !l.forwarding {
			err = dataplane.ErrClosed
			return
		}
		spi, err = l.reserve(l.now)
	})
	if closed != nil {
		return 0, closed
	}
	return spi, err
}

// loopFor is the loop that drew an SPI, or the first one, which will say that it
// knows nothing of it.
func (b *Backend) loopFor(spi dataplane.SPI) *loop {
	if n := int(loopOf(spi)); n < len(b.loops) {
		return b.loops[n]
	}
	return b.loops[0]
}

func (b *Backend) Drops() dataplane.Drops {
	var sum dataplane.Drops
	for _, l := range b.loops {
		add := func() {
			for i, n := range l.drops {
				sum[i] += n
			}
		}
		look := func() {
			for _, at := range l.locals {
				l.drops[dataplane.ReasonOutsideQueueFull] += at.newlyLost()
			}
			add()
		}
		if l.do(look) != nil {
			add() // it has ended, nobody writes any more
		}
	}
	sum[dataplane.ReasonInsideQueueFull] = b.config.Inside[0].Overflowed()
	sum[dataplane.ReasonOutsideSend] += b.transport.refused.Load()
	return sum
}

// PassedOn says how many packets came to another loop than their own.
func (b *Backend) PassedOn() (sum uint64) {
	for _, l := range b.loops {
		if l.do(func() { sum += l.passed }) != nil {
			sum += l.passed
		}
	}
	return sum
}

func (b *Backend) Transport() dataplane.IKETransport { return b.transport }

// Close ends the loops, erases keys and closes the sockets. The inside device
// stays open.
func (b *Backend) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	var errs []error
	for _, l := range b.loops {
		errs = append(errs, l.do(l.end))
		<-l.done
	}
	if !b.exported {
		b.transport.close()
	}
	for _, l := range b.loops {
		errs = append(errs, l.locals.close())
	}
	return errors.Join(errs...)
}

// end erases what the loop knows; it leaves after this round.
func (l *loop) end() {
	for s := range l.all {
		l.free(s, l.now)
	}
	l.forwarding = false
	l.ended = true
}

// Counters takes the counters in pieces, so that forwarding is never held up by
// the number of children.
func (b *Backend) Counters(yield func(dataplane.ChildCounters) bool) {
	b.CountersSince(time.Time{}, yield)
}

// CountersSince is Counters for those children of which something was carried
// since a time.
func (b *Backend) CountersSince(since time.Time, yield func(dataplane.ChildCounters) bool) {
	const chunks = 1024 / chunkLen
	found := make([]dataplane.ChildCounters, 0, chunks*chunkLen)
	for _, l := range b.loops {
		at := since.Sub(l.epoch)
		for member := range uint8(2) {
			for from, more := 0, true; more; from += chunks {
				found = found[:0]
				closed := l.do(func() {
					t := &l.tables[member]
					for i := from; i < min(from+chunks, len(t.chunks)); i++ {
						found = l.appendCounters(found, t.chunks[i], at)
					}
					more = from+chunks < len(t.chunks)
				})
				if closed != nil {
					return
				}
				for _, c := range found {
					if !yield(c) {
						return
					}
				}
			}
		}
	}
}

func (l *loop) appendCounters(found []dataplane.ChildCounters, chunk *[chunkLen]sa, since time.Duration) []dataplane.ChildCounters {
	if chunk == nil {
		return found
	}
	for i := range chunk {
		if c := &chunk[i].counters; chunk[i].state == saInstalled && (c.lastIn >= since || c.lastOut >= since) {
			found = append(found, l.export(&chunk[i]))
		}
	}
	return found
}
