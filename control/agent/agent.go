package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

// Change is content that is to be put into force.
type Change struct {
	// Set is the whole content. It is to be read only, and only during the
	// call.
	Set *gcm.Set
	// Delta is what changed. Nil: anything may have.
	Delta *gcm.Delta
}

// Config of an Agent. Check and Apply are called for one section by one
// goroutine at a time, for several sections at once.
type Config struct {
	// Gateway is this gateway's name, Software its version and Build its commit.
	Gateway, Software, Build string
	// File of the last good documents; made if it isn't there.
	File string
	// Check says everything that is wrong with content before it is stored. It
	// isn't asked about the devices, where each record stands for itself and a
	// look at all of them would cost a revocation its speed.
	Check func(*gcm.Set) []error
	// Apply puts content into force, or says everything that kept it from that.
	// It is called for each section that is stored when the agent starts, too,
	// and should not wait for anything that a device could hold up.
	Apply func(Change) []error
	// Host is asked for everything else.
	Host Host
	// Identity towards managers.
	Identity Identity
	// Events that are kept for a manager who is away; zero for 65,536.
	Events int
	// Log may be nil.
	Log *slog.Logger
}

// Agent has what a manager told this gateway. Its methods are safe for
// concurrent use.
type Agent struct {
	config   Config
	store    *store
	sections map[gcm.Section]*section
	// Events for the manager.
	Events      *Events
	started     time.Time
	certificate atomic.Pointer[tls.Certificate]
	// deltas, snapshots and streams that are being read and written.
	deltas, snapshots, streams chan struct{}
	// heard is when a manager spoke last, and keptHeard the same as it is on disk.
	// Unix time in nanoseconds.
	heard, keptHeard atomic.Int64
}

// keepHeard is how often it is written down that a manager was heard from.
const keepHeard = time.Minute

// section is under mu. Its state can be read while something is being put into
// force, and its set by whoever holds view, too: that is held for writing only
// while it changes.
type section struct {
	mu    sync.Mutex
	view  sync.RWMutex
	set   *gcm.Set
	state atomic.Pointer[gcm.SectionState]
}

