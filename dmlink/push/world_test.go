package push_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

// installation has a CA, one manager's certificate and gateways.
type installation struct{ issuer *ca.Issuer }

func install(t *testing.T) *installation {
	t.Helper()
	return &installation{catest.New(t, time.Now()).Issuer()}
}

func (i *installation) certificate(t *testing.T, r ca.Request) *tls.Certificate {
	t.Helper()
	return catest.Certificate(t, i.issuer, r)
}

// signAgent is what a manager has signed.
func (i *installation) signAgent(_ context.Context, g push.Gateway, request *x509.CertificateRequest) ([]byte, error) {
	return catest.Chain(i.issuer, ca.Request{Profile: ca.Agent, DNSNames: []string{g.Host}, PublicKey: request.PublicKey})
}

// gateway is one with a real agent on loopback, or in memory.
type gateway struct {
	*agent.Agent
	push.Gateway
	mu      sync.Mutex
	refuse  func(*gcm.Set) []error
	applied map[gcm.Section]gcm.Hash
	// sessions that it says it has.
	sessions atomic.Int64
	// told counts how often it was asked.
	told atomic.Int64
}

// gateway of a name, with a certificate unless it is bare.
func (i *installation) gateway(t *testing.T, name string, l net.Listener, bare bool) *gateway {
	t.Helper()
	g := &gateway{Gateway: push.Gateway{Name: name, Host: name + ".example.org", Address: netip.MustParseAddrPort("192.0.2.1:7443")}, applied: map[gcm.Section]gcm.Hash{}}
	id := agent.Identity{Key: catest.NewKey(t), Host: g.Host, Roots: catest.Roots(i.issuer),
		Manager: catest.Policy(t, i.issuer, ca.Manager), Agent: catest.Policy(t, i.issuer, ca.Agent)}
	a, err := agent.New(agent.Config{
		Gateway: name, Software: "test", File: filepath.Join(t.TempDir(), name), Identity: id,
		Check: func(s *gcm.Set) []error {
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.refuse == nil {
				return nil
			}
			return g.refuse(s)
		},
		Apply: func(c agent.Change) []error {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.applied[c.Set.Section()] = c.Set.Hash()
			return nil
		},
		Host: g,
	})
	if err != nil {
		t.Fatal(err)
	}
	g.Agent = a
	if !bare {
		chain, err := i.signAgent(t.Context(), g.Gateway, &x509.CertificateRequest{PublicKey: id.Key.Public()})
		if err == nil {
			err = a.SetCertificate(chain)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if l == nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		g.Address = l.Addr().(*net.TCPAddr).AddrPort()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

func (g *gateway) set(refuse func(*gcm.Set) []error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = refuse
}

// journal in memory.
type journal struct {
	mu      sync.Mutex
	events  map[string][]gcm.Event
	cursors map[string]uint64
	fail    error
}

func newJournal() *journal {
	return &journal{events: map[string][]gcm.Event{}, cursors: map[string]uint64{}}
}

func (j *journal) Cursor(_ context.Context, gateway string) (uint64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cursors[gateway], nil
}

func (j *journal) Keep(_ context.Context, gateway string, events []gcm.Event, cursor uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.events[gateway] = append(j.events[gateway], events...)
	j.cursors[gateway] = cursor
	return nil
}

func (j *journal) Reset(_ context.Context, gateway string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cursors[gateway] = 0
	return nil
}

func (j *journal) of(gateway string) []gcm.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events[gateway])
}

// network can be cut.
type network struct {
	mu    sync.Mutex
	conns []net.Conn
	dials int
}

func (n *network) Dial(ctx context.Context, kind, address string) (net.Conn, error) {
	c, err := new(net.Dialer).DialContext(ctx, kind, address)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials++
	if err == nil {
		n.conns = append(n.conns, c)
	}
	return c, err
}

func (n *network) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		_ = c.Close()
	}
	n.conns = nil
}

func (n *network) dialled() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials
}

func (i *installation) config(t *testing.T, d *push.Documents, j push.Journal) push.Config {
	t.Helper()
	own := i.certificate(t, ca.Request{Profile: ca.Manager, Name: "manager-1"})
	return push.Config{
		Documents: d, Journal: j, Dial: new(net.Dialer).DialContext, Known: func(string) bool { return true },
		Identity: push.Identity{Certificate: func() (*tls.Certificate, error) { return own, nil }, Roots: catest.Roots(i.issuer), Agent: catest.Policy(t, i.issuer, ca.Agent)},
	}
}

func manage(t *testing.T, c push.Config, gateways ...push.Gateway) *push.Manager {
	t.Helper()
	m, err := push.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	for _, g := range gateways {
		if err := m.Add(g); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func documents(t *testing.T) *push.Documents {
	t.Helper()
	d, err := push.NewDocuments()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func commit(t *testing.T, d *push.Documents, section gcm.Section, v gcm.Version, put ...gcm.Record) {
	t.Helper()
	if err := d.Commit(section, v, put, nil); err != nil {
		t.Fatal(err)
	}
}

// same says whether a gateway has, and has in force, what was committed.
func (g *gateway) same(d *push.Documents) bool {
	state := g.State()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, section := range gcm.Sections {
		version, hash, _ := d.Version(section)
		s := state.Sections[section]
		if s.Version != version || s.Hash != hash {
			return false
		}
		if version != (gcm.Version{}) && (!s.Applied || g.applied[section] != hash) {
			return false
		}
	}
	return true
}

// eventually something is so; how long it takes says nothing.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func statusOf(m *push.Manager, name string) push.Status {
	for _, s := range m.Status() {
		if s.Gateway.Name == name {
			return s
		}
	}
	return push.Status{}
}

func device(n int, group string) gcm.Record {
	return gcm.Authorisation{Device: fmt.Sprintf("device-%d", n), Group: group}.Record()
}

// Tell how many sessions it has.
func (g *gateway) Tell(s *gcm.State) {
	g.told.Add(1)
	s.Sessions = int(g.sessions.Load())
}

// Sessions: none.
func (g *gateway) Sessions(string, func(gcm.Session) bool) {}

// End of what isn't there.
func (g *gateway) End(string, string) bool { return true }

// Alert nobody.
func (g *gateway) Alert(string, string, []byte) error { return agent.ErrNoSession }

// Drain nothing.
func (g *gateway) Drain(gcm.Drain) error { return nil }

// Reload nothing.
func (g *gateway) Reload() (gcm.Reloaded, bool) { return gcm.Reloaded{}, true }
