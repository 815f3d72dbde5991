package alerter

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

var (
	// ErrFull: too many alerts are under way.
	ErrFull = errors.New("too many alerts")
	// ErrSize: an alert that isn't 1 to MaxOctets long.
	ErrSize = errors.New("alert of the wrong size")
	// ErrNotConnected: the device has no session here.
	ErrNotConnected = errors.New("device isn't connected")
)

const (
	// MaxOctets of an alert: it fits into a datagram in any tunnel.
	MaxOctets = 1024
	// Port of devices where none is configured, wap-push; and ours.
	Port = 2948
)

// Device is what a gateway knows of one.
type Device struct {
	// Address inside the tunnel, of a family that the socket sends to.
	Address netip.Addr
	// Heard is when the last packet or message of it came that was
	// authenticated.
	Heard time.Time
}

// Conn sends datagrams; a *net.UDPConn.
type Conn interface {
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
}

// Listen opens the socket that alerts are sent from; [::] sends to both
// families. Whatever comes back to it
// is nothing to us, and the kernel drops it when the buffer is full.
func Listen(at netip.AddrPort) (*net.UDPConn, error) {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, fmt.Errorf("socket of the alerter: %w", err)
	}
	_ = conn.SetReadBuffer(0) // the kernel's least
	return conn, nil
}

// Config of an Alerter. Zero numbers mean the default.
type Config struct {
	Conn Conn
	// Lookup says where a device is, false if it has no session here. It is asked
	// before each try and must not block.
	Lookup func(device string) (Device, bool)
	// Report takes results, one for each alert that Send took, and must not
	// block. No lock is held meanwhile.
	Report func(Result)
	// Port of the devices: 2948.
	Port uint16
	// Tries at most: 5.
	Tries int
	// First wait after a try: 2 seconds. It doubles up to Most: 30 seconds.
	First, Most time.Duration
	// MaxAlerts under way: 65,536.
	MaxAlerts int
	// Rate of datagrams in a second, of all devices: 2,000.
	Rate int
}

func (c Config) withDefaults() Config {
	if c.Port == 0 {
		c.Port = Port
	}
	if c.Tries <= 0 {
		c.Tries = 5
	}
	if c.First <= 0 {
		c.First = 2 * time.Second
	}
	if c.Most < c.First {
		c.Most = max(30*time.Second, c.First)
	}
	if c.MaxAlerts <= 0 {
		c.MaxAlerts = 1 << 16
	}
	if c.Rate <= 0 {
		c.Rate = 2000
	}
	return c
}

// Outcome of an alert. Its text is what the manager gets.
type Outcome string

// Outcomes.
const (
	// Heard: the device sent something after the alert was sent.
	Heard Outcome = "heard"
	// Unanswered: all tries, and nothing was heard.
	Unanswered Outcome = "unanswered"
	// Disconnected: its session ended before it was heard.
	Disconnected Outcome = "disconnected"
	// Replaced by a later alert for the device.
	Replaced Outcome = "replaced"
	// Stopped: the gateway ends.
	Stopped Outcome = "stopped"
)

// Result of an alert.
type Result struct {
	Device string
	// Alert is the manager's name for it.
	Alert   string
	Outcome Outcome
	// Tries are the datagrams that left.
	Tries int
}

// Stats of an Alerter.
type Stats struct {
	// Pending alerts now.
	Pending int
	// Sent datagrams, and those that the socket refused.
	Sent, Errors uint64
}

// alert under way.
type alert struct {
	Result
	octets []byte
	// at is when it is looked at again; first is when it was sent first.
	at, first time.Time
	place     int // in the heap
	rounds    int // tries, those that the socket refused too
}

// Alerter sends alerts. Its methods are safe for concurrent use.
type Alerter struct {
	cfg  Config
	poke chan struct{}

	mu     sync.Mutex
	alerts map[string]*alert
	due    dueHeap
	stats  Stats
	closed bool
}

// New alerter, which sends nothing before Run.
func New(cfg Config) *Alerter {
	return &Alerter{cfg: cfg.withDefaults(), poke: make(chan struct{}, 1), alerts: map[string]*alert{}}
}

