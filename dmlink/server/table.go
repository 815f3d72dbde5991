package server

import (
	"container/list"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/dmlink/session"
)

// entry is one session in the table.
type entry struct {
	device, id string
	// first message, to tell it sent again from another session of this ID.
	first [sha256.Size]byte
	// token is how a session without a certificate is known.
	token   string
	session *session.Session
	// turn is held by whoever uses the session.
	turn chan struct{}
	dead atomic.Bool
	// answered messages.
	answered atomic.Int32
	// once: the last answer has a once-only command.
	once atomic.Bool
	// from is where a session without a certificate comes from.
	from netip.Prefix

	// Under the table's lock.
	proven  bool
	began   time.Time
	expires time.Time
	in      *list.List // nil if it isn't in the table any more
	place   *list.Element
}

func (e *entry) take(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// release the turn. Whoever ended the entry meanwhile left it to us to close.
func (e *entry) release() {
	<-e.turn
	e.closeIfDead()
}

// closeIfDead closes the session of a dead entry unless somebody has its turn,
// who then comes here.
func (e *entry) closeIfDead() {
	if !e.dead.Load() {
		return
	}
	select {
	case e.turn <- struct{}{}:
		e.session.Close()
		<-e.turn
	default:
	}
}

// lingering is how long a session that is over can repeat its last answer.
const lingering = 10 * time.Second

// table of sessions, bounded in number and time. The lock is never held while a
// session works.
type table struct {
	cfg Config

	mu       sync.Mutex
	byDevice map[string]*entry // proven or certified ones
	byToken  map[string]*entry
	// active sessions and those that proved nothing yet, in order of last use, and
	// those that are over and linger, in order of their end; active and unproven
	// together are bounded by MaxSessions, over as well.
	active, unproven, over *list.List
	// crowds: how many of unproven come from where.
	crowds map[netip.Prefix]int
	timer  *time.Timer
	closed bool
}

var errFull = errors.New("too many sessions")

func newTable(cfg Config) *table {
	return &table{cfg: cfg, byDevice: map[string]*entry{}, byToken: map[string]*entry{}, active: list.New(), unproven: list.New(), over: list.New(), crowds: map[netip.Prefix]int{}}
}

func (t *table) len() (sessions, unproven int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active.Len() + t.unproven.Len(), t.unproven.Len()
}

// ofDevice is for those that the transport knows.
func (t *table) ofDevice(device, id string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byDevice[device]; e != nil && e.token == "" {
		return t.current(e, id)
	}
	return nil
}

// ofToken is for all others.
func (t *table) ofToken(token, id string) *entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byToken[token]; e != nil {
		return t.current(e, id)
	}
	return nil
}

// current is e if it has this SessionID and isn't too old.
func (t *table) current(e *entry, id string) *entry {
	if !time.Now().Before(e.expires) {
		t.remove(e)
		return nil
	}
	if e.id != id {
		return nil
	}
	return e
}

// begin puts a session into the table, which owns it from now on, even if that
// fails.
func (t *table) begin(device, id string, first [sha256.Size]byte, certified bool, from netip.Prefix, s *session.Session) (*entry, error) {
	now := time.Now()
	e := &entry{device: device, id: id, first: first, from: from, session: s, turn: make(chan struct{}, 1), began: now, proven: certified}
	e.expires = now.Add(t.patience(e))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	old := t.byDevice[device]
	if certified && old != nil {
		t.remove(old)
	}
	if !certified && t.unproven.Len() >= t.cfg.MaxUnproven {
		t.remove(t.intruder())
	}
	if t.closed || t.active.Len()+t.unproven.Len() >= t.cfg.MaxSessions {
		s.Close()
		return nil, errFull
	}
	if certified {
		t.byDevice[device] = e
		e.in = t.active
	} else {
		e.token = rand.Text()
		t.byToken[e.token] = e
		t.crowds[from]++
		e.in = t.unproven
	}
	e.place = e.in.PushBack(e)
	t.arm()
	return e, nil
}

