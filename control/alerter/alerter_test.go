package alerter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// gateway has the sessions, is the socket, and keeps what was sent and reported.
type gateway struct {
	mu      sync.Mutex
	began   time.Time
	devices map[string]Device
	sent    []sent
	results []Result
	refuses bool
}

type sent struct {
	at     time.Duration
	to     netip.AddrPort
	octets string
}

func (g *gateway) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.refuses {
		return 0, errors.New("no buffer space")
	}
	g.sent = append(g.sent, sent{time.Since(g.began), to, string(b)})
	return len(b), nil
}

func (g *gateway) lookup(device string) (Device, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d, ok := g.devices[device]
	return d, ok
}

func (g *gateway) report(r Result) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.results = append(g.results, r)
}

func (g *gateway) set(device string, d Device) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.devices[device] = d
}

func (g *gateway) end(device string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.devices, device)
}

// times of the datagrams since the gateway began.
func (g *gateway) times() (at []time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.sent {
		at = append(at, s.at)
	}
	return at
}

// wantResults takes what was reported.
func (g *gateway) wantResults(t *testing.T, want ...Result) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if !slices.Equal(g.results, want) {
		t.Errorf("results %+v, want %+v", g.results, want)
	}
	g.results = nil
}

var phoneAddr = netip.MustParseAddr("10.9.0.7")

// run an alerter in a bubble, with a phone that was heard of when it began.
func run(t *testing.T, change func(*Config), story func(t *testing.T, a *Alerter, g *gateway)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{began: time.Now(), devices: map[string]Device{"phone": {phoneAddr, time.Now()}}}
		cfg := Config{
			Conn: g, Lookup: g.lookup, Report: g.report,
			Tries: 4, First: time.Second, Most: 3 * time.Second, Rate: 1e6,
		}
		if change != nil {
			change(&cfg)
		}
		a := New(cfg)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			a.Run(ctx)
			close(done)
		}()
		defer func() {
			cancel()
			<-done
		}()
		story(t, a, g)
	})
}

func send(t *testing.T, a *Alerter, device, name string) {
	t.Helper()
	if err := a.Send(device, name, []byte("octets of "+name)); err != nil {
		t.Fatal(err)
	}
}

// moments rounds times to milliseconds: the rate puts microseconds between.
func moments(at []time.Duration) []int64 {
	ms := make([]int64, len(at))
	for i, d := range at {
		ms[i] = d.Milliseconds()
	}
	return ms
}

// Nobody answers: so many tries with a wait that grows, all to the device's
// address and port and octet by octet what the manager gave; then the result.
func TestUnanswered(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, g *gateway) {
		octets := []byte("octets of a")
		if err := a.Send("phone", "a", octets); err != nil {
			t.Fatal(err)
		}
		clear(octets) // they are the caller's
		time.Sleep(8 * time.Second)
		g.wantResults(t)
		// The same one again is nothing new.
		send(t, a, "phone", "a")
		time.Sleep(time.Hour)
		if got := moments(g.times()); !slices.Equal(got, []int64{0, 1000, 3000, 6000}) {
			t.Errorf("sent at %v ms", got)
		}
		for _, s := range g.sent {
			if s.to != netip.AddrPortFrom(phoneAddr, 2948) || s.octets != "octets of a" {
				t.Errorf("%+v", s)
			}
		}
		g.wantResults(t, Result{"phone", "a", Unanswered, 4})
		if s := a.Stats(); s != (Stats{Sent: 4}) {
			t.Errorf("%+v", s)
		}
	})
}

// A device that was heard of before the alert wasn't woken by it; one that is
// heard of after it was.
func TestHeard(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, g *gateway) {
		time.Sleep(time.Minute)
		send(t, a, "phone", "a")
		time.Sleep(2 * time.Second)
		g.set("phone", Device{phoneAddr, time.Now()})
		time.Sleep(time.Hour)
		g.wantResults(t, Result{"phone", "a", Heard, 2})
	})
}

// The session ends, or the device comes back with another address.
func TestSessionsEnd(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, g *gateway) {
		send(t, a, "phone", "a")
		time.Sleep(500 * time.Millisecond)
		elsewhere := netip.MustParseAddr("fd00::7")
		g.set("phone", Device{elsewhere, g.began})
		time.Sleep(time.Second)
		g.end("phone")
		time.Sleep(time.Hour)
		g.wantResults(t, Result{"phone", "a", Disconnected, 2})
		if g.sent[1].to.Addr() != elsewhere {
			t.Errorf("%+v", g.sent[1])
		}
		if err := a.Send("phone", "b", []byte("x")); !errors.Is(err, ErrNotConnected) {
			t.Errorf("no session: %v", err)
		}
		g.wantResults(t)
	})
}

