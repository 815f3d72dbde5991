package policy

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/roamgate/roamgate/dmlink/syncml"
)

// Config of an engine; zero fields mean the defaults.
type Config struct {
	// Retry is after what time a change that a device refused is tried again. 24
	// hours.
	Retry time.Duration
	// Now is the clock. time.Now.
	Now func() time.Time
	// Placed is told of devices for which commands wait that didn't before, so that
	// somebody wakes them; nil for nobody.
	Placed func(devices []string)
	// Settled is told of devices, by name, that have confirmed all that policies
	// want of them (true), or have refused some of it (false), where that is new. A
	// change that waits for a device doesn't alter what was told of it, and one that
	// has to be surveyed first, because filters read inventories, hasn't confirmed
	// anything. It is told
	// before that is put, so that a crash loses nothing; so it may be told again,
	// and what it says last holds. After an error all of it is tried again. nil for
	// nobody.
	Settled func(ctx context.Context, devices map[string]bool) error
}

// Engine computes what devices shall have, when something changes, and puts it
// into a store. It is safe for concurrent use; several servers run one each on
// one store.
type Engine struct {
	store Store
	retry time.Duration
	now   func() time.Time
	told  func([]string)
	// settled: see Config.
	settled func(context.Context, map[string]bool) error

	mu     sync.Mutex
	newest Version
	model  *Model
}

