package device

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/roamgate/roamgate/dataplane"
	"github.com/roamgate/roamgate/dataplane/tun"
	"github.com/roamgate/roamgate/dataplane/userspace"
)

// pipe is the inside of a userspace backend: a socket pair that keeps the
// bounds of packets, with a host at its other end.
type pipe struct{ device, host int }

func newPipe(t *testing.T) *pipe {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(fds[1])
	})
	return &pipe{fds[0], fds[1]}
}

func (p *pipe) FD() int                    { return p.device }
func (p *pipe) Read(b []byte) (int, error) { return unix.Read(p.device, b) }

func (p *pipe) Write(b []byte) error {
	_, err := unix.Write(p.device, b)
	return err
}

// WriteVector: ICMP is never joined.
func (p *pipe) WriteVector([]unix.Iovec) error { return unix.EINVAL }

func (p *pipe) USO() bool { return false }

// Overflowed implements userspace.Inside.
func (p *pipe) Overflowed() uint64 { return 0 }

// loopbackWorld is the userspace engine on loopback, with a host behind it that
// counts packets, and certificates.
type loopbackWorld struct {
	*testing.T
	pipe    *pipe
	backend *userspace.Backend
	events  chan dataplane.Event
	gateway *gateway
	up      [packets]atomic.Uint32 // how often each number came to the host
	down    [packets]atomic.Uint32 // and to a device
}

const packets = 1000

