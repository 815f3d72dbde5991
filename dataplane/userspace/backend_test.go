package userspace

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/encap"
)

func TestConfigRefused(t *testing.T) {
	good := Config{Locals: []Local{loopback4}, Inside: []Inside{newPipe(t)}}
	mixed := Local{IKE: loopback6.IKE, Encap: loopback4.Encap}
	moved := Local{IKE: netip.MustParseAddrPort("127.0.0.2:0"), Encap: loopback4.Encap}
	socket, err := encap.Listen(loopback4.Encap, "")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	taken := Local{IKE: loopback4.IKE, Encap: socket.Local()}
	for _, c := range []struct {
		name string
		want error
		edit func(*Config)
	}{
		{"no inside", ErrConfig, func(c *Config) { c.Inside = nil }},
		{"a queue that isn't there", ErrConfig, func(c *Config) { c.Inside = []Inside{nil} }},
		{"more loops than an SPI can name", ErrConfig, func(c *Config) { c.Inside = slices.Repeat(c.Inside, 33) }},
		{"no local address", ErrConfig, func(c *Config) { c.Locals = nil }},
		{"two families in one", ErrConfig, func(c *Config) { c.Locals = []Local{loopback4, mixed} }},
		{"two addresses in one", ErrConfig, func(c *Config) { c.Locals = []Local{moved} }},
		{"path MTU too small for IPv6", ErrConfig, func(c *Config) { c.PathMTU, c.Locals = 1279, []Local{loopback4, loopback6} }},
		{"path MTU without room", ErrConfig, func(c *Config) { c.PathMTU = 100 }},
		{"negative path MTU", ErrConfig, func(c *Config) { c.PathMTU = -1 }},
		{"path MTU beyond IP", ErrConfig, func(c *Config) { c.PathMTU = 1 << 16 }},
		{"more children than slots", ErrConfig, func(c *Config) { c.MaxChildren = 1 << 20 }},
		{"negative children", ErrConfig, func(c *Config) { c.MaxChildren = -1 }},
		{"third member", ErrConfig, func(c *Config) { c.Member = 2 }},
		{"unspecified address", encap.ErrAddress, func(c *Config) {
			any4 := netip.MustParseAddrPort("0.0.0.0:0")
			c.Locals = []Local{loopback4, {IKE: any4, Encap: any4}}
		}},
		{"a port that is taken", unix.EADDRINUSE, func(c *Config) { c.Locals = []Local{loopback4, taken, loopback4} }},
	} {
		config := good
		c.edit(&config)
		if b, err := New(config, nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, %v; want %v", c.name, b, err, c.want)
		}
	}
}

// TestHintsAreLimited: a device that shows another address with each packet
// gives one hint a second, and one at once after a Move.
func TestHintsAreLimited(t *testing.T) {
	events := make(chan dataplane.Event, 64)
	p := newPeer(t, newHarness(t, events, nil), nil)
	elsewhere := netip.MustParseAddrPort("127.0.0.1:9")
	away := p.child.Path
	away.Remote = elsewhere
	p.apply(dataplane.Move{Inbound: p.child.Inbound.SPI, Path: away})
	hints := func(packets int) (n int) {
		for range packets {
			p.up(up4.UDP(1, 2, nil), 0)
			p.inside()
		}
		for ; len(events) > 0; n++ {
			if got := <-events; got != (dataplane.AddressChanged{Inbound: p.child.Inbound.SPI, Local: p.Encap, Remote: p.socket.Local()}) {
				t.Errorf("event %+v", got)
			}
		}
		return n
	}
	if n := hints(20); n != 1 {
		t.Errorf("%d hints for 20 packets, want 1", n)
	}
	p.clock.advance(2 * time.Second)
	if n := hints(20); n != 1 {
		t.Errorf("%d hints two seconds later, want 1", n)
	}
	p.apply(dataplane.Move{Inbound: p.child.Inbound.SPI, Path: away})
	if n := hints(20); n != 1 {
		t.Errorf("%d hints after a Move, want 1", n)
	}
}

