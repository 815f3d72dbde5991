package fleet_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/agent"
	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/dmlink/fleet"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
	"github.com/roamgate/roamgate/gatewayd/database"
	"github.com/roamgate/roamgate/gatewayd/database/databasetest"
	"github.com/roamgate/roamgate/integration/postgres"
)

// TestSoakPush is the figure of configuration push: one manager, two gateways with
// all devices and 198 that keep versions and revocations only; how long it takes
// from the commit of a revocation until the agent has put it into force, also
// while others are sent everything, and what it costs.
//
// ROAMGATE_SOAK_DEVICES (1,000,000), ROAMGATE_SOAK_LIGHT (198) and
// ROAMGATE_SOAK_ENGINE (sqlite, postgres) change it.
func TestSoakPush(t *testing.T) {
	if os.Getenv("ROAMGATE_SOAK") != "1" {
		t.Skip("takes minutes: set ROAMGATE_SOAK=1")
	}
	number := func(name string, n int) int {
		if v, err := strconv.Atoi(os.Getenv(name)); err == nil {
			return v
		}
		return n
	}
	devices, lights := number("ROAMGATE_SOAK_DEVICES", 1_000_000), number("ROAMGATE_SOAK_LIGHT", 198)
	var db *database.DB
	if os.Getenv("ROAMGATE_SOAK_ENGINE") == "postgres" {
		db = databasetest.Postgres(t, postgres.Start(t))
	} else {
		db = databasetest.SQLite(t)
	}
	w := newWorld(t, db)
	sent := &counting{}
	o := func(o *fleet.Options) { o.Dial = sent.dial }

	start := time.Now()
	f, stop := w.manager(t, o)
	must(t, f.SetContent(t.Context(), pools("10.0.0.0/8", "2001:db8::/64")))
	for n := range devices {
		w.outbox.tell(enrolled(n, "staff"))
	}
	must(t, f.Follow(t.Context()))
	t.Logf("%s: %d devices enrolled in %v", db.Engine, devices, time.Since(start).Round(time.Second))
	stop()
	f = nil
	before := heap()
	start = time.Now()
	f, _ = w.manager(t, o)
	t.Logf("manager started in %v, and has %d MB on its heap", time.Since(start).Round(time.Millisecond), (heap()-before)>>20)

	full := []*timed{w.timed(t, "full-1"), w.timed(t, "full-2")}
	for _, g := range full {
		must(t, f.AddGateway(t.Context(), g.Gateway, g.known))
	}
	start = time.Now()
	for _, g := range full {
		eventually(t, g.Name+" has all", func() bool { return g.same(f) })
	}
	t.Logf("two full gateways have all after %v", time.Since(start).Round(time.Millisecond))
	var light []*lightGateway
	start = time.Now()
	for n := range lights {
		g := w.light(t, fmt.Sprint("light-", n))
		light = append(light, g)
		must(t, f.AddGateway(t.Context(), g.Gateway, g.known))
	}
	current := func(g *lightGateway) bool {
		v, _, _ := f.Documents().Version(gcm.Devices)
		return g.version() == v
	}
	for _, g := range light {
		for end := time.Now().Add(20 * time.Minute); !current(g); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s never has all", g.Name)
			}
		}
	}
	t.Logf("%d light ones after %v", len(light), time.Since(start).Round(time.Second))

	next := 0
	revocations := func(what string, at ...*timed) {
		const rounds = 1000
		octets := sent.to(light[len(light)-1].Address.String())
		var commits, all []time.Duration
		for range rounds {
			w.outbox.tell(revoked(next), closed(next))
			begun := time.Now()
			must(t, f.Follow(t.Context()))
			committed := time.Now()
			commits = append(commits, committed.Sub(begun))
			for _, g := range at {
				// From the moment the commit began: no sooner does anybody know of it.
				all = append(all, g.wait(t, name(next)).Sub(begun))
			}
			next++
			time.Sleep(10 * time.Millisecond)
		}
		slices.Sort(commits)
		slices.Sort(all)
		t.Logf("%s: %d revocations, begun until in force at %d full gateways: p50 %v, p99 %v, max %v; of that commit and reading it p50 %v, p99 %v; %d octets to a gateway each",
			what, rounds, len(at), all[len(all)/2], all[len(all)*99/100], all[len(all)-1], commits[len(commits)/2], commits[len(commits)*99/100],
			(sent.to(light[len(light)-1].Address.String())-octets)/rounds)
		if p99 := all[len(all)*99/100]; p99 > time.Second {
			t.Errorf("%s: p99 is %v, want at most 1s", what, p99)
		}
	}
	revocations("in peace", full...)

	// One is new and gets everything, and some have lost their files.
	late := w.timed(t, "full-3")
	must(t, f.AddGateway(t.Context(), late.Gateway, late.known))
	for _, g := range light[:min(20, len(light))] {
		g.lose()
	}
	revocations("during a resynchronisation", full...)
	eventually(t, "the late one has all", func() bool { return late.same(f) })

	// One is away for an hour, in which a device a second is revoked.
	full[1].stop()
	const hour = 3600
	start = time.Now()
	for range hour {
		w.outbox.tell(revoked(next), closed(next))
		must(t, f.Follow(t.Context()))
		next++
	}
	t.Logf("%d commits in %v", hour, time.Since(start).Round(time.Millisecond))
	back := w.timedAgain(t, full[1])
	must(t, f.RemoveGateway(t.Context(), back.Name))
	start = time.Now()
	must(t, f.AddGateway(t.Context(), back.Gateway, back.known))
	eventually(t, "it has caught up", func() bool { return back.same(f) })
	t.Logf("after an hour away it has caught up in %v, by %d octets", time.Since(start).Round(time.Millisecond), sent.to(back.Address.String()))
	t.Logf("all together: %d MB on the heap", heap()>>20)
	for _, g := range light {
		eventually(t, g.Name+" is current", func() bool { return current(g) })
		if got := g.revocations.Load(); got < hour {
			t.Errorf("%s has heard of %d revocations", g.Name, got)
		}
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// counting what is sent, by address.
type counting struct {
	mu     sync.Mutex
	octets map[string]*atomic.Int64
}

func (c *counting) of(address string) *atomic.Int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.octets == nil {
		c.octets = map[string]*atomic.Int64{}
	}
	if c.octets[address] == nil {
		c.octets[address] = new(atomic.Int64)
	}
	return c.octets[address]
}

