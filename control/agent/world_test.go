package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

const host = "gateway-1.example.org"

// installation has a CA.
type installation struct{ issuer *ca.Issuer }

func install(t *testing.T) *installation {
	t.Helper()
	return &installation{catest.New(t, time.Now()).Issuer()}
}

// chain for a request, in PEM.
func (i *installation) chain(t *testing.T, r ca.Request) []byte {
	t.Helper()
	chain, err := catest.Chain(i.issuer, r)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func (i *installation) certificate(t *testing.T, r ca.Request) tls.Certificate {
	t.Helper()
	return *catest.Certificate(t, i.issuer, r)
}

func (i *installation) manager(t *testing.T) tls.Certificate {
	return i.certificate(t, ca.Request{Profile: ca.Manager, Name: "manager-1"})
}

func (i *installation) identity(t *testing.T) Identity {
	t.Helper()
	return Identity{Key: catest.NewKey(t), Host: host, Roots: catest.Roots(i.issuer),
		Manager: catest.Policy(t, i.issuer, ca.Manager), Agent: catest.Policy(t, i.issuer, ca.Agent)}
}

// gateway is what the agent acts upon.
type gateway struct {
	mu      sync.Mutex
	applied []string
	check   func(*gcm.Set) []error
	apply   func(Change) []error
	ended   []string
	// sessions are so many.
	sessions int
}

func (g *gateway) config(file string, id Identity) Config {
	return Config{
		Gateway: "gateway-1", Software: "test", File: file, Identity: id,
		Check: func(s *gcm.Set) []error {
			g.mu.Lock()
			check := g.check
			g.mu.Unlock()
			if check == nil {
				return nil
			}
			return check(s)
		},
		Apply: func(c Change) []error {
			how := "whole"
			if c.Delta != nil {
				how = "delta"
			}
			g.mu.Lock()
			g.applied = append(g.applied, fmt.Sprintf("%s %v %s %d", c.Set.Section(), c.Set.Version(), how, c.Set.Len()))
			apply := g.apply
			g.mu.Unlock()
			if apply == nil {
				return nil
			}
			return apply(c)
		},
		Host: g,
	}
}

// Tell of sessions.
func (g *gateway) Tell(s *gcm.State) { s.Sessions = 7 }

// Sessions of phones, as many as there are to be.
func (g *gateway) Sessions(device string, yield func(gcm.Session) bool) {
	for n := range g.sessions {
		s := gcm.Session{ID: fmt.Sprintf("%016x", n), Device: fmt.Sprintf("phone-%d", n), Established: time.Unix(1e9, 0).UTC()}
		if (device == "" || device == s.Device) && !yield(s) {
			return
		}
	}
}

// End the session of phone-1.
func (g *gateway) End(device, session string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = append(g.ended, device+" "+session)
	return device == "phone-1" && (session == "" || session == "1f")
}

// Alert phone-1, and others as their names say.
func (g *gateway) Alert(device, alert string, octets []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = append(g.ended, fmt.Sprintf("alert %s %s %x", device, alert, octets))
	return map[string]error{"gone": ErrNoSession, "busy": gcm.ErrBusy, "none": ErrNoAlerts, "bad": ErrAlert}[device]
}

// Drain, but to nowhere.
func (g *gateway) Drain(d gcm.Drain) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = append(g.ended, fmt.Sprintf("drain %+v", d))
	return map[string]error{"stopping": ErrStopping, "nowhere": errors.New("there is no nowhere")}[d.To]
}

// Reload once.
func (g *gateway) Reload() (gcm.Reloaded, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = append(g.ended, "reload")
	if len(g.ended) > 1 {
		return gcm.Reloaded{Problems: []string{"line 3"}}, false
	}
	return gcm.Reloaded{NeedRestart: []string{"gateway.external"}}, true
}

func (g *gateway) take() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	a := g.applied
	g.applied = nil
	return a
}

func (g *gateway) set(check func(*gcm.Set) []error, apply func(Change) []error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.check, g.apply = check, apply
}

func open(t *testing.T, c Config) *Agent {
	t.Helper()
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// serve an agent on loopback until the test ends, or stop is called.
func serve(t *testing.T, a *Agent) (address string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, l) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return l.Addr().String(), stop
}

// client with a certificate, that looks at nothing.
func client(t *testing.T, c ...tls.Certificate) *http.Client {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{TLSClientConfig: &tls.Config{Certificates: c, InsecureSkipVerify: true}, Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask and read the whole answer.
func ask(t *testing.T, c *http.Client, method, url, kind string, body io.Reader) (int, []byte) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	response, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, answer
}

func refusalOf(t *testing.T, body []byte) gcm.Refusal {
	t.Helper()
	var r gcm.Refusal
	if err := json.Unmarshal(body, &r); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

func newSet(t *testing.T, section gcm.Section, v gcm.Version, records ...gcm.Record) *gcm.Set {
	t.Helper()
	s, err := gcm.NewSet(section)
	if err != nil {
		t.Fatal(err)
	}
	if v != (gcm.Version{}) {
		commit(t, s, v, records...)
	}
	return s
}

func commit(t *testing.T, s *gcm.Set, v gcm.Version, put ...gcm.Record) gcm.Delta {
	t.Helper()
	d, err := s.Commit(v, put, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func snapshotOf(t *testing.T, s *gcm.Set) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gcm.WriteSnapshot(&b, s); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func deltaOf(t *testing.T, d gcm.Delta) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := gcm.WriteDelta(&b, d); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func device(n int) gcm.Record {
	return gcm.Authorisation{Device: fmt.Sprintf("device-%d", n), Group: "staff"}.Record()
}

func group(name string) gcm.Record { return gcm.AccessGroup{Name: name}.Record() }

var errTest = errors.New("the test says no")
