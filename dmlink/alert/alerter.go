package alert

import (
	"container/heap"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

var (
	// ErrNoSecret: the server has no password toward this device, so the device
	// would believe no notification.
	ErrNoSecret = errors.New("no secret to sign a notification with")
	// ErrNothing: no task waits for the device, so it needn't come.
	ErrNothing = errors.New("nothing waits")
	// ErrFull: so many devices wait that this one isn't remembered.
	ErrFull = errors.New("too many alerts wait")
)

// Secret that the server signs notifications with: ServerName, ServerPassword
// and ServerNonce of the device's account.
type Secret struct {
	Server          string
	Password, Nonce []byte
	// Version of DM that the device speaks.
	Version syncml.Version
}

// Devices is what the alerter needs of the store.
type Devices interface {
	// Look is asked before each try. It returns ErrNothing if no task waits for
	// the device, in the queue or sent without an outcome, and ErrNoSecret if
	// there is nothing to sign with. The caller erases the password.
	Look(ctx context.Context, device string) (Secret, error)
}

// Config of an Alerter. Zero numbers mean the default.
type Config struct {
	Devices Devices
	// Channels in the order in which they are tried.
	Channels []Channel
	// UI that the notifications recommend; Background is usual.
	UI UIMode
	// Tries until a device counts as silent: 6.
	Tries int
	// First wait after a try: 30 seconds. It doubles up to Most: 15 minutes.
	First, Most time.Duration
	// Workers deliver at a time: 16.
	Workers int
	// MaxDevices that are remembered: 1,048,576.
	MaxDevices int
	// Log; nil for none.
	Log *slog.Logger
}

func (c Config) withDefaults() Config {
	if c.Tries <= 0 {
		c.Tries = 6
	}
	if c.First <= 0 {
		c.First = 30 * time.Second
	}
	if c.Most < c.First {
		c.Most = max(15*time.Minute, c.First)
	}
	if c.Workers <= 0 {
		c.Workers = 16
	}
	if c.MaxDevices <= 0 {
		c.MaxDevices = 1 << 20
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// settle is how long a device is left alone that was in a session, or was told,
// just now.
const settle = time.Second

// state of a wake.
type state uint8

const (
	waiting state = iota // in the heap, until at
	busy                 // being delivered
	away                 // no channel leads there: until Connected
	silent               // tries used up: until Connected or Wake
)

// wake of one device, from Wake until it came and nothing waits for it.
type wake struct {
	device string
	// session is the same for all tries until the device comes, so that two that
	// arrive are one.
	session uint16
	state   state
	at      time.Time
	place   int // in the heap
	// tries that were sent, and failures since the last one.
	tries, failures int
	sent            time.Time // the last one
	// What was said while busy; gone from the table.
	woken, connected, contacted, gone bool
}

// Stats of an Alerter.
type Stats struct {
	// Waiting for the next try or in it, Away and Silent are devices now.
	Waiting, Away, Silent int
	// Sent and Failed count deliveries, Done devices for which nothing waits any
	// more, NoSecret those that can't be alerted, and Refused what the table had
	// no room for.
	Sent, Failed, Done, NoSecret, Refused uint64
}

// Alerter wakes devices. Its methods are safe for concurrent use.
type Alerter struct {
	cfg  Config
	poke chan struct{}

	// mu is never held while something is delivered.
	mu    sync.Mutex
	wakes map[string]*wake
	due   wakeHeap
	stats Stats
}

// New alerter, which does nothing before Run.
func New(cfg Config) *Alerter {
	return &Alerter{cfg: cfg.withDefaults(), poke: make(chan struct{}, 1), wakes: map[string]*wake{}}
}

// Wake a device for which a task waits: say it when that is committed. However
// often it is said, there is one session until the device comes; but its tries
// begin anew, the first one a little behind the last that was sent. Errors: ErrFull.
func (a *Alerter) Wake(device string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.wakes[device]
	switch {
	case w == nil && len(a.wakes) >= a.cfg.MaxDevices:
		a.stats.Refused++
		return fmt.Errorf("%w: %d", ErrFull, len(a.wakes))
	case w == nil:
		w = &wake{device: device, session: newSession()}
		a.wakes[device] = w
	case w.state == busy:
		w.woken = true
		return nil
	case w.state == away:
		return nil
	case w.state == waiting:
		// Whoever asks now doesn't wait for the next try of an older task, which may
		// be minutes away; but tries keep their distance.
		if at := w.sent.Add(a.settle()); w.tries > 0 && at.Before(w.at) {
			w.tries = 0
			a.schedule(w, max(0, time.Until(at)))
		}
		return nil
	}
	a.now(w)
	return nil
}

// Connected says that a device is at a gateway since now: one that waits for
// this is alerted.
func (a *Alerter) Connected(device string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.wakes[device]
	switch {
	case w == nil:
	case w.state == busy:
		w.connected = true
	case w.state == waiting && w.tries > 0: // it was told a moment ago
	default:
		a.now(w)
	}
}

// Contacted says that the device is in a session with the server: it may be said
// with each message. The wake isn't over with that, because a task may come in
// the moment in which the session ends without it; but it waits a little, and
// goes on only if Look has something then.
func (a *Alerter) Contacted(device string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch w := a.wakes[device]; {
	case w == nil:
	case w.state == busy:
		w.contacted = true
	default:
		a.lookAgain(w)
	}
}

// Forget a device, which was removed.
func (a *Alerter) Forget(device string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w := a.wakes[device]; w != nil {
		a.remove(w)
	}
}

// remove w. Under the lock.
func (a *Alerter) remove(w *wake) {
	delete(a.wakes, w.device)
	w.gone = true
	if w.state == waiting {
		heap.Remove(&a.due, w.place)
	}
}

// Stats now.
func (a *Alerter) Stats() Stats {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.stats
	for _, w := range a.wakes {
		switch w.state {
		case away:
			s.Away++
		case silent:
			s.Silent++
		default:
			s.Waiting++
		}
	}
	return s
}

// now makes w due at once, with all its tries. Under the lock.
func (a *Alerter) now(w *wake) {
	w.tries, w.failures = 0, 0
	a.schedule(w, 0)
}

// lookAgain a while after the device was in a session. Under the lock.
func (a *Alerter) lookAgain(w *wake) {
	w.session, w.tries, w.failures = newSession(), 0, 0
	a.schedule(w, a.settle())
}

func (a *Alerter) settle() time.Duration { return min(settle, a.cfg.First) }

// schedule w. Under the lock.
func (a *Alerter) schedule(w *wake, wait time.Duration) {
	w.at = time.Now().Add(wait)
	if w.state == waiting && w.place < len(a.due) && a.due[w.place] == w {
		heap.Fix(&a.due, w.place)
	} else {
		w.state = waiting
		heap.Push(&a.due, w)
	}
	select {
	case a.poke <- struct{}{}:
	default:
	}
}

// wait after so many tries.
func (a *Alerter) wait(tries int) time.Duration {
	d := a.cfg.First
	for n := 1; n < tries && d < a.cfg.Most; n++ {
		d *= 2
	}
	return min(d, a.cfg.Most)
}

// Run delivers until ctx ends, and returns when the last delivery has. It is
// called once.
func (a *Alerter) Run(ctx context.Context) {
	var workers sync.WaitGroup
	defer workers.Wait()
	slots := make(chan struct{}, a.cfg.Workers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		for {
			w, wait := a.next()
			if w != nil {
				workers.Go(func() {
					a.deliver(ctx, w)
					<-slots
				})
				break
			}
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-a.poke:
			case <-ctx.Done():
				return
			}
		}
	}
}

// next wake that is due, which is busy from now on, or how long there is none.
func (a *Alerter) next() (*wake, time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.due) > 0 {
		w := a.due[0]
		if wait := time.Until(w.at); wait > 0 {
			return nil, wait
		}
		heap.Pop(&a.due)
		if w.tries < a.cfg.Tries {
			w.state = busy
			w.woken, w.connected, w.contacted = false, false, false
			return w, 0
		}
		w.state = silent
	}
	return nil, time.Hour
}

// deliver one try of w. While it is busy nobody else changes its session and
// tries.
func (a *Alerter) deliver(ctx context.Context, w *wake) {
	result, err := a.try(ctx, w)
	nothing := errors.Is(err, ErrNothing)
	noSecret := errors.Is(err, ErrNoSecret)
	if err != nil && !nothing {
		level := slog.LevelDebug // a gateway that is away fails for all its devices
		if noSecret {
			level = slog.LevelWarn
		}
		a.cfg.Log.LogAttrs(ctx, level, "alert not sent", slog.String("device", w.device), slog.Any("error", err))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case result == Sent:
		a.stats.Sent++
	case result == Failed && !nothing && !noSecret:
		a.stats.Failed++
	}
	switch {
	case w.gone:
	case nothing && w.woken:
		a.now(w) // the task may have come after the look
	case nothing:
		a.stats.Done++
		a.remove(w)
	case noSecret:
		a.stats.NoSecret++
		a.remove(w)
	case w.contacted:
		a.lookAgain(w)
	case result == Sent:
		w.tries, w.failures, w.sent = w.tries+1, 0, time.Now()
		a.schedule(w, a.wait(w.tries))
	case w.connected:
		a.now(w)
	case result == Unreachable:
		w.state = away
	default:
		// A channel that is away takes no try from the device.
		w.failures++
		a.schedule(w, a.wait(w.failures))
	}
}

// try the channels one after the other.
func (a *Alerter) try(ctx context.Context, w *wake) (Result, error) {
	secret, err := a.cfg.Devices.Look(ctx, w.device)
	if err != nil {
		return Failed, fmt.Errorf("what waits for %s: %w", w.device, err)
	}
	defer clear(secret.Password)
	nonce := secret.Nonce
	if w.tries > 0 && w.tries == a.cfg.Tries-1 {
		nonce = RetryNonce
	}
	n := Notification{
		Version: secret.Version, UI: a.cfg.UI, Initiator: ByServer, SessionID: w.session, Server: secret.Server,
	}
	octets, err := n.Append(nil, secret.Password, nonce)
	if err != nil {
		return Failed, err
	}
	result := Unreachable
	for _, c := range a.cfg.Channels {
		switch r := c.Deliver(ctx, w.device, octets); r {
		case Sent:
			a.cfg.Log.Debug("alert sent", slog.String("device", w.device), slog.String("channel", c.Name()),
				slog.Int("session", int(w.session)), slog.Int("try", w.tries+1))
			return Sent, nil
		case Failed:
			result, err = Failed, fmt.Errorf("channel %s failed", c.Name())
		case Unreachable:
		}
	}
	return result, err
}

// newSession draws a SessionID, never zero.
func newSession() uint16 {
	var b [2]byte
	for {
		_, _ = rand.Read(b[:]) // never fails
		if id := binary.BigEndian.Uint16(b[:]); id != 0 {
			return id
		}
	}
}

// wakeHeap has the next one first.
type wakeHeap []*wake

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

func (h *wakeHeap) Push(x any) {
	w := x.(*wake)
	w.place = len(*h)
	*h = append(*h, w)
}

func (h *wakeHeap) Pop() any {
	last := len(*h) - 1
	w := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return w
}
