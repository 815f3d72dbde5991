package push_test

import (
	"context"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// memory is a listener whose connections are pipes that take what is written.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newMemory() *memory { return &memory{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7443} }

func (m *memory) Dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case m.conns <- newEnd(theirs):
		return newEnd(ours), nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// end of a pipe whose writes don't wait for who reads: TLS and HTTP/2 begin with
// both sides writing.
type end struct {
	net.Conn
	out    chan []byte
	closed chan struct{}
	once   sync.Once
}

func newEnd(c net.Conn) *end {
	e := &end{Conn: c, out: make(chan []byte, 1024), closed: make(chan struct{})}
	go func() {
		for {
			select {
			case b := <-e.out:
				if _, err := c.Write(b); err != nil {
					return
				}
			case <-e.closed:
				return
			}
		}
	}()
	return e
}

func (e *end) Write(b []byte) (int, error) {
	select {
	case e.out <- slices.Clone(b):
		return len(b), nil
	case <-e.closed:
		return 0, net.ErrClosed
	}
}

func (e *end) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Conn.Close()
}

// TestSessionsAreCountedSoon: two seconds after a device came or went the count of
// its gateway is the new one; a gateway where many come is asked once a second.
func TestSessionsAreCountedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i, l := install(t), newMemory()
		g := i.gateway(t, "gateway-1", l, false)
		c := i.config(t, documents(t), newJournal())
		c.Dial = l.Dial
		m := manage(t, c, g.Gateway)
		synctest.Wait()
		if !statusOf(m, g.Name).Connected {
			t.Fatalf("not connected: %s", statusOf(m, g.Name).Err)
		}
		for _, step := range []struct {
			kind     gcm.EventKind
			sessions int64
		}{{gcm.SessionStarted, 1}, {gcm.SessionStarted, 2}, {gcm.SessionEnded, 1}} {
			g.sessions.Store(step.sessions)
			g.Events.Add(gcm.Event{Kind: step.kind, Device: "phone-1", Session: "1f"})
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := statusOf(m, g.Name).State.Sessions; got != int(step.sessions) {
				t.Fatalf("%d sessions 2 s after %s, want %d", got, step.kind, step.sessions)
			}
		}
		before := g.told.Load()
		for range 100 {
			g.Events.Add(gcm.Event{Kind: gcm.SessionStarted, Device: "phone-1", Session: "1f"})
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		if asked := g.told.Load() - before; asked < 8 || asked > 12 {
			t.Errorf("asked %d times in 10 s in which sessions came all the time", asked)
		}
		m.Close()
	})
}