// unprovenIdle is how long who has proven nothing waits for its next message. A
// device has its answer to a challenge at hand.
const unprovenIdle = 30 * time.Second

// patience with e between two messages.
func (t *table) patience(e *entry) time.Duration {
	if e.proven {
		return t.cfg.Idle
	}
	return min(t.cfg.Idle, unprovenIdle)
}

// intruder is who gives its place to a newcomer that has proven nothing either:
// the oldest of those from where most come. So a flood from few addresses takes
// its own places, and one from many has to be faster than a device is with its
// answer.
func (t *table) intruder() *entry {
	most := 0
	for _, n := range t.crowds {
		most = max(most, n)
	}
	for p := t.unproven.Front(); p != nil; p = p.Next() {
		if e := p.Value.(*entry); t.crowds[e.from] == most {
			return e
		}
	}
	return t.unproven.Front().Value.(*entry)
}

// provenToken is the device of a session that is known by a token and has
// authenticated, "" if there is none.
func (t *table) provenToken(token string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byToken[token]; e != nil && e.proven {
		return e.device
	}
	return ""
}

// leaveCrowd before e is proven, or gone.
func (t *table) leaveCrowd(e *entry) {
	if t.crowds[e.from]--; t.crowds[e.from] == 0 {
		delete(t.crowds, e.from)
	}
}

// proven: the device of e has authenticated, so the session it had before ends.
func (t *table) proven(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.proven || e.in == nil {
		return
	}
	e.proven = true
	t.leaveCrowd(e)
	e.in.Remove(e.place)
	e.in, e.place = t.active, t.active.PushBack(e)
	if old := t.byDevice[e.device]; old != nil {
		t.remove(old)
	}
	t.byDevice[e.device] = e
}

// used puts off the end of e, or brings it near if the session is over.
func (t *table) used(e *entry, over bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case e.in == nil:
	case over && !e.proven:
		t.remove(e) // its last answer isn't worth a place
	case over:
		e.in.Remove(e.place)
		e.in, e.place = t.over, t.over.PushBack(e)
		e.expires = now.Add(lingering)
		if t.over.Len() > t.cfg.MaxSessions {
			t.remove(t.over.Front().Value.(*entry))
		}
	default:
		e.expires = now.Add(t.patience(e))
		if end := e.began.Add(t.cfg.Lifetime); end.Before(e.expires) {
			e.expires = end
		}
		e.in.MoveToBack(e.place)
	}
}

func (t *table) end(e *entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(e)
}

// remove e under the lock.
func (t *table) remove(e *entry) {
	if e.in == nil {
		return
	}
	e.in.Remove(e.place)
	e.in = nil
	if t.byDevice[e.device] == e {
		delete(t.byDevice, e.device)
	}
	if e.token != "" {
		delete(t.byToken, e.token)
	}
	if !e.proven {
		t.leaveCrowd(e)
	}
	e.dead.Store(true)
	e.closeIfDead()
}

// sweep removes what has expired. An active session at the end of its lifetime
// may stand behind one that lives; it goes with that, or when it is looked up.
func (t *table) sweep(now time.Time) {
	for _, l := range []*list.List{t.active, t.unproven, t.over} {
		for p := l.Front(); p != nil && !now.Before(p.Value.(*entry).expires); p = l.Front() {
			t.remove(p.Value.(*entry))
		}
	}
}

// arm makes sure that the table is swept though nobody comes.
func (t *table) arm() {
	if t.timer != nil || t.active.Len()+t.unproven.Len()+t.over.Len() == 0 {
		return
	}
	t.timer = time.AfterFunc(min(t.cfg.Idle, lingering), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.timer = nil
		if t.closed {
			return
		}
		t.sweep(time.Now())
		t.arm()
	})
}

func (t *table) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	for _, l := range []*list.List{t.active, t.unproven, t.over} {
		for p := l.Front(); p != nil; p = l.Front() {
			t.remove(p.Value.(*entry))
		}
	}
}
