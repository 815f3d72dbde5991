package push

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
)

const (
	// Gateways that are dialled, and that get a snapshot, at a time.
	maxDials     = 32
	maxSnapshots = 8
)

// Config of a Manager; all but Connected and Log is needed.
type Config struct {
	Documents *Documents
	Journal   Journal
	Identity  Identity
	// Known says whether there is a device of a name. What a gateway says of
	// others isn't kept. With gateways that admit unknown devices it is always
	// true.
	Known func(device string) bool
	// Dial a gateway.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Connected is called when a gateway is, with what it says of itself. It
	// doesn't wait. May be nil.
	Connected func(gateway string, state gcm.State)
	Log       *slog.Logger
}

// Manager keeps gateways as they should be. Its methods are safe for concurrent
// use.
type Manager struct {
	config           Config
	dials, snapshots chan struct{}

	mu     sync.Mutex
	closed bool
	links  map[string]*link
}

// Status of a gateway.
type Status struct {
	Gateway Gateway
	// Connected since Since; otherwise Err says why not.
	Connected bool
	Since     time.Time
	Err       string
	// State that it told last: less than a minute ago, and some two seconds after
	// events of sessions.
	State gcm.State
	// Sections that were looked at over this connection.
	Sections map[gcm.Section]SectionStatus
	// Events that were kept, and those that weren't because they were of
	// devices that nobody knows.
	Events, Disbelieved uint64
	LastEvent           time.Time
	// Cursor of the last event that was read.
	Cursor uint64
	// Latency of the document that it took last: from its commit, or from when the
	// gateway connected if that was later.
	Latency time.Duration
	// Behind are the sections that it doesn't have, or not in force, as they were
	// committed, and since when, as far back as this process knows.
	Behind map[gcm.Section]time.Time
}

// SectionStatus is how a section of a gateway stands to what was committed.
type SectionStatus struct {
	Version gcm.Version
	// Applied and Reasons as the gateway told them.
	Applied bool
	Reasons []string
	// Err is nil if the gateway has what was committed, or else ErrAhead,
	// ErrDiverged, ErrSection or an error of package gcm, wrapped.
	Err error
	// Wrong is since when there is an error, or it isn't applied.
	Wrong time.Time
}

// New manager of no gateways.
func New(c Config) (*Manager, error) {
	if c.Documents == nil || c.Journal == nil || c.Known == nil || c.Dial == nil || c.Identity.Certificate == nil || c.Identity.Roots == nil || c.Identity.Agent.String() == "" {
		return nil, errors.New("a manager needs documents, a journal, an identity, Known and Dial")
	}
	if c.Connected == nil {
		c.Connected = func(string, gcm.State) {}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Manager{config: c, dials: make(chan struct{}, maxDials), snapshots: make(chan struct{}, maxSnapshots), links: map[string]*link{}}, nil
}

func (m *Manager) tls(g Gateway) *tls.Config {
	return m.config.Identity.config(g, func(issuer [32]byte, serial string) bool {
		return m.config.Documents.Has(gcm.Devices, gcm.RevocationKey(issuer, serial))
	})
}

// Add a gateway; it is dialled from now on. Error: ErrExists.
func (m *Manager) Add(g Gateway) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.links[g.Name] != nil {
		return fmt.Errorf("%w: %s", ErrExists, g.Name)
	}
	if m.closed {
		return net.ErrClosed
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &link{
		m: m, gateway: g, cancel: cancel, done: make(chan struct{}), poked: make(chan struct{}, 1), moved: make(chan struct{}, 1), log: m.config.Log.With(slog.String("gateway", g.Name)),
		status: Status{Gateway: g, Err: "not tried yet"},
	}
	m.links[g.Name] = l
	go l.run(ctx)
	return nil
}

// Remove a gateway. When it returns nobody speaks to it any more. Error:
// ErrUnknown.
func (m *Manager) Remove(name string) error {
	m.mu.Lock()
	l := m.links[name]
	delete(m.links, name)
	m.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	l.cancel()
	<-l.done
	return nil
}

// Close ends all connections, and waits for them.
func (m *Manager) Close() {
	m.mu.Lock()
	m.closed = true
	links := slices.Collect(maps.Values(m.links))
	m.links = map[string]*link{}
	m.mu.Unlock()
	for _, l := range links {
		l.cancel()
	}
	for _, l := range links {
		<-l.done
	}
}

// Status of all gateways, by name.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	links := slices.Collect(maps.Values(m.links))
	m.mu.Unlock()
	var all []Status
	for _, l := range links {
		l.mu.Lock()
		s := l.status
		s.Sections = maps.Clone(s.Sections)
		l.mu.Unlock()
		m.unknown(s)
		s.Behind = m.behind(s)
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Gateway.Name, b.Gateway.Name) })
	return all
}

// unknown sections of a gateway that is connected are told like those that it
// refuses.
func (m *Manager) unknown(s Status) {
	for _, section := range gcm.Sections {
		wanted, _, _ := m.config.Documents.Version(section)
		if _, knows := s.State.Sections[section]; s.Connected && !knows && wanted != (gcm.Version{}) {
			s.Sections[section] = SectionStatus{Err: fmt.Errorf("%w: %s", ErrSection, section), Wrong: s.Since}
		}
	}
}

// behind are the sections in which a gateway isn't as it should be.
func (m *Manager) behind(s Status) map[gcm.Section]time.Time {
	late := map[gcm.Section]time.Time{}
	for _, section := range gcm.Sections {
		wanted, _, _ := m.config.Documents.Version(section)
		has, looked := s.Sections[section]
		if !looked {
			has.Version = s.State.Sections[section].Version
		}
		if has.Version.Compare(wanted) < 0 {
			late[section] = m.config.Documents.behind(section, has.Version)
		} else if !has.Wrong.IsZero() {
			late[section] = has.Wrong
		}
	}
	return late
}
