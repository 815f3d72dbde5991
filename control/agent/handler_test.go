package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamgate/roamgate/control/gcm"
	"github.com/roamgate/roamgate/enrollment/ca"
	"github.com/roamgate/roamgate/enrollment/ca/catest"
)

// TestWhoGetsIn: managers of this installation, and nobody else.
func TestWhoGetsIn(t *testing.T) {
	i, other := install(t), install(t)
	a := open(t, new(gateway).config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
	address, _ := serve(t, a)
	names := []string{host}
	for name, c := range map[string]struct {
		certificates []tls.Certificate
		in           bool
	}{
		"a manager":            {[]tls.Certificate{i.manager(t)}, true},
		"nobody":               {nil, false},
		"another installation": {[]tls.Certificate{other.manager(t)}, false},
		"an administrator":     {[]tls.Certificate{i.certificate(t, ca.Request{Profile: ca.Admin, Name: "alice"})}, false},
		"a device":             {[]tls.Certificate{i.certificate(t, ca.Request{Profile: ca.Device, Name: "phone-1"})}, false},
		"a peer":               {[]tls.Certificate{i.certificate(t, ca.Request{Profile: ca.Peer, DNSNames: names})}, false},
		"another agent":        {[]tls.Certificate{i.certificate(t, ca.Request{Profile: ca.Agent, DNSNames: names})}, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+gcm.PathState, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client(t, c.certificates...).Do(r)
			if err == nil {
				response.Body.Close()
			}
			if (err == nil) != c.in {
				t.Errorf("%v, want in: %t", err, c.in)
			}
		})
	}
	if a.Heard().IsZero() {
		t.Error("a manager was there, and nobody knows")
	}

	// The key of a manager was stolen, and another one says so.
	stolen := i.manager(t)
	leaf, err := x509.ParseCertificate(stolen.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if status, _ := ask(t, client(t, stolen), http.MethodGet, "https://"+address+gcm.PathState, "", nil); status != http.StatusOK {
		t.Errorf("before: %d", status)
	}
	revocation := gcm.Revocation{
		Issuer: sha256.Sum256(i.issuer.Certificate().RawSubjectPublicKeyInfo), Serial: string(leaf.SerialNumber.Bytes()), Reason: 1, At: time.Now(),
	}
	if _, err := a.Replace(newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, revocation.Record())); err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+gcm.PathState, nil)
	if err != nil {
		t.Fatal(err)
	}
	if response, err := client(t, stolen).Do(r); err == nil {
		response.Body.Close()
		t.Error("a revoked manager gets in")
	}
}

// TestDocumentsThatAreRefused: each with its code, and nothing changes.
func TestDocumentsThatAreRefused(t *testing.T) {
	i, g := install(t), new(gateway)
	a := open(t, g.config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
	address, _ := serve(t, a)
	c := client(t, i.manager(t))
	section := func(s gcm.Section) string { return "https://" + address + gcm.PathSections + string(s) }

	devices := newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 5}, device(1))
	first := snapshotOf(t, devices)
	if status, body := ask(t, c, http.MethodPut, section(gcm.Devices), gcm.SnapshotType, bytes.NewReader(first)); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	second := commit(t, devices, gcm.Version{Epoch: 1, Number: 6}, device(2))
	status, body := ask(t, c, http.MethodPatch, section(gcm.Devices), gcm.DeltaType, bytes.NewReader(deltaOf(t, second)))
	var state gcm.SectionState
	if err := json.Unmarshal(body, &state); err != nil || status != http.StatusOK || state.Hash != devices.Hash() || !state.Applied {
		t.Fatalf("%d %s", status, body)
	}
	third := commit(t, devices.Clone(), gcm.Version{Epoch: 1, Number: 7}, device(3))
	fourth := third
	fourth.Base = gcm.Hash{1}
	liar := third
	liar.Hash = gcm.Hash{1}
	g.set(func(*gcm.Set) []error { return []error{errTest, errTest} }, nil)
	before := a.State()
	for name, test := range map[string]struct {
		method, kind string
		section      gcm.Section
		body         []byte
		status       int
		code         string
		reasons      int
	}{
		"replayed":          {http.MethodPatch, gcm.DeltaType, gcm.Devices, deltaOf(t, second), 409, "stale", 1},
		"an older snapshot": {http.MethodPut, gcm.SnapshotType, gcm.Devices, first, 409, "stale", 1},
		"an older epoch":    {http.MethodPut, gcm.SnapshotType, gcm.Devices, snapshotOf(t, newSet(t, gcm.Devices, gcm.Version{Epoch: 0, Number: 99})), 409, "stale", 1},
		"another base":      {http.MethodPatch, gcm.DeltaType, gcm.Devices, deltaOf(t, fourth), 409, "base", 1},
		"a lie":             {http.MethodPatch, gcm.DeltaType, gcm.Devices, deltaOf(t, liar), 422, "hash", 1},
		"for another":       {http.MethodPatch, gcm.DeltaType, gcm.Access, deltaOf(t, third), 400, "malformed", 1},
		"a snapshot as one": {http.MethodPatch, gcm.DeltaType, gcm.Devices, first, 400, "malformed", 1},
		"of another type":   {http.MethodPatch, gcm.SnapshotType, gcm.Devices, deltaOf(t, third), 400, "malformed", 1},
		"cut":               {http.MethodPut, gcm.SnapshotType, gcm.Devices, first[:len(first)-1], 400, "malformed", 1},
		"nothing":           {http.MethodPut, gcm.SnapshotType, gcm.Devices, nil, 400, "malformed", 1},
		"every reason":      {http.MethodPut, gcm.SnapshotType, gcm.Access, snapshotOf(t, newSet(t, gcm.Access, gcm.Version{Epoch: 1, Number: 9}, group("a"))), 422, "refused", 2},
		"no such section":   {http.MethodPut, gcm.SnapshotType, "other", first, 404, "", 0},
		"another method":    {http.MethodPost, gcm.SnapshotType, gcm.Devices, first, 405, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			status, body := ask(t, c, test.method, section(test.section), test.kind, bytes.NewReader(test.body))
			if status != test.status {
				t.Fatalf("%d %s, want %d", status, body, test.status)
			}
			if test.code == "" {
				return
			}
			if r := refusalOf(t, body); r.Code != test.code || len(r.Reasons) != test.reasons || r.State.Version != before.Sections[test.section].Version {
				t.Errorf("%+v, want %s with %d reasons", r, test.code, test.reasons)
			}
		})
	}
	for name, s := range a.State().Sections {
		if b := before.Sections[name]; s.Version != b.Version || s.Hash != b.Hash {
			t.Errorf("%s became %v", name, s.Version)
		}
	}
}