// TestUnknownSPIsAreLimited: of a scan only some packets are told.
func TestUnknownSPIsAreLimited(t *testing.T) {
	events := make(chan dataplane.Event, 1024)
	p := newPeer(t, newHarness(t, events, nil), nil)
	const scan = 200
	for i := range scan {
		p.raw([]byte{0x7F, byte(i), 0, 0, 0, 0, 0, 1}, p.Encap)
	}
	p.dropped(t, dataplane.ReasonUnknownSPI, scan)
	if burst := p.backend.loops[0].unknownSPI.burst; len(events) != burst {
		t.Errorf("%d events, want %d", len(events), burst)
	}
}

func TestBucket(t *testing.T) {
	b := bucket{interval: time.Second, burst: 3}
	for i, c := range []struct {
		now  time.Duration
		want bool
	}{
		{0, true}, {0, true}, {0, true}, {0, false},
		{time.Second, true}, {time.Second, false},
		{2*time.Second - 1, false}, {time.Hour, true}, {time.Hour, true}, {time.Hour, true}, {time.Hour, false},
	} {
		if got := b.take(c.now); got != c.want {
			t.Errorf("step %d at %v: %t", i, c.now, got)
		}
	}
}

// goneDevice is an inside device that was taken away.
type goneDevice struct{ *pipe }

func (goneDevice) Read([]byte) (int, error) { return 0, unix.EBADFD }
func (goneDevice) Write([]byte) error       { return unix.EBADFD }

func (goneDevice) WriteVector([]unix.Iovec) error { return unix.EBADFD }

// TestInsideGone: without its inside device the loop says so once and still
// answers and carries IKE.
func TestInsideGone(t *testing.T) {
	var log safeBuffer
	h := newHarness(t, nil, func(c *Config) {
		c.Inside = []Inside{goneDevice{newPipe(t)}}
		c.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	})
	p := newPeer(t, h, nil)
	p.up(up4.UDP(1, 2, nil), 0)
	p.dropped(t, dataplane.ReasonInsideWrite, 1)
	p.raw([]byte("IKE"), p.IKE)
	received := []dataplane.Datagram{{Data: make([]byte, 10)}}
	if n, err := p.backend.Transport().Receive(received); n != 1 || err != nil || string(received[0].Data) != "IKE" {
		t.Errorf("Receive: %d, %v, %q", n, err, received[0].Data)
	}
	if lines := bytes.Count(log.bytes(), []byte("\n")); lines != 1 {
		t.Errorf("%d log lines, want 1: %s", lines, log.bytes())
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) bytes() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.b.Bytes())
}

// TestManyCallers: all methods from many goroutines while packets flow, and
// Close among them; everybody comes back.
func TestManyCallers(t *testing.T) {
	p := newPeer(t, newHarness(t, make(chan dataplane.Event, 1), nil), nil)
	b := p.backend
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				spi, err := b.Reserve(virtual4)
				if errors.Is(err, dataplane.ErrClosed) {
					return
				}
				b.Apply([]dataplane.Change{dataplane.Move{Inbound: p.child.Inbound.SPI, Path: p.child.Path}, dataplane.Remove{Inbound: spi}})
				b.Drops()
				for range b.Counters {
				}
				b.Transport().Send([]dataplane.Datagram{{Data: []byte("IKE"), Local: p.Encap, Remote: p.socket.Local(), Marker: true}})
			}
		})
	}
	callers.Go(func() {
		batch := []dataplane.Datagram{{Data: make([]byte, 10)}}
		for {
			if _, err := b.Transport().Receive(batch); errors.Is(err, dataplane.ErrClosed) {
				return
			}
		}
	})
	for range 100 {
		p.raw([]byte("IKE"), p.IKE)
		p.up(up4.UDP(1, 2, nil), 0)
		p.inside()
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	callers.Wait()
}