func newLoopbackWorld(t *testing.T) *loopbackWorld {
	t.Helper()
	w := &loopbackWorld{T: t, pipe: newPipe(t), events: make(chan dataplane.Event, 64)}
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	backend, err := userspace.New(userspace.Config{
		Locals: []userspace.Local{{IKE: loopback, Encap: loopback}}, Inside: []userspace.Inside{w.pipe}, MaxChildren: 64,
	}, w.events)
	if err != nil {
		t.Fatal(err)
	}
	w.backend = backend
	w.gateway = newGateway(t, backend, w.events)
	hostDone, hostQuit := make(chan struct{}), make(chan struct{})
	go w.host(hostQuit, hostDone)
	t.Cleanup(func() {
		close(hostQuit)
		<-hostDone
		if err := backend.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// connect makes a device that is up.
func (w *loopbackWorld) connect(name string) (*Device, netip.Addr) {
	w.Helper()
	cfg := w.gateway.config(name)
	at := w.backend.Locals()[0]
	cfg.Gateway, cfg.GatewayNATT = at.IKE, at.Encap
	cfg.Listen = loopbackSocket
	cfg.Deliver = func(packet []byte) { count(&w.down, packet) }
	d, err := New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	info, err := d.Connect(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(d.Vanish)
	return d, info.Summary.VirtualIPs[0]
}

// host counts what comes to the network behind the gateway.
func (w *loopbackWorld) host(quit <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	buffer := make([]byte, tun.MaxFrame)
	for {
		select {
		case <-quit:
			return
		default:
		}
		n, err := unix.Read(w.pipe.host, buffer)
		if err == nil && n > tun.HeaderLen {
			count(&w.up, buffer[tun.HeaderLen:n])
			continue
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(w.pipe.host), Events: unix.POLLIN}}, 20)
	}
}

// count notes a numbered packet.
func count(seen *[packets]atomic.Uint32, packet []byte) {
	if e, ok := ParseEcho(packet); ok && len(e.Data) >= 4 {
		if n := binary.BigEndian.Uint32(e.Data); n < packets {
			seen[n].Add(1)
		}
	}
}

func numbered(src, dst netip.Addr, n int) []byte {
	return Echo{Src: src, Dst: dst, ID: 1, Reply: true, Data: append(binary.BigEndian.AppendUint32(nil, uint32(n)), make([]byte, n%1200)...)}.Append(nil)
}

func loopbackSocket() (Socket, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// both sends packet n each way and waits for it, so that little is ever in
// flight; it says which way arrived.
func (w *loopbackWorld) both(d *Device, ip netip.Addr, n int, patience time.Duration) (up, down bool) {
	w.Helper()
	if err := d.Send(numbered(ip, lan, n)); err != nil {
		w.Errorf("Send: %v", err)
	}
	frame := append(make([]byte, tun.HeaderLen), numbered(lan, ip, n)...)
	if _, err := unix.Write(w.pipe.host, frame); err != nil {
		w.Errorf("send from the inside: %v", err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Microsecond) {
		up, down = w.up[n].Load() > 0, w.down[n].Load() > 0
		if up && down || time.Now().After(end) {
			return up, down
		}
	}
}

// arrives is both for packets that have to arrive.
func (w *loopbackWorld) arrives(d *Device, ip netip.Addr, n int) {
	w.Helper()
	if up, down := w.both(d, ip, n, 10*time.Second); !up || !down {
		w.Fatalf("packet %d: up %v, down %v; device %+v %+v; drops of the gateway %v", n, up, down, d.Info(), d.Counters(), w.backend.Drops())
	}
}

// TestThousandPackets go both ways through the userspace engine, while the
// device roams, its NAT forgets it and Child SAs are rekeyed. Nothing is lost
// but what was in flight to the old address.
func TestThousandPackets(t *testing.T) {
	w := newLoopbackWorld(t)
	w.gateway.start()
	t.Cleanup(w.gateway.stop)
	d, ip := w.connect("dev")

	// Between an order and the news that it was carried out, downlink packets
	// may go to the old address.
	disturbances := map[int]struct {
		do   func() error
		done func(Info) bool
	}{
		100: {d.RekeyChild, func(i Info) bool { return i.ChildSAs == 2 && i.Children == 1 }},
		300: {func() error { return d.Roam(must(loopbackSocket())) }, func(i Info) bool { return i.Moves == 1 }},
		500: {d.RemapPort, nil},
		700: {d.RekeyChild, func(i Info) bool { return i.ChildSAs == 3 && i.Children == 1 }},
		701: {func() error { return d.Roam(must(loopbackSocket())) }, func(i Info) bool { return i.Moves == 2 }},
	}
	for n := range packets {
		order, disturbed := disturbances[n]
		if !disturbed {
			w.arrives(d, ip, n)
			continue
		}
		before := w.moved()
		if err := order.do(); err != nil {
			t.Fatal(err)
		}
		w.both(d, ip, n, 50*time.Millisecond) // or later
		ctx, cancel := timeout(t, 10*time.Second)
		if order.done == nil {
			w.eventually("hint", func() bool { return w.moved() > before })
		} else if _, err := d.Await(ctx, order.done); err != nil {
			t.Fatalf("packet %d: %v, %+v", n, err, d.Info())
		}
		cancel()
	}

	// What went down in front of the last packet is there, too.
	var inFlight []int
	for n := range packets {
		up, down := w.up[n].Load(), w.down[n].Load()
		if down == 0 && (n == 300 || n == 500 || n == 701) { // the device had moved
			inFlight = append(inFlight, n)
		} else if down != 1 {
			t.Errorf("packet %d came down %d times", n, down)
		}
		if up != 1 {
			t.Errorf("packet %d came up %d times", n, up)
		}
	}
	c := d.Counters()
	t.Logf("%d of %d lost to old addresses: %v; %+v", len(inFlight), packets, inFlight, c)
	if c.Sent != packets || c.Received != packets-uint64(len(inFlight)) || c.Lost != int64(len(inFlight)) {
		t.Errorf("counters %+v", c)
	}
	if err := d.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if drops := w.backend.Drops(); drops != (dataplane.Drops{}) {
		t.Errorf("drops of the gateway %v", drops)
	}
}

func (w *loopbackWorld) eventually(what string, condition func() bool) {
	w.Helper()
	for end := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s did not happen", what)
		}
	}
}

// moved is how often the gateway followed the device.
func (w *loopbackWorld) moved() (n int) {
	w.gateway.do(func() { n = w.gateway.moved })
	return n
}