// endless is a body of zeros that says nothing about its length.
type endless struct{}

func (endless) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

// TestOversized: a body that is longer than any delta isn't read to its end,
// and one with a record that is too long not even so far.
func TestOversized(t *testing.T) {
	i := install(t)
	a := open(t, new(gateway).config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
	address, _ := serve(t, a)
	c := client(t, i.manager(t))
	url := "https://" + address + gcm.PathSections + string(gcm.Settings)
	// 256 settings of 64 KiB each are as long as a delta may be, and their
	// names come on top.
	var many []gcm.Record
	for n := range 256 {
		many = append(many, gcm.Setting{Name: fmt.Sprintf("setting-%d", n), Value: strings.Repeat("x", 64<<10)}.Record())
	}
	s := newSet(t, gcm.Settings, gcm.Version{})
	long := deltaOf(t, commit(t, s, gcm.Version{Epoch: 1, Number: 1}, many...))
	if len(long) <= gcm.MaxDelta {
		t.Fatalf("%d octets aren't too long", len(long))
	}
	for name, body := range map[string]io.Reader{
		"a long delta":  bytes.NewReader(long),
		"a long record": io.MultiReader(bytes.NewReader(long[:4+1+len(gcm.Settings)+16+64]), bytes.NewReader([]byte{1, 0, 1, 'a', 0xff, 0xff, 0x7f}), endless{}),
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, url, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", gcm.DeltaType)
		response, err := c.Do(r)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusRequestEntityTooLarge || refusalOf(t, answer).Code != "too_large" {
			t.Errorf("%s: %s %s, %v", name, response.Status, answer, err)
		}
	}
	if status, body := ask(t, c, http.MethodPut, url, gcm.SnapshotType, bytes.NewReader(snapshotOf(t, s))); status != http.StatusOK {
		t.Errorf("the same as a snapshot: %d %s", status, body)
	}
}

// pipes is a listener in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// TestHalfSent: a manager that stops in the middle of a document keeps nobody
// out, changes nothing and is turned away.
func TestHalfSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := install(t)
		a := open(t, new(gateway).config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t)))
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- a.Serve(ctx, l) }()
		manager := i.manager(t)
		connect := func() *http.Client {
			protocols := new(http.Protocols)
			protocols.SetHTTP2(true)
			return &http.Client{Transport: &http.Transport{
				TLSClientConfig: &tls.Config{Certificates: []tls.Certificate{manager}, InsecureSkipVerify: true}, Protocols: protocols,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return l.dial(ctx) },
			}}
		}
		const url = "https://gateway" + gcm.PathSections
		devices := newSet(t, gcm.Devices, gcm.Version{Epoch: 1, Number: 1}, device(1), device(2))
		document := snapshotOf(t, devices)
		paused, active := connect(), connect()
		start := time.Now()
		answered := make(chan int)
		half := make([]*io.PipeWriter, maxSnapshots)
		for n := range half {
			body, w := io.Pipe()
			half[n] = w
			go func() {
				r, err := http.NewRequestWithContext(ctx, http.MethodPut, url+string(gcm.Devices), body)
				if err != nil {
					panic(err)
				}
				r.Header.Set("Content-Type", gcm.SnapshotType)
				response, err := paused.Do(r)
				if err != nil {
					answered <- 0
					return
				}
				response.Body.Close()
				answered <- response.StatusCode
			}()
			if _, err := w.Write(document[:len(document)/2]); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		// Now there is no room for another snapshot, but for a delta.
		if status, body := ask(t, active, http.MethodPut, url+string(gcm.Devices), gcm.SnapshotType, bytes.NewReader(document)); status != http.StatusServiceUnavailable || refusalOf(t, body).Code != "busy" {
			t.Errorf("%d %s", status, body)
		}
		empty := newSet(t, gcm.Devices, gcm.Version{})
		if status, body := ask(t, active, http.MethodPatch, url+string(gcm.Devices), gcm.DeltaType, bytes.NewReader(deltaOf(t, empty.Diff(devices)))); status != http.StatusOK {
			t.Errorf("%d %s", status, body)
		}
		for range half {
			if status := <-answered; status != http.StatusBadRequest && status != 0 {
				t.Errorf("half a document: %d", status)
			}
		}
		if waited := time.Since(start); waited < bodyGrace || waited > 2*bodyGrace {
			t.Errorf("turned away after %v, want %v", waited, bodyGrace)
		}
		if s := a.State().Sections[gcm.Devices]; s.Hash != devices.Hash() {
			t.Errorf("%+v", s)
		}
		for _, w := range half {
			w.CloseWithError(errTest)
		}
		paused.CloseIdleConnections()
		active.CloseIdleConnections()
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestIdentity: before there is a certificate the fingerprint says who it is;
// the pushed one is for connections from then on, and after a restart.
func TestIdentity(t *testing.T) {
	i := install(t)
	config := new(gateway).config(filepath.Join(t.TempDir(), "agent.db"), i.identity(t))
	a := open(t, config)
	address, stop := serve(t, a)
	manager := i.manager(t)
	shown := func(address string) string {
		t.Helper()
		conn, err := (&tls.Dialer{Config: &tls.Config{Certificates: []tls.Certificate{manager}, InsecureSkipVerify: true, NextProtos: []string{"h2"}}}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		leaf := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
		return leaf.Issuer.CommonName
	}
	if got := shown(address); got != host {
		t.Errorf("before: issued by %q, want itself", got)
	}
	c := client(t, manager)
	url := "https://" + address + gcm.PathIdentity
	if status, der := ask(t, c, http.MethodGet, url, "", nil); status != http.StatusOK || len(der) == 0 {
		t.Fatalf("no request: %d", status)
	}
	own := config.Identity.Key.Public()
	good := i.chain(t, ca.Request{Profile: ca.Agent, DNSNames: []string{host}, PublicKey: own})
	for name, chain := range map[string][]byte{
		"another key":          i.chain(t, ca.Request{Profile: ca.Agent, DNSNames: []string{host}, PublicKey: catest.NewKey(t).Public()}),
		"another name":         i.chain(t, ca.Request{Profile: ca.Agent, DNSNames: []string{"gateway-2.example.org"}, PublicKey: own}),
		"another profile":      i.chain(t, ca.Request{Profile: ca.Server, DNSNames: []string{host}, PublicKey: own}),
		"another installation": install(t).chain(t, ca.Request{Profile: ca.Agent, DNSNames: []string{host}, PublicKey: own}),
		"no certificate":       []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
		"text behind it":       append(bytes.Clone(good), "text"...),
		"nothing":              nil,
	} {
		if status, body := ask(t, c, http.MethodPut, url, "", bytes.NewReader(chain)); status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	if status, _ := ask(t, c, http.MethodPut, url, "", bytes.NewReader(bytes.Repeat([]byte{'\n'}, maxChainOctets+1))); status != http.StatusBadRequest {
		t.Errorf("oversized: %d", status)
	}
	if status, body := ask(t, c, http.MethodPut, url, "", bytes.NewReader(good)); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, body)
	}
	issuer := i.issuer.Certificate().Subject.CommonName
	if got := shown(address); got != issuer {
		t.Errorf("after: issued by %q, want %q", got, issuer)
	}
	stop()
	a = open(t, config)
	address, _ = serve(t, a)
	if got := shown(address); got != issuer {
		t.Errorf("after a restart: issued by %q, want %q", got, issuer)
	}
}

// FuzzIdentity: what is no chain for our key is refused, whatever it is.
func FuzzIdentity(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Add([]byte("\n"))
	id := crashIdentity()
	f.Fuzz(func(t *testing.T, chain []byte) {
		if c, err := id.parse(chain); err == nil || !errors.Is(err, ErrIdentity) {
			t.Errorf("%v, %v", c, err)
		}
	})
}