// A later alert takes the place of the one before.
func TestReplaced(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, g *gateway) {
		send(t, a, "phone", "a")
		time.Sleep(1500 * time.Millisecond)
		send(t, a, "phone", "b")
		g.wantResults(t, Result{"phone", "a", Replaced, 2})
		time.Sleep(time.Hour)
		g.wantResults(t, Result{"phone", "b", Unanswered, 4})
		if last := g.sent[len(g.sent)-1]; len(g.sent) != 6 || last.octets != "octets of b" {
			t.Errorf("%d sent, the last %+v", len(g.sent), last)
		}
	})
}

// A socket that refuses uses up tries as well: an alert always ends.
func TestSocketRefuses(t *testing.T) {
	run(t, nil, func(t *testing.T, a *Alerter, g *gateway) {
		g.refuses = true
		send(t, a, "phone", "a")
		time.Sleep(time.Hour)
		g.wantResults(t, Result{"phone", "a", Unanswered, 0})
		if s := a.Stats(); s != (Stats{Errors: 4}) {
			t.Errorf("%+v", s)
		}
	})
}

// The table is bounded, and so is the rate, however many come at once. Every
// alert has one result.
func TestBounds(t *testing.T) {
	const devices, rate = 300, 100
	run(t, func(c *Config) { c.MaxAlerts, c.Rate = devices, rate }, func(t *testing.T, a *Alerter, g *gateway) {
		for n := range devices + 1 {
			g.set(fmt.Sprint("d", n), Device{netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)}), g.began})
		}
		for n := range devices {
			send(t, a, fmt.Sprint("d", n), "a")
		}
		if err := a.Send(fmt.Sprint("d", devices), "a", []byte("x")); !errors.Is(err, ErrFull) {
			t.Errorf("one too many: %v", err)
		}
		send(t, a, "d0", "b") // it has a place
		for _, octets := range [][]byte{nil, make([]byte, MaxOctets+1)} {
			if err := a.Send("d1", "c", octets); !errors.Is(err, ErrSize) {
				t.Errorf("%d octets: %v", len(octets), err)
			}
		}
		time.Sleep(time.Hour)
		at := g.times()
		for i := range at {
			if end := i + rate; end < len(at) && at[end]-at[i] < time.Second {
				t.Fatalf("%d datagrams from %v to %v", rate+1, at[i], at[end])
			}
		}
		got := map[string]int{}
		for _, r := range g.results {
			got[r.Device+" "+r.Alert]++
		}
		if len(g.results) != devices+1 || len(got) != devices+1 || a.Stats().Pending != 0 {
			t.Errorf("%d results of %d alerts, %+v", len(g.results), len(got), a.Stats())
		}
	})
}

// What is under way when the gateway ends is reported, and nothing is taken any
// more.
func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gateway{began: time.Now(), devices: map[string]Device{"phone": {phoneAddr, time.Now()}}}
		a := New(Config{Conn: g, Lookup: g.lookup, Report: g.report})
		ctx, cancel := context.WithCancel(t.Context())
		go a.Run(ctx)
		send(t, a, "phone", "a")
		time.Sleep(time.Second)
		cancel()
		synctest.Wait()
		g.wantResults(t, Result{"phone", "a", Stopped, 1})
		if err := a.Send("phone", "b", []byte("x")); !errors.Is(err, ErrNotConnected) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A real socket: from the fixed port, to the device's.
func TestSocket(t *testing.T) {
	device, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	_ = device.SetReadDeadline(time.Now().Add(time.Minute))
	conn, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to := device.LocalAddr().(*net.UDPAddr).AddrPort()
	results := make(chan Result, 1)
	a := New(Config{
		Conn: conn, Port: to.Port(),
		Lookup: func(string) (Device, bool) { return Device{to.Addr(), time.Now().Add(-time.Hour)}, true },
		Report: func(r Result) { results <- r },
		First:  time.Hour,
	})
	ctx, cancel := context.WithCancel(t.Context())
	go a.Run(ctx)
	send(t, a, "phone", "a")
	octets := make([]byte, 100)
	n, from, err := device.ReadFromUDPAddrPort(octets)
	if err != nil || string(octets[:n]) != "octets of a" || from != conn.LocalAddr().(*net.UDPAddr).AddrPort() {
		t.Errorf("%q from %v, %v", octets[:n], from, err)
	}
	cancel()
	if r := <-results; r.Outcome != Stopped {
		t.Errorf("%+v", r)
	}
}
