package fleet_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/dmlink/push"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/gatewayd/database"
)

// world is an installation: a CA, a database, enrollment's outbox, a clock.
type world struct {
	db     *database.DB
	issuer *ca.Issuer
	outbox *outbox
	clock  *clock
}

func newWorld(t testing.TB, db *database.DB) *world {
	t.Helper()
	return &world{db: db, issuer: catest.New(t, time.Now()).Issuer(), outbox: &outbox{}, clock: &clock{now: time.Now()}}
}

// clock of managers that tests move; it doesn't go by itself.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// outbox is enrollment's.
type outbox struct {
	mu      sync.Mutex
	entries []fleet.Entry
}

func (o *outbox) tell(entries ...fleet.Entry) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range entries {
		e.Number = int64(len(o.entries) + 1)
		if e.At.IsZero() {
			e.At = time.Now()
		}
		o.entries = append(o.entries, e)
	}
}

// Entries implements fleet.Feed.
func (o *outbox) Entries(_ context.Context, after int64, limit int) ([]fleet.Entry, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	rest := o.entries[min(int(after), len(o.entries)):]
	return slices.Clone(rest[:min(limit, len(rest))]), nil
}

func enrolled(n int, groups ...string) fleet.Entry {
	return fleet.Entry{Kind: fleet.Enrolled, Device: name(n), Groups: groups}
}

func closed(n int) fleet.Entry { return fleet.Entry{Kind: fleet.Closed, Device: name(n)} }

func name(n int) string { return fmt.Sprintf("device-%05d", n) }

func revoked(n int) fleet.Entry {
	return fleet.Entry{Kind: fleet.Revoked, Device: name(n), Issuer: [32]byte{1}, Serial: string([]byte{1, byte(n >> 16), byte(n >> 8), byte(n)}), Reason: 4,
		Until: time.Now().AddDate(0, 1, 0)}
}

func (w *world) sign(_ context.Context, g push.Gateway, request *x509.CertificateRequest) ([]byte, error) {
	return catest.Chain(w.issuer, ca.Request{Profile: ca.Agent, DNSNames: []string{g.Host}, PublicKey: request.PublicKey})
}

func (w *world) options(t testing.TB) fleet.Options {
	t.Helper()
	own := catest.Certificate(t, w.issuer, ca.Request{Profile: ca.Manager, Name: "manager-1"})
	return fleet.Options{
		Identity: push.Identity{Certificate: func() (*tls.Certificate, error) { return own, nil }, Roots: catest.Roots(w.issuer), Agent: catest.Policy(t, w.issuer, ca.Agent)},
		Sign:     w.sign, SealKey: make([]byte, 32), Feed: w.outbox, Now: w.clock.Now,
	}
}

// manager on the world's database. It runs until the test ends or stop is called.
func (w *world) manager(t testing.TB, set func(*fleet.Options)) (f *fleet.Fleet, stop func()) {
	t.Helper()
	o := w.options(t)
	if set != nil {
		set(&o)
	}
	f, err := fleet.New(t.Context(), w.db, o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); f.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return f, stop
}

// gateway is one with a real agent on loopback.
type gateway struct {
	*agent.Agent
	push.Gateway
	known push.Fingerprint
	stop  func()

	mu            sync.Mutex
	ended, alerts []string
	drain         gcm.Drain
	// without: a device that isn't there, whatever it has told.
	without string
}

// gateway that nobody has joined yet. Its file may be that of a former one.
func (w *world) gateway(t testing.TB, called, file string, key crypto.Signer) *gateway {
	t.Helper()
	return w.gatewayThat(t, called, file, key, func(agent.Change) []error { return nil })
}

func (w *world) gatewayThat(t testing.TB, called, file string, key crypto.Signer, apply func(agent.Change) []error) *gateway {
	t.Helper()
	g := &gateway{Gateway: push.Gateway{Name: called, Host: called + ".example.org"}}
	a, err := agent.New(agent.Config{
		Gateway: called, Software: "test", File: file,
		Identity: agent.Identity{Key: key, Host: g.Host, Roots: catest.Roots(w.issuer),
			Manager: catest.Policy(t, w.issuer, ca.Manager), Agent: catest.Policy(t, w.issuer, ca.Agent)},
		Check: func(*gcm.Set) []error { return nil }, Apply: apply,
		Host: g,
	})
	if err != nil {
		t.Fatal(err)
	}
	if g.known, err = a.Fingerprint(); err != nil {
		t.Fatal(err)
	}
	g.Agent = a
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.Address = l.Addr().(*net.TCPAddr).AddrPort()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", called, err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(g.stop)
	return g
}

// Tell implements agent.Host.
func (g *gateway) Tell(s *gcm.State) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s.Drain = g.drain
}

// Sessions implements agent.Host.
func (g *gateway) Sessions(string, func(gcm.Session) bool) {}

// End implements agent.Host: it has each session that it isn't said to have
// ended.
func (g *gateway) End(device, session string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = append(g.ended, device+"/"+session)
	return true
}

// Alert implements agent.Host.
func (g *gateway) Alert(device, _ string, octets []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if device == g.without {
		return agent.ErrNoSession
	}
	g.alerts = append(g.alerts, device+" "+string(octets))
	return nil
}

// Drain implements agent.Host.
func (g *gateway) Drain(d gcm.Drain) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drain = d
	return nil
}

// Reload implements agent.Host.
func (g *gateway) Reload() (gcm.Reloaded, bool) { return gcm.Reloaded{}, true }

// done is what it was told beside documents.
func (g *gateway) done() (ended, alerts []string, drain gcm.Drain) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.ended), slices.Clone(g.alerts), g.drain
}

func (w *world) join(t testing.TB, f *fleet.Fleet, names ...string) []*gateway {
	t.Helper()
	var all []*gateway
	for _, n := range names {
		g := w.gateway(t, n, filepath.Join(t.TempDir(), n), catest.NewKey(t))
		if err := f.AddGateway(t.Context(), g.Gateway, g.known); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

// started is a session's event.
func (g *gateway) started(device, session string, at time.Time) {
	g.Events.Add(gcm.Event{At: at, Kind: gcm.SessionStarted, Device: device, Session: session,
		Peer: netip.MustParseAddrPort("192.0.2.7:4500"), Addresses: []netip.Addr{netip.MustParseAddr("10.64.0.1")}})
}

// same says whether a gateway has what a manager has committed.
func (g *gateway) same(f *fleet.Fleet) bool {
	state := g.State()
	for _, section := range gcm.Sections {
		version, hash, _ := f.Documents().Version(section)
		if s := state.Sections[section]; s.Version != version || s.Hash != hash {
			return false
		}
	}
	return true
}

// eventually something is so; how long it takes says nothing.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func pool(text string) fleet.Pool { return fleet.Pool{Prefix: netip.MustParsePrefix(text)} }

func pools(texts ...string) fleet.Content {
	var c fleet.Content
	for _, text := range texts {
		c.Pools = append(c.Pools, pool(text))
	}
	return c
}

// agentRequest is a gateway's request for a certificate.
func agentRequest(host string, key crypto.Signer) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: []string{host}}, key)
}

func fingerprint(t testing.TB, key crypto.Signer) push.Fingerprint {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	must(t, err)
	return sha256.Sum256(der)
}