// NewEngine on a store.
func NewEngine(s Store, c Config) *Engine {
	if c.Retry == 0 {
		c.Retry = 24 * time.Hour
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Placed == nil {
		c.Placed = func([]string) {}
	}
	if c.Settled == nil {
		c.Settled = func(context.Context, map[string]bool) error { return nil }
	}
	return &Engine{store: s, retry: c.Retry, now: c.Now, told: c.Placed, settled: c.Settled}
}

// current is the newest version, compiled once.
func (e *Engine) current(ctx context.Context) (Version, *Model, error) {
	v, err := e.store.Document(ctx, 0)
	if err != nil {
		return v, nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.model == nil || e.newest.Number != v.Number {
		m, err := Compile(v.Document)
		if err != nil {
			return v, nil, fmt.Errorf("version %d: %w", v.Number, err)
		}
		e.newest, e.model = v, m
	}
	return e.newest, e.model, nil
}

// Document is the newest version; nothing was saved if its number is 0.
func (e *Engine) Document(ctx context.Context) (Version, error) {
	v, _, err := e.current(ctx)
	return v, err
}

// Version that was the newest once, to look at or to Apply again. ErrNoVersion.
func (e *Engine) Version(ctx context.Context, number int64) (Version, error) {
	return e.store.Document(ctx, number)
}

// Apply makes a document the newest version, after version base. Devices that
// it may touch are marked; Refresh computes their commands. ErrDocument,
// ErrChanged.
func (e *Engine) Apply(ctx context.Context, d Document, base int64, by, comment string) (Version, error) {
	m, err := Compile(d)
	if err != nil {
		return Version{}, err
	}
	old, before, err := e.current(ctx)
	if err != nil {
		return Version{}, err
	}
	if old.Number != base {
		return Version{}, fmt.Errorf("version %d, which followed %d: %w", old.Number, base, ErrChanged)
	}
	v := Version{Number: base + 1, At: e.now(), By: by, Comment: comment, Document: m.Document()}
	return v, e.store.Save(ctx, v, m.Touched(before))
}

// Plan says what a document would change, and for whom. It changes nothing.
func (e *Engine) Plan(ctx context.Context, d Document) (Plan, error) {
	m, err := Compile(d)
	if err != nil {
		return Plan{}, err
	}
	_, before, err := e.current(ctx)
	if err != nil {
		return Plan{}, err
	}
	var p Plan
	scopes := m.Touched(before)
	if len(scopes) == 0 {
		return p, nil
	}
	err = e.store.Devices(ctx, scopes, before.Reading().With(m.Reading()), func(devices []Facts) error {
		for _, f := range devices {
			p.add(f.ID, Differences(before.Resolve(f), m.Resolve(f)))
		}
		return nil
	})
	return p, err
}

// Refresh computes the commands of up to n marked devices, and says how many of
// them it put. A device that changes meanwhile stays marked.
func (e *Engine) Refresh(ctx context.Context, n int) (int, error) {
	marked, err := e.store.Marked(ctx, e.now(), n)
	if err != nil || len(marked) == 0 {
		return 0, err
	}
	// Read after the marks: a newer document marks again.
	version, m, err := e.current(ctx)
	if err != nil {
		return 0, err
	}
	all := make([]Computed, len(marked))
	for i, d := range marked {
		all[i] = Computed{d, d.State.Record(d.Outcomes, d.At).Next(m.Resolve(d.Facts), version.Number, d.Claimed, e.now(), e.retry)}
	}
	settled, filtered := map[string]bool{}, !m.Reading().Empty()
	for i := range all {
		c := &all[i]
		if c.Next.settle(!filtered || c.Facts.Surveyed); c.Next.Settled != c.State.Settled {
			settled[c.Facts.ID] = c.Next.Settled == Compliant
		}
	}
	if len(settled) > 0 {
		if err := e.settled(ctx, settled); err != nil {
			return 0, err
		}
	}
	put, err := e.store.Put(ctx, all)
	if err != nil {
		return 0, err
	}
	done := 0
	var placed []string
	for i, c := range all {
		if !put[i] {
			continue
		}
		done++
		if c.Next.Serial > c.State.Serial {
			placed = append(placed, c.Facts.ID)
		}
	}
	if len(placed) > 0 {
		e.told(placed)
	}
	return done, nil
}

// InventoryChanged marks a device if a filter reads one of these nodes, or
// SoftwareFact.
func (e *Engine) InventoryChanged(ctx context.Context, device string, uris ...string) error {
	_, m, err := e.current(ctx)
	if err != nil || !m.Reads(uris...) {
		return err
	}
	return e.store.Mark(ctx, device)
}

// Progress of a value on a device.
type Progress string

// What is known of a value.
const (
	Confirmed Progress = "confirmed"
	Sent      Progress = "sent"    // no answer yet
	Waiting   Progress = "waiting" // for the next session
	Refused   Progress = "refused" // and tried again later
	Pending   Progress = "pending" // not computed yet
)

// Explanation of a device's resulting set.
type Explanation struct {
	Device  string   `json:"device" yaml:"device"`
	Unit    string   `json:"unit" yaml:"unit"`
	Groups  []string `json:"groups,omitempty" yaml:"groups,omitempty"`
	Version int64    `json:"version" yaml:"version"`
	Result  Result   `json:"result" yaml:"result"`
	// Nodes says how far the device is with each value, by URI.
	Nodes map[string]Status `json:"nodes" yaml:"nodes"`
	// Removals are nodes that no set wants any more and that wait to be removed
	// or left with another value.
	Removals []string `json:"removals,omitempty" yaml:"removals,omitempty"`
}

// Status of a value on a device.
type Status struct {
	Progress Progress `json:"progress" yaml:"progress"`
	// Code that the device refused it with.
	Code int       `json:"code,omitempty" yaml:"code,omitempty"`
	At   time.Time `json:"at,omitzero" yaml:"at,omitempty"`
}

// Explain which sets apply to a device and why the others don't, which set gave
// which value and which lost, and what the device has confirmed. It changes
// nothing. ErrNoDevice.
func (e *Engine) Explain(ctx context.Context, device string) (Explanation, error) {
	d, err := e.store.Device(ctx, device)
	if err != nil {
		return Explanation{}, err
	}
	version, m, err := e.current(ctx)
	if err != nil {
		return Explanation{}, err
	}
	x := Explanation{Device: d.Facts.ID, Unit: d.Facts.Unit, Groups: d.Facts.Groups, Version: version.Number, Result: m.Resolve(d.Facts), Nodes: map[string]Status{}}
	s := d.State.Record(d.Outcomes, d.At)
	waiting := map[string]Progress{}
	for _, c := range s.Commands {
		p := Waiting
		for _, id := range d.Claimed {
			if id == c.ID {
				p = Sent
			}
		}
		for _, change := range c.Changes {
			waiting[change.node()] = p
			if change.Last {
				x.Removals = append(x.Removals, change.node())
			}
		}
	}
	for _, v := range x.Result.Values {
		x.Nodes[v.Setting.URI] = s.status(v.Setting, waiting[v.Setting.URI])
	}
	return x, nil
}

func (s State) status(want Setting, waiting Progress) Status {
	n := s.Nodes[want.URI]
	switch {
	case want.Absent && n.Gone, !want.Absent && n.Have == want.digest():
		return Status{Progress: Confirmed, At: n.At}
	case waiting != "":
		return Status{Progress: waiting}
	case n.Failed != "":
		for _, verb := range []syncml.Verb{syncml.Add, syncml.Replace, syncml.Delete} {
			if n.Failed == (Change{Verb: verb, Setting: want}).digest() {
				return Status{Progress: Refused, Code: n.Code, At: n.At}
			}
		}
	}
	return Status{Progress: Pending}
}