// Send octets to a device until it is heard from. name is the manager's for this
// alert. It replaces the one before, if that is still under way; the same one
// again changes nothing. Errors: ErrSize, ErrNotConnected, ErrFull; then there
// is no result.
func (a *Alerter) Send(device, name string, octets []byte) error {
	if len(octets) == 0 || len(octets) > MaxOctets {
		return fmt.Errorf("%w: %d octets, want 1 to %d", ErrSize, len(octets), MaxOctets)
	}
	if _, ok := a.cfg.Lookup(device); !ok {
		return fmt.Errorf("%w: %s", ErrNotConnected, device)
	}
	replaced, err := a.put(device, name, octets)
	if replaced != nil {
		a.cfg.Report(*replaced)
	}
	return err
}

func (a *Alerter) put(device, name string, octets []byte) (replaced *Result, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.alerts[device]
	switch {
	case a.closed:
		return nil, fmt.Errorf("%w: the gateway ends", ErrNotConnected)
	case old == nil && len(a.alerts) >= a.cfg.MaxAlerts:
		return nil, fmt.Errorf("%w: %d", ErrFull, len(a.alerts))
	case old != nil && old.Alert == name:
		return nil, nil
	case old != nil:
		a.remove(old, Replaced)
		replaced = &old.Result
	}
	n := &alert{Result: Result{Device: device, Alert: name}, octets: slices.Clone(octets), at: time.Now()}
	a.alerts[device] = n
	heap.Push(&a.due, n)
	select {
	case a.poke <- struct{}{}:
	default:
	}
	return replaced, nil
}

// remove an alert, under the lock. The caller reports.
func (a *Alerter) remove(n *alert, o Outcome) {
	n.Outcome = o
	heap.Remove(&a.due, n.place)
	delete(a.alerts, n.Device)
}

// Stats now.
func (a *Alerter) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	s.Pending = len(a.alerts)
	return s
}

// Run sends until ctx ends, and then reports what is left as Stopped. It is
// called once.
func (a *Alerter) Run(ctx context.Context) {
	defer a.stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := a.step(time.Now())
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-a.poke:
			// Those of a burst are sent by the rate, not each at once.
			if !sleep(ctx, timer, time.Second/time.Duration(a.cfg.Rate)) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func sleep(ctx context.Context, timer *time.Timer, d time.Duration) bool {
	timer.Reset(d)
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// step looks at the alert that is due, if one is, and returns how long there is
// nothing to do.
func (a *Alerter) step(now time.Time) time.Duration {
	a.mu.Lock()
	if len(a.due) == 0 {
		a.mu.Unlock()
		return time.Hour
	}
	n := a.due[0]
	if wait := n.at.Sub(now); wait > 0 {
		a.mu.Unlock()
		return wait
	}
	done := a.try(now, n)
	a.mu.Unlock()
	if done {
		a.cfg.Report(n.Result)
	}
	return time.Second / time.Duration(a.cfg.Rate)
}

// try sends n once more, or ends it. Under the lock; writing to the socket of a
// TUN device doesn't block.
func (a *Alerter) try(now time.Time, n *alert) (done bool) {
	d, ok := a.cfg.Lookup(n.Device)
	switch {
	case !ok:
		a.remove(n, Disconnected)
		return true
	case n.Tries > 0 && d.Heard.After(n.first):
		a.remove(n, Heard)
		return true
	case n.rounds >= a.cfg.Tries:
		a.remove(n, Unanswered)
		return true
	}
	n.rounds++
	if _, err := a.cfg.Conn.WriteToUDPAddrPort(n.octets, netip.AddrPortFrom(d.Address, a.cfg.Port)); err != nil {
		a.stats.Errors++
	} else {
		a.stats.Sent++
		if n.Tries++; n.Tries == 1 {
			n.first = now
		}
	}
	wait := a.cfg.First
	for range n.rounds - 1 {
		if wait *= 2; wait >= a.cfg.Most {
			wait = a.cfg.Most
			break
		}
	}
	n.at = now.Add(wait)
	heap.Fix(&a.due, n.place)
	return false
}

func (a *Alerter) stop() {
	a.mu.Lock()
	a.closed = true
	left := make([]Result, 0, len(a.alerts))
	for _, n := range a.alerts {
		n.Outcome = Stopped
		left = append(left, n.Result)
	}
	clear(a.alerts)
	a.due = nil
	a.mu.Unlock()
	for _, r := range left {
		a.cfg.Report(r)
	}
}

// dueHeap has the next one first.
type dueHeap []*alert

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h dueHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *dueHeap) Push(x any) {
	n := x.(*alert)
	n.place = len(*h)
	*h = append(*h, n)
}

func (h *dueHeap) Pop() any {
	last := len(*h) - 1
	n := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return n
}
