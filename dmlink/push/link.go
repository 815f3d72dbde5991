package push

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

const (
	// Pauses before a gateway is dialled again: doubled up to the longest, and
	// of each something between half and all.
	firstPause   = time.Second
	longestPause = 5 * time.Minute
	// steady is how long a connection has to last for the pause to be short
	// again.
	steady = 30 * time.Second
	// pollTime is how often a gateway is asked for its state, half and up to one and
	// a half times that. By it a gateway knows that its manager is there, and may be
	// told to refuse newcomers after a minute without.
	pollTime = 30 * time.Second
	// countTime after it told that sessions came or went it is asked, too: so long
	// the count of them is old at most, and so many requests there are.
	countTime = time.Second
	// retryTime is how long a version that a gateway refused isn't sent again;
	// busyTime, if it had no time for it.
	retryTime = 5 * time.Minute
	busyTime  = 2 * time.Second
	// eventBatch is how many events are given to the journal at once.
	eventBatch = 256
)

// link is a gateway's connection, over and over.
type link struct {
	m       *Manager
	gateway Gateway
	cancel  context.CancelFunc
	done    chan struct{}
	// poked: what is there is to be looked at now.
	poked chan struct{}
	// moved: sessions came or went.
	moved chan struct{}
	log   *slog.Logger
	// refusals that are kept of devices that aren't known; of who reads events.
	refusals refusals

	mu     sync.Mutex
	status Status
	// client is nil while the gateway isn't connected.
	client *client
}

// run connects until ctx ends.
func (l *link) run(ctx context.Context) {
	defer close(l.done)
	pause := firstPause
	for {
		lasted, err := l.session(ctx)
		if ctx.Err() != nil {
			return
		}
		l.update(func(s *Status) { s.Connected, s.Err = false, err.Error() })
		l.log.Warn("gateway isn't connected", slog.Any("error", err))
		if lasted >= steady {
			pause = firstPause
		}
		if _, ok := l.sleep(ctx, pause/2+rand.N(pause/2)); !ok {
			return
		}
		pause = min(2*pause, longestPause)
	}
}

// sleep until the time is over or somebody pokes; not ok if ctx has ended.
func (l *link) sleep(ctx context.Context, d time.Duration) (poked, ok bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false, true
	case <-l.poked:
		return true, true
	case <-ctx.Done():
		return false, false
	}
}

// session is one connection, from dialling to whatever ends it, and how long the
// gateway was connected.
func (l *link) session(ctx context.Context) (time.Duration, error) {
	c := newClient(l.gateway, l.m.tls(l.gateway), l.m.config.Dial)
	defer c.close()
	state, err := l.connect(ctx, c)
	if err != nil {
		return 0, err
	}
	connected := time.Now()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	l.update(func(s *Status) {
		s.Connected, s.Err, s.Since, s.State = true, "", connected, state
		s.Sections = map[gcm.Section]SectionStatus{}
		l.client = c
	})
	defer l.update(func(*Status) { l.client = nil })
	l.log.Info("gateway is connected", slog.String("software", state.Software))
	l.m.config.Connected(l.gateway.Name, state)
	var all sync.WaitGroup
	start := func(f func() error) {
		all.Go(func() { end(f()) })
	}
	states := map[gcm.Section]chan polled{}
	for _, section := range gcm.Sections {
		has, knows := state.Sections[section]
		if !knows {
			continue // its software is older; with a newer one it connects again
		}
		ch := make(chan polled, 1)
		states[section] = ch
		start(func() error { return l.keep(ctx, c, section, has, ch) })
	}
	start(func() error { return l.poll(ctx, c, states) })
	start(func() error { return l.listen(ctx, c, state.Cursor) })
	<-ctx.Done()
	all.Wait()
	return time.Since(connected), context.Cause(ctx)
}

// connect and ask for the state, a few gateways at a time.
func (l *link) connect(ctx context.Context, c *client) (gcm.State, error) {
	select {
	case l.m.dials <- struct{}{}:
		defer func() { <-l.m.dials }()
	case <-ctx.Done():
		return gcm.State{}, ctx.Err()
	}
	return c.state(ctx)
}

// poll finds out what changed there without us, and that it is there, and how many
// sessions there are now.
func (l *link) poll(ctx context.Context, c *client, states map[gcm.Section]chan polled) error {
	due := time.After(pollTime/2 + rand.N(pollTime))
	for {
		poked, counts := false, false
		select {
		case <-due:
		case <-l.poked:
			poked = true
		case <-l.moved:
			var ok bool
			if poked, ok = l.sleep(ctx, countTime); !ok {
				return ctx.Err()
			}
			counts = !poked
		case <-ctx.Done():
			return ctx.Err()
		}
		state, err := c.state(ctx)
		if err != nil {
			return err
		}
		l.update(func(s *Status) { s.State = state })
		if counts {
			continue // sections have a pace of their own, see belief
		}
		due = time.After(pollTime/2 + rand.N(pollTime))
		for section, ch := range states {
			again := poked
			select {
			case unread := <-ch:
				again = again || unread.again
			default:
			}
			ch <- polled{state.Sections[section], again}
		}
	}
}

// polled is what a gateway said that it has of a section, and whether that is to
// be looked at even if it is known.
type polled struct {
	gcm.SectionState
	again bool
}

// belief is what a gateway has of a section as far as we know.
type belief struct {
	has gcm.SectionState
	// doubted is an older version than that, which it said last; or nil.
	doubted *gcm.SectionState
}

