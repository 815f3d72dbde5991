package userspace

import (
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/bpf/steer"
	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/dptest"
	"github.com/roamgate/roamgate/dataplane/tun"
)

// pipe is an inside device made of a socket pair: packets keep their bounds, as
// with TUN. device is the backend's end, host the end of a host behind it.
type pipe struct {
	device, host int
	buffer       []byte

	segmenter   tun.Segmenter
	joined, cut []byte
	super       atomic.Int64 // super-packets
	overflowed  atomic.Uint64
}

func newPipe(t *testing.T) *pipe {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &pipe{device: fds[0], host: fds[1], buffer: make([]byte, tun.MaxFrame), joined: make([]byte, tun.MaxFrame), cut: make([]byte, tun.MaxFrame)}
	t.Cleanup(func() {
		unix.Close(p.device)
		unix.Close(p.host)
	})
	return p
}

func (p *pipe) FD() int                    { return p.device }
func (p *pipe) Read(b []byte) (int, error) { return unix.Read(p.device, b) }

func (p *pipe) Write(b []byte) error {
	_, err := unix.Write(p.device, b)
	return err
}

// WriteVector splits super-packets again: hosts of the tests see packets.
func (p *pipe) WriteVector(parts []unix.Iovec) error {
	n := 0
	for _, v := range parts {
		n += copy(p.joined[n:], unsafe.Slice(v.Base, v.Len))
	}
	p.super.Add(1)
	if err := p.segmenter.Reset(p.joined[:n]); err != nil {
		return err
	}
	for n = p.segmenter.Next(p.cut[tun.HeaderLen:]); n > 0; n = p.segmenter.Next(p.cut[tun.HeaderLen:]) {
		if err := p.Write(p.cut[:tun.HeaderLen+n]); err != nil {
			return err
		}
	}
	return nil
}

func (p *pipe) USO() bool { return true }

// Overflowed implements Inside.
func (p *pipe) Overflowed() uint64 { return p.overflowed.Load() }

// Send hands an IP packet to the backend, with the header of a complete one.
func (p *pipe) Send(packet []byte) error {
	return p.sendFrame(append(make([]byte, tun.HeaderLen), packet...))
}

func (p *pipe) sendFrame(frame []byte) error {
	_, err := unix.Write(p.host, frame)
	return err
}