func (c *counting) to(address string) int64 { return c.of(address).Load() }

func (c *counting) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &countedConn{conn, c.of(address)}, err
}

type countedConn struct {
	net.Conn
	octets *atomic.Int64
}

// Write counts.
func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.octets.Add(int64(n))
	return n, err
}

// timed is a gateway that knows when a device was taken away.
type timed struct {
	*gateway
	file string
	key  func(testing.TB) *gateway

	mu   sync.Mutex
	gone map[string]time.Time
}

func (w *world) timed(t *testing.T, called string) *timed {
	g := &timed{file: filepath.Join(t.TempDir(), called), gone: map[string]time.Time{}}
	key := catest.NewKey(t)
	g.key = func(t testing.TB) *gateway { return w.gatewayThat(t, called, g.file, key, g.apply) }
	g.gateway = g.key(t)
	return g
}

// timedAgain starts it with the file that it has.
func (w *world) timedAgain(t *testing.T, old *timed) *timed {
	g := &timed{file: old.file, key: old.key, gone: map[string]time.Time{}}
	g.gateway = old.key(t)
	return g
}

func (g *timed) apply(c agent.Change) []error {
	if c.Set.Section() != gcm.Devices || c.Delta == nil {
		return nil
	}
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, k := range c.Delta.Delete {
		g.gone[string(k)] = now
	}
	return nil
}

// wait until a device was taken away, and say when.
func (g *timed) wait(t *testing.T, device string) time.Time {
	t.Helper()
	key := gcm.DeviceKey(device)
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Microsecond) {
		g.mu.Lock()
		at, ok := g.gone[string(key)]
		g.mu.Unlock()
		if ok {
			return at
		}
		if time.Now().After(end) {
			t.Fatalf("%s still has %s", g.Name, device)
		}
	}
}