// New opens the file and puts into force what is in it. Errors: ErrLocked,
// ErrForeign, ErrVersion, ErrCorrupt, and those of the file system. A section
// that can't be put into force is no error but part of State.
func New(c Config) (*Agent, error) {
	if c.Gateway == "" || c.File == "" || c.Check == nil || c.Apply == nil || c.Host == nil {
		return nil, errors.New("an agent needs a gateway's name, a file, Check, Apply and a host")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if err := c.Identity.validate(); err != nil {
		return nil, err
	}
	st, run, err := openStore(c.File)
	if err != nil {
		return nil, err
	}
	a := &Agent{
		config: c, store: st, sections: map[gcm.Section]*section{}, Events: newEvents(c.Events, run), started: time.Now(),
		deltas: make(chan struct{}, maxDeltas), snapshots: make(chan struct{}, maxSnapshots), streams: make(chan struct{}, maxStreams),
	}
	if err := a.loadHeard(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	if err := a.loadIdentity(); err != nil {
		return nil, errors.Join(err, st.close())
	}
	for _, name := range gcm.Sections {
		set, err := st.load(name)
		if err != nil {
			return nil, errors.Join(err, st.close())
		}
		s := &section{set: set}
		a.sections[name] = s
		if set.Version() == (gcm.Version{}) {
			s.state.Store(stateOf(set, nil))
			continue
		}
		a.apply(s, nil)
	}
	return a, nil
}

// loadHeard of a former run.
func (a *Agent) loadHeard() error {
	heard, err := a.store.heard()
	if heard > time.Now().UnixNano() {
		heard = time.Now().UnixNano() // the clock went back
	}
	a.heard.Store(heard)
	a.keptHeard.Store(heard)
	return err
}

// Close the file. What is being stored is stored before.
func (a *Agent) Close() error {
	var err error
	if heard := a.heard.Load(); heard != a.keptHeard.Load() {
		err = a.store.setHeard(heard)
	}
	return errors.Join(err, a.store.close())
}

// State of the gateway.
func (a *Agent) State() gcm.State {
	s := gcm.State{
		Gateway: a.config.Gateway, Software: a.config.Software, Build: a.config.Build, Started: a.started, Health: gcm.Ready,
		Sections: a.Sections(), Cursor: a.Events.newest(),
	}
	s.CertificateEnds = a.CertificateEnds()
	a.config.Host.Tell(&s)
	return s
}

// CertificateEnds is the end of the certificate that a manager pushed; zero
// before one did.
func (a *Agent) CertificateEnds() time.Time {
	if c := a.certificate.Load(); c.Leaf != nil {
		return c.Leaf.NotAfter
	}
	return time.Time{}
}

// Sections and what there is of each.
func (a *Agent) Sections() map[gcm.Section]gcm.SectionState {
	all := map[gcm.Section]gcm.SectionState{}
	for name, section := range a.sections {
		all[name] = *section.state.Load()
	}
	return all
}

// hear a manager. That is written down now and then, so that a start doesn't
// count as a word of it.
func (a *Agent) hear(now time.Time) {
	a.heard.Store(now.UnixNano())
	if kept := a.keptHeard.Load(); now.Sub(time.Unix(0, kept)) >= keepHeard && a.keptHeard.CompareAndSwap(kept, now.UnixNano()) {
		if err := a.store.setHeard(now.UnixNano()); err != nil {
			a.config.Log.Error("when a manager was heard from can't be kept", slog.Any("error", err))
		}
	}
}

// Heard is when a manager spoke last, to a former run too, up to a minute
// earlier then; zero if none ever did.
func (a *Agent) Heard() time.Time {
	n := a.heard.Load()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Refused is why content was not taken; nothing has changed. Err is one of
// package gcm.
type Refused struct {
	Err     error
	Reasons []error
}

// Error text with the first reason.
func (r *Refused) Error() string {
	if len(r.Reasons) == 0 {
		return r.Err.Error()
	}
	return fmt.Sprintf("%v: %v (reasons: %d)", r.Err, r.Reasons[0], len(r.Reasons))
}

// Unwrap is Err.
func (r *Refused) Unwrap() error { return r.Err }

// Replace a section by a set, which is the agent's from now on. It is on disk
// when Replace returns without an error. Errors: ErrStale, ErrEpoch,
// ErrStorage, and ErrRefused as a *Refused.
func (a *Agent) Replace(set *gcm.Set) (gcm.SectionState, error) {
	s := a.sections[set.Section()]
	s.mu.Lock()
	defer s.mu.Unlock()
	if set.Version().Compare(s.set.Version()) <= 0 {
		return *s.state.Load(), fmt.Errorf("%w: %v, here is %v", gcm.ErrStale, set.Version(), s.set.Version())
	}
	if err := a.near(set.Version()); err != nil {
		return *s.state.Load(), err
	}
	if err := a.check(set); err != nil {
		return *s.state.Load(), err
	}
	if err := a.store.replace(set); err != nil {
		return *s.state.Load(), fmt.Errorf("%w: %w", gcm.ErrStorage, err)
	}
	s.view.Lock()
	s.set = set
	s.view.Unlock()
	return a.apply(s, nil), nil
}

// Patch a section by a delta. Errors: as Replace, and those of gcm.Set.Check.
func (a *Agent) Patch(d gcm.Delta) (gcm.SectionState, error) {
	s, ok := a.sections[d.Section]
	if !ok {
		return gcm.SectionState{}, fmt.Errorf("%w: no section %q", gcm.ErrMalformed, d.Section)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := errors.Join(s.set.Check(d), a.near(d.Version)); err != nil {
		return *s.state.Load(), err
	}
	next := s.set
	if d.Section != gcm.Devices {
		next = s.set.Clone()
		if err := next.Apply(d); err != nil {
			return *s.state.Load(), err
		}
		if err := a.check(next); err != nil {
			return *s.state.Load(), err
		}
	}
	if err := a.store.patch(d); err != nil {
		return *s.state.Load(), fmt.Errorf("%w: %w", gcm.ErrStorage, err)
	}
	s.view.Lock()
	if d.Section == gcm.Devices {
		if err := next.Apply(d); err != nil {
			// Check took it a moment ago, under the same lock.
			panic(err)
		}
	}
	s.set = next
	s.view.Unlock()
	return a.apply(s, &d), nil
}

func (a *Agent) check(set *gcm.Set) error {
	if set.Section() == gcm.Devices {
		return nil
	}
	if reasons := a.config.Check(set); len(reasons) > 0 {
		return &Refused{gcm.ErrRefused, reasons}
	}
	return nil
}

// apply what a section has. If what it had before could not be put into force a
// delta isn't enough.
func (a *Agent) apply(s *section, d *gcm.Delta) gcm.SectionState {
	if before := s.state.Load(); before != nil && !before.Applied {
		d = nil
	}
	reasons := a.config.Apply(Change{Set: s.set, Delta: d})
	for _, reason := range reasons {
		a.config.Log.Error("pushed configuration can't be put into force",
			slog.String("section", string(s.set.Section())), slog.String("version", s.set.Version().String()), slog.Any("error", reason))
	}
	state := stateOf(s.set, reasons)
	s.state.Store(state)
	return *state
}

func stateOf(set *gcm.Set, reasons []error) *gcm.SectionState {
	state := &gcm.SectionState{Version: set.Version(), Hash: set.Hash(), Records: set.Len(), Applied: len(reasons) == 0}
	if len(reasons) > 0 {
		state.Reasons = gcm.Refuse(gcm.ErrRefused, reasons, gcm.SectionState{}).Reasons
	}
	return state
}