func (p *pipe) Receive(timeout time.Duration) ([]byte, bool) {
	for end := time.Now().Add(timeout); ; {
		n, err := unix.Read(p.host, p.buffer)
		if err == nil && n > tun.HeaderLen {
			return append([]byte(nil), p.buffer[tun.HeaderLen:n]...), true
		}
		left := time.Until(end)
		if left <= 0 {
			return nil, false
		}
		unix.Poll([]unix.PollFd{{Fd: int32(p.host), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

// fakeClock stands still between calls of advance, so that no rate limit lets
// more through on a slow machine.
type fakeClock struct{ elapsed atomic.Int64 }

var clockStart = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func (c *fakeClock) now() time.Time          { return clockStart.Add(time.Duration(c.elapsed.Load())) }
func (c *fakeClock) advance(d time.Duration) { c.elapsed.Add(int64(d)) }

// harness builds a backend on loopback and a pipe.
type harness struct {
	*dptest.Harness
	backend *Backend
	pipe    *pipe
	clock   *fakeClock
}

func newHarness(t *testing.T, events chan<- dataplane.Event, edit func(*Config)) *harness {
	t.Helper()
	h := &harness{pipe: newPipe(t), clock: new(fakeClock)}
	config := Config{Locals: []Local{loopback4}, Inside: []Inside{h.pipe}, Pools: []netip.Prefix{pool}, MaxChildren: 64, Now: h.clock.now}
	if edit != nil {
		edit(&config)
	}
	b, err := New(config, events)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	h.backend = b
	h.Harness = &dptest.Harness{
		Backend: b, Local: reached(b.Locals()[0]),
		Inside: h.pipe, Advance: h.clock.advance,
	}
	if len(config.Inside) > 1 {
		h.Inside = hub(config.Inside)
	}
	if len(config.Locals) > 1 {
		second := reached(b.Locals()[1])
		h.Second = &second
	}
	// The kernel closes what a killed process had open, and that is all.
	h.Crash = func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		t.Helper()
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		return newHarness(t, events, edit).Harness
	}
	return h
}

// withLoops makes a Config of n loops, each with a pipe.
func withLoops(t *testing.T, n int) func(*Config) {
	return func(c *Config) {
		c.Inside = nil
		for range n {
			c.Inside = append(c.Inside, newPipe(t))
		}
	}
}

// hub is the host behind several pipes. It chooses the queue as a kernel does
// that nobody steers: by the flow.
type hub []Inside

func (h hub) Send(packet []byte) error {
	f := fnv.New32a()
	f.Write(packet[12:min(24, len(packet))])
	return h[f.Sum32()%uint32(len(h))].(*pipe).Send(packet)
}

func (h hub) Receive(timeout time.Duration) ([]byte, bool) {
	var set []unix.PollFd
	for _, p := range h {
		set = append(set, unix.PollFd{Fd: int32(p.(*pipe).host), Events: unix.POLLIN})
	}
	for end := time.Now().Add(timeout); ; {
		for _, p := range h {
			if packet, ok := p.(*pipe).Receive(0); ok {
				return packet, true
			}
		}
		left := time.Until(end)
		if left <= 0 {
			return nil, false
		}
		unix.Poll(set, int(left.Milliseconds())+1)
	}
}

// reached is a local address as devices see it.
func reached(at Local) dptest.Local {
	return dptest.Local{
		IKE: at.IKE, Encap: at.Encap,
		Outside: func(t *testing.T) net.PacketConn {
			t.Helper()
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Encap.Addr(), 0)))
			if err != nil {
				t.Fatal(err)
			}
			return conn
		},
	}
}

// pool is one in which somebody can be on loopback.
var pool = netip.MustParsePrefix("127.66.0.0/16")

var (
	loopback4 = Local{IKE: netip.MustParseAddrPort("127.0.0.1:0"), Encap: netip.MustParseAddrPort("127.0.0.1:0")}
	loopback6 = Local{IKE: netip.MustParseAddrPort("[::1]:0"), Encap: netip.MustParseAddrPort("[::1]:0")}
)

// needIPv6 skips the test where the machine has no IPv6 loopback.
func needIPv6(t *testing.T) {
	t.Helper()
	conn, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skipf("no IPv6 loopback: %v", err)
	}
	conn.Close()
}

func conformance(t *testing.T, loops int, at ...Local) {
	dptest.Run(t, func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		return newHarness(t, events, func(c *Config) {
			c.Locals = at
			if loops > 1 {
				withLoops(t, loops)(c)
			}
		}).Harness
	})
}

func TestConformance(t *testing.T) { conformance(t, 1, loopback4) }

// Nobody steers: what belongs to another loop is passed on.
func TestConformanceFourLoops(t *testing.T) {
	needIPv6(t)
	conformance(t, 4, loopback4, loopback6)
}

// The kernel chooses the socket by the SPI.
func TestConformanceSteered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to load BPF programs")
	}
	needIPv6(t)
	dptest.Run(t, func(t *testing.T, events chan<- dataplane.Event) *dptest.Harness {
		return newHarness(t, events, func(c *Config) {
			c.Locals = []Local{loopback4, loopback6}
			steered(t, 4)(c)
		}).Harness
	})
}

// steered makes a Config of n loops with steering.
func steered(t *testing.T, n int) func(*Config) {
	return func(c *Config) {
		withLoops(t, n)(c)
		s, err := steer.Open(steer.Config{LoopShift: LoopShift, LoopMask: LoopMask, Addresses: 1024})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		c.Steering = s
	}
}

func TestConformanceIPv4First(t *testing.T) {
	needIPv6(t)
	conformance(t, 1, loopback4, loopback6)
}

func TestConformanceIPv6First(t *testing.T) {
	needIPv6(t)
	conformance(t, 1, loopback6, loopback4)
}