// hear what a gateway says, and whether that is to be looked at. An older version
// may have been said before it took the last one. Said twice, or to somebody who
// poked, it is believed: the gateway's administrator may have had it forget its
// versions. Where it didn't, that costs one document that is refused as stale.
func (b *belief) hear(said polled) (look bool) {
	is := func(s *gcm.SectionState) bool { return s != nil && said.Version == s.Version && said.Hash == s.Hash }
	switch {
	case said.again || is(b.doubted):
	case is(&b.has):
		b.doubted = nil
		return false
	case said.Version.Compare(b.has.Version) < 0:
		b.doubted = &said.SectionState
		return false
	}
	b.has, b.doubted = said.SectionState, nil
	return true
}

// keep a section as it was committed last.
func (l *link) keep(ctx context.Context, c *client, section gcm.Section, has gcm.SectionState, states <-chan polled) error {
	known := belief{has: has}
	for {
		version, _, changed := l.m.config.Documents.Version(section)
		has, err := l.bring(ctx, c, section, known.has)
		known.has = has
		if refused := new(refusal); err != nil && !errors.As(err, &refused) && !errors.Is(err, ErrAhead) && !errors.Is(err, ErrDiverged) && !errors.Is(err, gcm.ErrTooLarge) {
			return err
		}
		l.tell(section, SectionStatus{Version: has.Version, Applied: has.Applied, Reasons: has.Reasons, Err: err})
		if err != nil {
			l.log.Warn("section isn't as it was committed", slog.String("section", string(section)),
				slog.String("version", version.String()), slog.Any("error", err))
		}
		var retry <-chan time.Time
		var t *time.Timer
		if err != nil {
			pause := retryTime
			if errors.Is(err, gcm.ErrBusy) {
				pause = busyTime
			}
			t = time.NewTimer(pause/2 + rand.N(pause/2))
			retry = t.C
		}
		for wait := true; wait; {
			wait = false
			select {
			case <-ctx.Done():
			case <-changed:
			case <-retry:
			case said := <-states:
				wait = !known.hear(said)
			}
		}
		if t != nil {
			t.Stop()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// bring a section of the gateway to what was committed last, and say what it has
// then.
func (l *link) bring(ctx context.Context, c *client, section gcm.Section, has gcm.SectionState) (gcm.SectionState, error) {
	whole := false
	for {
		version, hash, _ := l.m.config.Documents.Version(section)
		switch n := version.Compare(has.Version); {
		case n < 0:
			return has, fmt.Errorf("%w of %s: %v, here is %v", ErrAhead, section, has.Version, version)
		case n == 0 && hash != has.Hash && version != (gcm.Version{}):
			return has, fmt.Errorf("%w: %s %v", ErrDiverged, section, version)
		case n == 0:
			return has, nil
		}
		deltas, ok := l.m.config.Documents.since(section, has.Version, has.Hash)
		if whole || !ok {
			now, err := l.whole(ctx, c, section)
			if newer(has, now, err) {
				has = now
				continue
			}
			if err != nil {
				return had(has, now, err), err
			}
			has, whole = now, false
			continue
		}
		for len(deltas) > 0 {
			var e encoded
			var err error
			if e, deltas, err = batch(deltas); err != nil {
				return has, err
			}
			now, err := c.put(ctx, http.MethodPatch, section, gcm.DeltaType, e)
			if newer(has, now, err) {
				has = now
				break
			}
			refused := errors.As(err, new(*refusal)) && len(deltas) > 0
			if errors.Is(err, gcm.ErrBase) || errors.Is(err, gcm.ErrHash) || refused && !errors.Is(err, gcm.ErrBusy) {
				// It isn't what we thought, or it was refused and mended since.
				has, whole = now, true
				break
			}
			if err != nil {
				return had(has, now, err), err
			}
			has = now
			l.took(e)
		}
	}
}

// took a document: so long it was on its way.
func (l *link) took(e encoded) {
	l.update(func(s *Status) {
		from := e.at
		if s.Since.After(from) {
			from = s.Since
		}
		s.Latency = time.Since(from)
	})
}

// whole sends a snapshot, a few gateways at a time.
func (l *link) whole(ctx context.Context, c *client, section gcm.Section) (gcm.SectionState, error) {
	select {
	case l.m.snapshots <- struct{}{}:
		defer func() { <-l.m.snapshots }()
	case <-ctx.Done():
		return gcm.SectionState{}, ctx.Err()
	}
	e, err := l.m.config.Documents.snapshot(section)
	if err != nil {
		return gcm.SectionState{}, err
	}
	state, err := c.put(ctx, http.MethodPut, section, gcm.SnapshotType, e)
	if err == nil {
		l.took(e)
	}
	return state, err
}

// newer says whether a gateway refused something because it has more than we
// thought: we look at that again.
func newer(before, said gcm.SectionState, err error) bool {
	return errors.Is(err, gcm.ErrStale) && said.Version.Compare(before.Version) > 0
}

// had is what a gateway has after an error: what it said with its refusal, or
// else what it had before.
func had(before, said gcm.SectionState, err error) gcm.SectionState {
	if refused := new(refusal); errors.As(err, &refused) {
		return said
	}
	return before
}

func (l *link) update(f func(*Status)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.status)
}

func (l *link) tell(section gcm.Section, s SectionStatus) {
	l.update(func(status *Status) {
		if s.Err != nil || !s.Applied && s.Version != (gcm.Version{}) {
			if s.Wrong = status.Sections[section].Wrong; s.Wrong.IsZero() {
				s.Wrong = time.Now()
			}
		}
		status.Sections[section] = s
	})
}
