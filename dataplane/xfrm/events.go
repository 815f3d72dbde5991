package xfrm

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
)

// hintInterval is how often AddressChanged is repeated for an SA, in nanoseconds.
const hintInterval = 1_000_000_000

// watcher is the goroutine that listens to the kernel.
type watcher struct {
	b    *Backend
	conn *conn
	wake int // eventfd
	done chan struct{}
	once sync.Once
}

func watch(b *Backend) (*watcher, error) {
	c, err := dial(groupExpire, groupMapping)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), c.close())
	}
	w := &watcher{b: b, conn: c, wake: wake, done: make(chan struct{})}
	go w.run()
	return w, nil
}

func (w *watcher) run() {
	defer close(w.done)
	set := []unix.PollFd{{Fd: int32(w.conn.fd), Events: unix.POLLIN}, {Fd: int32(w.wake), Events: unix.POLLIN}}
	for {
		set[0].Revents, set[1].Revents = 0, 0
		if _, err := unix.Poll(set, -1); err != nil && !errors.Is(err, unix.EINTR) {
			w.b.config.Logger.Error("XFRM: events are not heard any more", slog.Any("error", err))
			return
		}
		if set[1].Revents != 0 {
			return
		}
		if set[0].Revents == 0 {
			continue
		}
		// Lost ones are counted; Counters finds what they would have told.
		if err := w.conn.receive(w.heard); err != nil {
			w.b.lost.Add(1)
		}
	}
}

func (w *watcher) heard(m message) {
	switch m.kind {
	case msgExpire:
		if r, hard, ok := parseExpire(m.body); ok {
			w.b.expired(&r, hard)
		}
	case msgMapping:
		if p, ok := parseMapping(m.body); ok {
			w.b.mapped(p)
		}
	}
}

// end waits until the goroutine has ended. It is safe to call twice.
func (w *watcher) end() {
	w.once.Do(func() {
		_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it has room for one
	})
	<-w.done
}

// close is called once, after end.
func (w *watcher) close() error { return errors.Join(w.conn.close(), unix.Close(w.wake)) }

// mapped: an authenticated packet came from another address, or from any while
// the kernel tells of all.
func (b *Backend) mapped(m mapping) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.children[m.id.spi]
	if b.over() || c == nil || c.dead || c.inboundID() != m.id || m.remote == c.Path.Remote {
		return
	}
	if now := b.now(); c.hinted == 0 || now-c.hinted >= hintInterval {
		if b.tell(dataplane.AddressChanged{Inbound: c.Inbound.SPI, Local: c.Path.Local, Remote: m.remote}) {
			c.hinted = now
		}
	}
}

// expired: an SA reached a limit. With a hard one the kernel has removed it.
func (b *Backend) expired(r *report, hard bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.children[r.id.spi]
	if c == nil || c.inboundID() != r.id {
		c = b.outbounds[r.id]
	}
	if b.over() || c == nil || c.dead {
		return
	}
	if hard {
		b.bury(c, r)
		return
	}
	if !c.softTold {
		c.softTold = b.tell(dataplane.LimitReached{Inbound: c.Inbound.SPI})
	}
}

// bury ends a child of which the kernel has lost an SA, for which r are the last
// words unless it is nil. What is left of it is removed before anybody is told:
// it carries nothing more, in either direction.
func (b *Backend) bury(c *child, r *report) {
	final := c.counted
	undo := b.newRun(1)
	undo.takeOut(0, c, &final)
	undo.flush()
	limit := false
	if r != nil {
		inbound := r.id == c.inboundID()
		addReport(&final, inbound, r)
		limit = reached(r, inbound, c)
	}
	c.counted, c.dead = final, true
	b.dropOutbound(c)
	if limit {
		b.tell(dataplane.LimitReached{Inbound: c.Inbound.SPI, Hard: true})
		return
	}
	b.tell(dataplane.Expired{Inbound: c.Inbound.SPI})
}

// reached: a hard limit, or the end of the sequence numbers.
func reached(r *report, inbound bool, c *child) bool {
	l := r.lifetime
	return c.Hard.Packets != 0 && l.packets >= c.Hard.Packets || c.Hard.Bytes != 0 && l.bytes >= c.Hard.Bytes ||
		!inbound && !c.ESN && r.hardPackets != 0 && l.packets >= r.hardPackets
}