// lightGateway keeps of its documents the version, the hash and how many
// revocations there were.
type lightGateway struct {
	*gateway
	server      *httptest.Server
	revocations atomic.Int64

	mu     sync.Mutex
	states map[gcm.Section]gcm.SectionState
}

func (w *world) light(t *testing.T, called string) *lightGateway {
	t.Helper()
	// An agent that isn't served joins; then this takes its place.
	joined := w.gateway(t, called, filepath.Join(t.TempDir(), called), catest.NewKey(t))
	joined.stop()
	g := &lightGateway{gateway: joined, states: nothing()}
	own := catest.Certificate(t, w.issuer, ca.Request{Profile: ca.Agent, DNSNames: []string{joined.Host}})
	request, err := agentRequest(joined.Host, own.PrivateKey.(crypto.Signer))
	must(t, err)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+gcm.PathState, func(out http.ResponseWriter, _ *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		_ = json.NewEncoder(out).Encode(gcm.State{Gateway: called, Sections: g.states})
	})
	mux.HandleFunc("GET "+gcm.PathIdentity, func(out http.ResponseWriter, _ *http.Request) { _, _ = out.Write(request) })
	mux.HandleFunc("PUT "+gcm.PathIdentity, func(out http.ResponseWriter, _ *http.Request) { out.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET "+gcm.PathEvents, func(out http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(out).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("PUT "+gcm.PathSections+"{section}", g.snapshot)
	mux.HandleFunc("PATCH "+gcm.PathSections+"{section}", g.delta)
	g.server = httptest.NewUnstartedServer(mux)
	g.server.TLS = &tls.Config{Certificates: []tls.Certificate{*own}, ClientAuth: tls.RequireAnyClientCert}
	g.server.EnableHTTP2 = true
	g.server.StartTLS()
	t.Cleanup(func() { g.server.CloseClientConnections(); g.server.Close() })
	g.Address = g.server.Listener.Addr().(*net.TCPAddr).AddrPort()
	g.known = fingerprint(t, own.PrivateKey.(crypto.Signer))
	return g
}

// nothing of each section.
func nothing() map[gcm.Section]gcm.SectionState {
	states := map[gcm.Section]gcm.SectionState{}
	for _, section := range gcm.Sections {
		states[section] = gcm.SectionState{}
	}
	return states
}

func (g *lightGateway) version() gcm.Version {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.states[gcm.Devices].Version
}

// lose what it has, and its connections.
func (g *lightGateway) lose() {
	g.mu.Lock()
	g.states = nothing()
	g.mu.Unlock()
	g.server.CloseClientConnections()
}

// snapshot of which it reads the head, see gcm.WriteSnapshot.
func (g *lightGateway) snapshot(out http.ResponseWriter, r *http.Request) {
	section := r.PathValue("section")
	head := make([]byte, 4+1+len(section)+16+32)
	if _, err := io.ReadFull(r.Body, head); err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	rest := head[5+len(section):]
	s := gcm.SectionState{Applied: true, Hash: gcm.Hash(rest[16:])}
	s.Version.Epoch, s.Version.Number = binary.BigEndian.Uint64(rest), binary.BigEndian.Uint64(rest[8:])
	g.take(out, gcm.Section(section), s)
}

func (g *lightGateway) delta(out http.ResponseWriter, r *http.Request) {
	d, err := gcm.ReadDelta(r.Body)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	for _, put := range d.Put {
		if bytes.HasPrefix(put.Key, []byte("r")) && d.Section == gcm.Devices {
			g.revocations.Add(1)
		}
	}
	g.take(out, d.Section, gcm.SectionState{Version: d.Version, Hash: d.Hash, Applied: true})
}

func (g *lightGateway) take(out http.ResponseWriter, section gcm.Section, s gcm.SectionState) {
	g.mu.Lock()
	g.states[section] = s
	g.mu.Unlock()
	_ = json.NewEncoder(out).Encode(s)
}
